"""LPIPS is what its formula says, on weights of nobody's; files that are others are refused."""

import pickle

import lpips_weights
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mipoison.eval.scores.lpips import Lpips, shapes


@pytest.fixture(scope="module")
def arrays():
    generator = torch.Generator().manual_seed(0)
    made = {
        name: torch.randn(*shape, generator=generator) * 0.05 for name, shape in shapes().items()
    }
    return {name: array.abs() if "layer" in name else array for name, array in made.items()}


@pytest.fixture(scope="module")
def lpips(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "weights.safetensors"
    save_file(arrays, path)
    return Lpips.load(path)


def by_definition(arrays, a, b):
    """The published network, layer by layer, on images ``[n, 3, 64, 64]`` from -1 to 1."""
    convolutions = [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    for i, convolution in enumerate(convolutions):
        convolution.load_state_dict(
            {"weight": arrays[f"conv.{i}.weight"], "bias": arrays[f"conv.{i}.bias"]}
        )
    mean, std = (
        torch.tensor(each).reshape(1, 3, 1, 1)
        for each in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    a, b = (a - mean) / std, (b - mean) / std
    total = torch.zeros(len(a))
    for i, convolution in enumerate(convolutions):
        if i in (1, 2):
            a, b = (nn.MaxPool2d(3, 2)(x) for x in (a, b))
        a, b = (convolution(x).relu() for x in (a, b))
        one, other = (nn.functional.normalize(x, dim=1) for x in (a, b))
        weight = arrays[f"layer.{i}.weight"].reshape(1, -1, 1, 1)
        total += ((one - other) ** 2 * weight).sum(1).mean((1, 2))
    return total.mean()


def test_it_is_the_published_formula(arrays, lpips):
    generator = torch.Generator().manual_seed(1)
    made, true = (torch.rand(3, 64 * 64, generator=generator) for _ in range(2))
    a, b = (2 * x.reshape(-1, 1, 64, 64).expand(-1, 3, -1, -1) - 1 for x in (made, true))
    with torch.no_grad():
        wanted = float(by_definition(arrays, a, b))
    assert lpips.mean(made, true, image_shape=(64, 64)) == pytest.approx(wanted, rel=1e-4)
    assert wanted > 1e-3


def test_small_images_are_enlarged_and_alike_ones_have_no_distance(lpips):
    images = torch.rand(5, 8 * 8, generator=torch.Generator().manual_seed(2))
    assert lpips.mean(images, images, image_shape=(8, 8)) == 0
    worse = [
        lpips.mean(images.lerp(images.flip(0), share), images, image_shape=(8, 8))
        for share in (0.1, 0.5, 1.0)
    ]
    assert 0 < worse[0] < worse[1] < worse[2]


def test_other_files_are_refused(arrays, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lpips: expected a file .*gone, found none"):
        Lpips.load(tmp_path / "gone")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="expected safetensors"):
        Lpips.load(tmp_path / "text")
    save_file({name: arrays[name] for name in list(arrays)[1:]}, tmp_path / "few")
    with pytest.raises(ValueError, match=r"AlexNet's weights .*: conv\.0\.weight"):
        Lpips.load(tmp_path / "few")


def test_weights_are_taken_from_a_pickle_of_arrays_alone(arrays, lpips, tmp_path):
    tree = {"AlexNet_0": {}}
    for i in range(5):
        kernel = arrays[f"conv.{i}.weight"].permute(2, 3, 1, 0).numpy()
        tree["AlexNet_0"][f"Conv_{i}"] = {
            "kernel": kernel,
            "bias": arrays[f"conv.{i}.bias"].numpy(),
        }
        weight = arrays[f"layer.{i}.weight"].reshape(1, 1, -1, 1).numpy()
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": np.array(weight)}}
    (tmp_path / "net.ckpt").write_bytes(pickle.dumps(tree))
    lpips_weights.convert(tmp_path / "net.ckpt", tmp_path / "out")
    again = Lpips.load(tmp_path / "out")
    assert all(map(torch.equal, again.weights, lpips.weights))
    assert torch.equal(again.filters[1][0], lpips.filters[1][0])
    (tmp_path / "code.ckpt").write_bytes(pickle.dumps(print))
    with pytest.raises(SystemExit, match=r"NumPy arrays alone, got builtins\.print"):
        lpips_weights.convert(tmp_path / "code.ckpt", tmp_path / "none")
