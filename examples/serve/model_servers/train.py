"""Trains the classifier that every model server of the tests serves.

    python train.py FOLDER

Ten classes of 8x8 digits. FOLDER/model.joblib is for scikit-learn; FOLDER/model.pt, a TorchScript of the same weights,
is written where torch is installed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

TRAINED = 800


def main(folder: Path) -> None:
    """Trains and saves."""
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(C=0.01, max_iter=500).fit(images[:TRAINED] / 16, labels[:TRAINED])
    joblib.dump(model, folder / "model.joblib")
    if find_spec("torch") is None:
        return
    import torch

    linear = torch.nn.Linear(64, 10).double()
    linear.weight.data = torch.from_numpy(model.coef_)
    linear.bias.data = torch.from_numpy(model.intercept_)
    network = torch.nn.Sequential(linear, torch.nn.Softmax(-1))
    torch.jit.script(network).save(folder / "model.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
