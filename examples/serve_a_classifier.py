"""Fit a defense, wrap a classifier with it, save it and load it in a worker."""

import secrets
import tempfile

import torch

import mipoison as mp


def main() -> None:
    """Defends a classifier of random images; yours takes its place."""
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softmax(dim=-1)
    )
    images = torch.rand(500, 8, 8)  # the defender's own data, never private

    key = secrets.token_bytes(16)  # keep it, and keep it secret
    defense = mp.LPA.fit(model(images), images, budget=0.05, epsilon=0.2, key=key)
    served = mp.Defended(model, defense, decimals=4)  # answers sum to exactly 1

    undefended, answers = model(images), served(images)
    assert (answers.argmax(1) == undefended.argmax(1)).all()

    with tempfile.TemporaryDirectory() as folder:
        defense.save(f"{folder}/lpa.safetensors")  # without the key
        worker = mp.Defended(model, mp.load(f"{folder}/lpa.safetensors", key=key), decimals=4)
    assert torch.equal(worker(images), answers)
    print(f"mean l1: {(answers - undefended).abs().sum(1).mean():.3f}, labels changed: 0")


if __name__ == "__main__":
    main()
