"""`Postprocessor` in estimators of the Adversarial Robustness Toolbox, and under its model inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("art", reason="needs pip install adversarial-robustness-toolbox")

from art.attacks.inference.model_inversion import MIFace
from art.estimators.classification import PyTorchClassifier, SklearnClassifier
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import mipoison as mp
from mipoison.defenses import LabelOnly, Rounding
from mipoison.integrations.art import Postprocessor

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES / 16).astype(np.float32)
# Trained on the first rows; the defense is fitted on the next, and the last are asked about.
TRAINED, OWN, ASKED = slice(0, 600), slice(600, 900), slice(900, 1000)
MODEL = LogisticRegression(max_iter=200).fit(IMAGES[TRAINED], LABELS[TRAINED])


def sklearn_estimator(**settings: Any) -> Any:
    return SklearnClassifier(model=MODEL, clip_values=(0, 1), **settings)


def torch_estimator(**settings: Any) -> Any:
    linear = torch.nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(MODEL.coef_))
        linear.bias.copy_(torch.from_numpy(MODEL.intercept_))
    model = torch.nn.Sequential(linear, torch.nn.Softmax(-1))
    loss = torch.nn.NLLLoss()
    return PyTorchClassifier(model, loss, (64,), 10, clip_values=(0, 1), **settings)


@pytest.fixture(scope="module")
def defense() -> mp.LPA:
    outputs = MODEL.predict_proba(IMAGES[OWN])
    return mp.LPA.fit(outputs, IMAGES[OWN], objective="decoy", epsilon=0.2, key=0)


@pytest.mark.parametrize("estimator", [sklearn_estimator, torch_estimator])
def test_predictions_are_defended(estimator: Any, defense: mp.LPA) -> None:
    asked = IMAGES[ASKED]
    p = estimator().predict(asked)
    q = estimator(postprocessing_defences=Postprocessor(defense)).predict(asked)
    assert q.dtype == p.dtype and np.array_equal(q, defense(p))
    assert (np.abs(q - p).sum(1) > 0.01).all() and (q.argmax(1) == p.argmax(1)).all()


def test_training_is_not_defended() -> None:
    postprocessor = Postprocessor(LabelOnly())
    assert (postprocessor.apply_fit, postprocessor.apply_predict) == (False, True)
    assert postprocessor.is_fitted


class Counting(Rounding):
    """Counts the rows that it answers."""

    rows = 0

    def forward(self, outputs: Any, **options: Any) -> Any:
        self.rows += len(outputs)
        return super().forward(outputs, **options)


@pytest.mark.parametrize("estimator", [sklearn_estimator, torch_estimator])
def test_model_inversion_asks_for_defended_predictions(estimator: Any) -> None:
    """Its steps are along gradients, which no postprocessor changes; where it stops is read from predictions."""
    counting = Counting(1)
    defended = estimator(postprocessing_defences=Postprocessor(counting))
    settings: dict[str, Any] = {"max_iter": 20, "window_length": 2, "threshold": 0.0}
    settings |= {"verbose": False, "learning_rate": 1.0}
    start, labels = np.full((4, 64), 0.5, np.float32), np.arange(4)
    assert np.array_equal(
        defended.class_gradient(start, labels), estimator().class_gradient(start, labels)
    )
    found = MIFace(defended, **settings).infer(start, labels)
    undefended = MIFace(estimator(), **settings).infer(start, labels)
    assert found.shape == undefended.shape == (4, 64)
    assert counting.rows > 0 and not np.array_equal(found, undefended)


def test_decimals_and_deferred_defenses(
    defense: mp.LPA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "00112233445566778899aabbccddeeff"
    monkeypatch.setenv("KEY_OF_THE_ART_TESTS", secret)
    keyed = defense.with_key(bytes.fromhex(secret))
    keyed.save(tmp_path / "lpa.safetensors")
    deferred = mp.Deferred(tmp_path / "lpa.safetensors", key_env="KEY_OF_THE_ART_TESTS")
    p = MODEL.predict_proba(IMAGES[ASKED])
    answers = Postprocessor(deferred, decimals=3)(p)
    assert np.array_equal(answers, Postprocessor(keyed, decimals=3)(p))
    assert ((answers * 1000).round().sum(1) == 1000).all()


def test_what_is_no_probability_vector_is_refused(defense: mp.LPA) -> None:
    logits = MODEL.decision_function(IMAGES[ASKED])
    with pytest.raises(ValueError, match="expected outputs to be probability vectors"):
        Postprocessor(defense)(logits)
    with pytest.raises(ValueError, match=r"expected outputs of shape \[N, K\]"):
        Postprocessor(defense)(np.full((3, 1), 0.5))


def test_wrong_settings_are_refused(defense: mp.LPA) -> None:
    with pytest.raises(TypeError, match="expected defense to be a mipoison Defense, got str"):
        Postprocessor("lpa")
    with pytest.raises(ValueError, match="decimals"):
        Postprocessor(defense, decimals=0)
    postprocessor = Postprocessor(defense)
    with pytest.raises(ValueError, match="decimals"):
        postprocessor.set_params(decimals=12)
