"""A given network recognises victims by their embeddings, and is asked before anything is trained."""

import json
import sys
from dataclasses import replace

import face_embedding
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY

from mipoison.eval.configuration import Configuration
from mipoison.eval.data.bundled import augment
from mipoison.eval.data.loading import split
from mipoison.eval.run.cell import run_cell
from mipoison.eval.scores.lpips import Lpips, shapes
from mipoison.eval.scores.recognition import Recognizer
from mipoison.eval.targets.own import embedding

CODE = """
import torch
def halves(images): return torch.nn.functional.avg_pool2d(images, 2).flatten(1)
def one(images): return torch.zeros(3, 4)
def raises(images): raise KeyError("no such layer")
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "embeds.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "embeds:halves"
    sys.modules.pop("embeds", None)


@pytest.fixture(scope="module")
def parts():
    return split("digits", seed=100)


def test_the_nearest_class_is_recognised(theirs, parts):
    recognizer = Recognizer.of(embedding(theirs, parts), parts)
    pooled = [
        torch.nn.functional.avg_pool2d(role.inputs.reshape(-1, 8, 8), 2).flatten(1).double()
        for role in (parts.private, parts.victims)
    ]
    means = torch.stack([pooled[0][parts.private.labels == label].mean(0) for label in range(10)])
    apart = (pooled[1][:, None] - means).square().sum(-1)
    right = (apart.argmin(1) == parts.victims.labels).double().mean()
    true = recognizer.judge(parts.victims.inputs, parts.victims)
    assert true["identity"] == pytest.approx(float(right)) == recognizer.accuracy > 0.8
    assert true["feature_distance"] == pytest.approx(0, abs=1e-9)
    other = recognizer.judge(parts.victims.inputs.flip(0), parts.victims)
    assert other["identity"] < 0.3 and other["feature_distance"] == pytest.approx(1, abs=0.15)


def test_altered_copies_are_no_photographs(theirs, parts):
    copied = augment(parts.private, copies=3, image_shape=(8, 8), seed=0)
    embed = embedding(theirs, parts)
    one, other = (Recognizer.of(embed, p) for p in (parts, replace(parts, private=copied)))
    assert torch.equal(one.means, other.means)


def test_a_cell_is_judged_by_it_and_by_lpips(theirs, tmp_path, monkeypatch):
    # What it measures is tested with it: here, that it is asked.
    monkeypatch.setattr(Lpips, "mean", lambda self, made, true, *, image_shape: 0.25)
    save_file({name: torch.rand(*shape) for name, shape in shapes().items()}, tmp_path / "w")
    given = replace(TINY, evaluator=theirs, lpips=str(tmp_path / "w"))
    numbers = run_cell(given, 100, 3.0).numbers
    assert numbers["target"]["evaluator_accuracy"] > 0.8
    attack = numbers["defenses"]["none"]["attacks"]["adaptive"]
    assert attack["lpips"] == 0.25 and 0.1 < attack["identity"] <= 1
    again = Configuration.from_json(json.loads(json.dumps(given.to_json())))
    assert again == given and not {"evaluator", "lpips"} & set(TINY.to_json())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--evaluator embeds:one", "--evaluator: embeds:one: expected 4 images to be answered"),
        ("--evaluator embeds:raises", "raised KeyError: 'no such layer' (embeds.py:5)"),
        ("--evaluator gone.ts", "--evaluator: expected a file gone.ts, found none"),
        ("--evaluator mlp", "--evaluator: expected module:name or a file of .pt"),
        ("--lpips gone", "--lpips: expected a file gone, found none"),
    ],
)
def test_what_does_not_fit_is_one_line(given, said, theirs, one_line, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    assert said in one_line(["evaluate", "--preset", "quick", *given.split(), *out])


def test_weights_of_a_browser_become_a_network(tmp_path):
    """Random ones, quantised as tensorflow.js does it, against the same numbers unquantised."""
    generator = np.random.default_rng(0)
    sizes = {"conv32_down": (7, 3, 32)}
    before = 32
    for name in face_embedding.BLOCKS:
        width = int(name[4:].partition("_")[0])
        sizes |= {f"{name}/conv1": (3, before, width), f"{name}/conv2": (3, width, width)}
        before = width
    wanted, entries, content = {}, [], b""

    def add(name, shape, quantised):
        nonlocal content
        numbers = generator.integers(0, 256, shape).astype(np.uint8)
        scale, least = 0.001, -0.1
        entry = {"name": name, "shape": shape, "dtype": "float32"}
        wanted[name] = numbers * np.float32(scale) + np.float32(least)
        if quantised:
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": least}
        content += numbers.tobytes() if quantised else wanted[name].astype("<f4").tobytes()
        entries.append(entry)

    for name, (side, inside, outside) in sizes.items():
        add(f"{name}/conv/filters", [side, side, inside, outside], True)
        for vector in ("conv/bias", "scale/weights", "scale/biases"):
            add(f"{name}/{vector}", [outside], "bias" not in vector)
    add("fc", [256, 128], True)
    manifest = [{"weights": entries, "paths": ["model.bin"]}]
    (tmp_path / face_embedding.MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "model.bin").write_bytes(content)
    weights = face_embedding.read_weights(tmp_path)
    assert weights.keys() == wanted.keys()
    for name, numbers in wanted.items():
        np.testing.assert_allclose(weights[name], numbers, rtol=1e-6)
    network = face_embedding.FaceEmbedding(weights)
    with torch.no_grad():
        assert network(torch.rand(1, 1, 32, 32)).shape == (1, 128)
        # A convolution, then scale and shift of its channels.
        x = torch.rand(1, 3, 20, 20)
        filters = torch.from_numpy(wanted["conv32_down/conv/filters"]).permute(3, 2, 0, 1)
        plain = torch.nn.functional.conv2d(
            x, filters, torch.from_numpy(wanted["conv32_down/conv/bias"]), 2
        )
        scale, shift = (
            torch.from_numpy(wanted[f"conv32_down/scale/{part}"])[:, None, None]
            for part in ("weights", "biases")
        )
        torch.testing.assert_close(network.begin(x), plain * scale + shift, rtol=1e-4, atol=1e-4)
    (tmp_path / "model.bin").write_bytes(content[:-1])
    with pytest.raises(SystemExit, match="expected more than"):
        face_embedding.read_weights(tmp_path)
