"""Adversaries trained on a GPU learn what they learn on the CPU, and answer where they are asked."""

from __future__ import annotations

import pytest
import torch

from mipoison.eval.adversaries import decoder, mlp
from mipoison.eval.adversaries.decoder import Decoder
from mipoison.eval.adversaries.mlp import MLP


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.softmax(2 * torch.randn(2, 300, 5, generator=generator), 2)
    return vectors, torch.nn.functional.pad(vectors[0], (0, 59)).clamp(0, 1)


@pytest.mark.parametrize("kind", [MLP, Decoder])
def test_gpu_and_cpu_learn_alike(pairs, kind, monkeypatch):
    vectors, inputs = pairs
    errors = []
    for device in ("cuda", "cpu"):
        monkeypatch.setattr(
            mlp if kind is MLP else decoder,
            "training_device",
            lambda name=device: torch.device(name),
        )
        more = {} if kind is MLP else {"image_shape": (8, 8), "channels": 8}
        adversary = kind(epochs=5, seed=1, **more).fit(vectors, inputs, (vectors, inputs))
        assert adversary._standardizer.center.device.type == device
        made = adversary.reconstruct(vectors)
        assert made.device == vectors.device and adversary.member(0).reconstruct(vectors[0]).is_cpu
        errors.append(float((made - inputs).square().mean()))
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
