"""A user's own images come from a file of arrays or a folder of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from mipoison.eval.data.catalogue import describe
from mipoison.eval.data.loading import split
from mipoison.eval.data.pictures import grey_square


def everyone(parts):
    return (parts.private, parts.defender, parts.auxiliary, parts.victims)


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (40, 6, 5), dtype=np.uint8)
    return {"x": x, "y": np.repeat(["cat", "dog"], [30, 10])}


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name, shade in (("bright", 200), ("dark", 20)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(shade, shade + 20, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{number}.png")
        (tmp_path / "own" / name / "notes.txt").write_text("no picture")
    return tmp_path / "own"


def test_arrays_are_divided_by_class(arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **arrays)
    parts = split(f"npz:{tmp_path / 'own.npz'}", seed=100)
    assert [len(role) for role in everyone(parts)] == [8, 8, 16, 8]
    assert [int((role.labels == 1).sum()) for role in everyone(parts)] == [2, 2, 4, 2]
    rows = torch.cat([role.rows for role in everyone(parts)])
    assert sorted(rows.tolist()) == list(range(40))
    assert parts.image_shape == (6, 5) and parts.classes == 2
    for role in everyone(parts):
        expected = torch.from_numpy(arrays["x"]).flatten(1)[role.rows].float() / 255
        assert torch.equal(role.inputs, expected)
        assert torch.equal(role.labels, (role.rows >= 30).long())


def test_floats_are_taken_as_they_are(arrays, tmp_path):
    x = arrays["x"].astype(np.float64) / 510
    np.savez(tmp_path / "own.npz", x=x, y=arrays["y"])
    parts = split(f"npz:{tmp_path / 'own.npz'}", seed=100)
    assert 0.45 < float(parts.auxiliary.inputs.max()) <= 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": np.zeros((40, 30), np.uint8)},
            r"expected grey images, x \[N, H, W\] .* got \[40, 30\]",
        ),
        ({"x": np.full((40, 6, 5), 1.5)}, r"expected x in \[0, 1\] or uint8"),
        ({"x": np.full((40, 6, 5), np.nan)}, r"expected x in \[0, 1\] or uint8"),
        ({"y": np.arange(39)}, r"got y \[39\] and 40 images"),
        ({"x": np.zeros((40, 2, 30), np.uint8)}, r"sides of at least 3 pixels, got \(2, 30\)"),
        ({"y": np.arange(40) == 3}, "class True: expected enough images .* got 1"),
    ],
)
def test_wrong_arrays_are_named(change, message, arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **(arrays | change))
    with pytest.raises(ValueError, match=message):
        split(f"npz:{tmp_path / 'own.npz'}", seed=100)


def test_missing_arrays_are_named(arrays, tmp_path):
    np.savez(tmp_path / "own.npz", images=arrays["x"])
    with pytest.raises(ValueError, match=r"expected arrays x and y, got \['images'\]"):
        split(f"npz:{tmp_path / 'own.npz'}", seed=100)


def test_pictures_are_divided_by_class_wherever_the_folder_lies(folder):
    parts = split(f"folder:{folder}", seed=100)
    assert parts.image_shape == (32, 32) and parts.classes == 2
    assert [len(role) for role in everyone(parts)] == [4, 4, 8, 4]
    for role in everyone(parts):
        # Grey means of 200-219 and 20-39, averaged over areas.
        assert torch.equal((role.inputs.mean(1) < 0.5).long(), role.labels)
    moved = folder.rename(folder.parent / "moved")
    assert torch.equal(split(f"folder:{moved}", seed=100).victims.inputs, parts.victims.inputs)


def test_a_class_of_too_few_pictures_is_named_and_other_folders_are_none(folder):
    (folder / ".cache").mkdir()
    (folder / "notes").mkdir()
    assert split(f"folder:{folder}", seed=100).classes == 2
    for file in sorted((folder / "dark").glob("*.png"))[3:]:
        file.unlink()
    with pytest.raises(ValueError, match=r"class dark: expected enough images .* got 3"):
        split(f"folder:{folder}", seed=100)


def test_pictures_of_16_bits_keep_their_shades(folder):
    ramp = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    for suffix in ("png", "tiff"):
        Image.fromarray(ramp).save(folder / f"ramp.{suffix}")
        seen = grey_square(folder / f"ramp.{suffix}", 32)
        np.testing.assert_allclose(seen, ramp / 65535, atol=1e-6)


def test_pictures_without_a_range_are_refused(folder):
    for kind, mode in ((np.float32, "F"), (np.int32, "I")):
        Image.fromarray(np.full((4, 4), 2, kind)).save(folder / "dark" / "odd.tiff")
        with pytest.raises(ValueError, match=rf"odd.tiff: expected .* 16 bits, got .*mode {mode}"):
            split(f"folder:{folder}", seed=100)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_nothing_there_is_said(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"dataset '{kind}:.*found none"):
        split(f"{kind}:{tmp_path / 'nothing'}", seed=100)


def test_description_names_the_file_alone():
    assert "mine.npz" in describe("npz:/home/me/mine.npz")
    assert "/home" not in describe("npz:/home/me/mine.npz")
    assert "ylecun/mnist" in describe("huggingface:ylecun/mnist")


@pytest.mark.parametrize("axis", [1, 3])
def test_images_of_one_channel_are_grey(axis, arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **arrays)
    np.savez(tmp_path / "one.npz", x=np.expand_dims(arrays["x"], axis), y=arrays["y"])
    plain, one = (split(f"npz:{tmp_path / name}", seed=100) for name in ("own.npz", "one.npz"))
    assert torch.equal(plain.victims.inputs, one.victims.inputs)
    assert one.image_shape == (6, 5)


@pytest.mark.parametrize("kind", [bool, ">f4", np.float16, np.int64])
def test_numbers_in_0_to_1_are_taken_whatever_their_type(kind, arrays, tmp_path):
    x = (arrays["x"] > 100).astype(kind)
    np.savez(tmp_path / "own.npz", x=x, y=arrays["y"])
    parts = split(f"npz:{tmp_path / 'own.npz'}", seed=100)
    assert set(parts.victims.inputs.unique().tolist()) == {0.0, 1.0}


def test_hidden_files_and_folders_are_no_pictures(folder):
    plain = split(f"folder:{folder}", seed=100)
    # As macOS leaves them beside what it copies: no pictures, with a picture's suffix.
    for name in ("._0.png", ".hidden.jpg"):
        (folder / "dark" / name).write_bytes(b"\x00\x05\x16\x07")
    (folder / "dark/folder.png").mkdir()
    assert torch.equal(split(f"folder:{folder}", seed=100).victims.inputs, plain.victims.inputs)
