"""Images and embeddings in npz and npy files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mipoison.audit.reading import checks, found
from mipoison.audit.reading.pictures import images
from mipoison.audit.reading.read import read


def test_grey_images(x, p, save):
    read_back = read(save(x=x, p=p))
    assert read_back.kind == "images" and read_back.image_shape == (6, 6, 1)
    torch.testing.assert_close(read_back.inputs, torch.from_numpy(x).flatten(1), rtol=0, atol=0)
    torch.testing.assert_close(read_back.outputs, torch.from_numpy(p), rtol=0, atol=1e-6)
    assert read_back.inputs.dtype == read_back.outputs.dtype == torch.float32
    assert len(read_back.groups.unique()) == len(x) and read_back.source == "mine.npz"
    assert read_back.notes == read_back.skipped == ()


COLOUR = np.random.default_rng(102).random((320, 6, 5, 3))


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        (COLOUR, COLOUR, None),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR, None),
        (np.asfortranarray(COLOUR), COLOUR, None),
        ((COLOUR * 255).astype(np.uint8), (COLOUR * 255).astype(np.uint8) / 255, None),
        ((COLOUR * 65535).astype(np.uint16), COLOUR, None),
        ((COLOUR * 65535).astype(">u2"), COLOUR, None),
        ((COLOUR > 0.5).astype(np.uint8), COLOUR > 0.5, "of 0 and 1"),
        ((COLOUR > 0.5).astype(np.int64), COLOUR > 0.5, "of 0 and 1"),
        (
            (COLOUR * 16).astype(np.uint8),
            (COLOUR * 16).astype(int) / 255,
            "were divided by 255; where 15",
        ),
        ((COLOUR * 255).astype(np.uint16), (COLOUR * 255).astype(int) / 255, "divided by 255"),
        ((COLOUR * 4095).astype(np.uint16), COLOUR, "divided by 4095"),
        (COLOUR * 255, COLOUR, "divided by 255"),
        (COLOUR * 2 - 1, COLOUR, r"\[-1, 1\]"),
        (COLOUR.astype(np.float16), COLOUR, None),
        (np.concatenate((COLOUR, COLOUR[..., :1]), 3), COLOUR, "transparency"),
        (COLOUR[..., :2], COLOUR[..., :1], "transparency"),
        (np.repeat(COLOUR[..., :1], 3, 3), COLOUR[..., :1], "taken as grey"),
    ],
)
def test_layouts_and_ranges(given, wanted, said, p, save):
    found = read(save(x=given, p=p))
    assert found.image_shape == wanted.shape[1:]
    assert abs(found.inputs.numpy() - wanted.reshape(320, -1)).max() < 1e-3
    assert (said is None) == (found.notes == ())
    if said is not None:
        assert any(said.replace("\\", "") in note for note in found.notes)


@pytest.mark.parametrize("shape", ["6,5,3", "3,6,5"])
def test_rows_are_images_where_the_shape_says_so(shape, p, save):
    rows = COLOUR if shape == "6,5,3" else COLOUR.transpose(0, 3, 1, 2)
    for given in (rows.reshape(320, -1), rows):
        found = read(save(x=given, p=p), shape=shape)
        assert found.image_shape == (6, 5, 3)
        assert abs(found.inputs.numpy() - COLOUR.reshape(320, -1)).max() < 1e-6


def test_large_images_are_averaged(x, p, save):
    large = x.repeat(11, 1).repeat(11, 2)
    found = read(save(x=large, p=p))
    assert found.image_shape == (32, 32, 1) and "averaged to 32x32" in found.notes[0]
    found = read(save(x=large, p=p), size="6")
    # (The mean of 121 equal pixels, summed in float32.)
    assert abs(found.inputs.numpy() - x.reshape(320, -1)).max() < 121 * np.finfo(np.float32).eps


def test_embeddings_are_standardized(x, logits, p, save):
    columns = np.concatenate((logits * 3 + 7, np.full((320, 1), 2.0)), 1)
    found = read(save(x=columns, p=p, y=p.argmax(1), classes=list("abcd")))
    assert found.kind == "embeddings" and found.classes == ("a", "b", "c", "d")
    assert found.inputs[:, :4].mean(0).abs().max() < 1e-6
    assert (found.inputs[:, :4].std(0, correction=0) - 1).abs().max() < 1e-5
    assert bool((found.inputs[:, 4] == 0).all())
    assert [note for note in found.notes if "constant" in note]
    assert [note for note in found.notes if "100.0% of the rows" in note and "order" not in note]
    shuffled = read(save(x=columns, p=p, y=p.argmax(1)[::-1]))
    assert [note for note in shuffled.notes if "same order?" in note]


def test_embeddings_of_unusual_size(logits, p, save):
    """Small columns are not constant, and none becomes NaN without an error."""
    small = read(save(x=logits * 1e-14, p=p)).inputs
    torch.testing.assert_close(small, read(save(x=logits, p=p)).inputs, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"inputs: expected embeddings whose spread"):
        read(save(x=logits / abs(logits).max() * 1.7e308, p=p))


def test_vectors_of_a_file_of_their_own(x, p, tmp_path):
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "answers.npz", mine=p)
    found = read(tmp_path / "x.npy", vectors=tmp_path / "answers.npz", vectors_name="mine")
    assert found.source == "x.npy with answers.npz"
    assert abs(found.outputs.numpy() - p).max() < 1e-6


def test_copies_stay_in_one_group(x, p, save):
    """Two people who share a picture, and the rows of each, are one group."""
    copied = x.copy()
    copied[1] = copied[0]
    groups = np.arange(320)
    groups[2] = groups[1]
    groups[3] = groups[0]
    found = read(save(x=copied, p=p, groups=groups.astype(str)))
    assert len(found.groups.unique()) == 317 and len(found.groups[:4].unique()) == 1
    assert any("1 of 320 rows repeat" in note for note in found.notes)


def test_too_many_rows_are_drawn_the_same_each_time(x, p, save, monkeypatch):
    monkeypatch.setattr(found, "MOST_ROWS", 310)
    path = save(x=x, p=p, groups=np.arange(320) // 2)
    first, second = read(path), read(path)
    assert len(first) == 310 and "310 of 320 rows were drawn" in first.notes[0]
    assert bool((first.inputs == second.inputs).all())
    # Each row keeps its own vector.
    place = {row.tobytes(): i for i, row in enumerate(x)}
    rows = [place[row.numpy().tobytes()] for row in first.inputs]
    assert len(set(rows)) == 310
    assert abs(first.outputs.numpy() - p[rows]).max() < 1e-6
    assert len(set(zip(np.array(rows) // 2, first.groups.tolist(), strict=True))) == len(
        first.groups.unique()
    )


def test_few_large_images_are_brought_to_floats_at_once():
    """64 images of 2 megapixels and one channel would take 512 MiB."""
    assert images.together(np.empty((0, 6, 6, 1))) == 64
    assert images.together(np.broadcast_to(np.uint8(0), (300, 2000, 1000, 1))) == 8


def test_memory_limits_the_rows(x, p, save, monkeypatch):
    monkeypatch.setattr(found, "MOST_BYTES", 4 * 40 * 305)
    assert len(read(save(x=x, p=p))) == 305
    monkeypatch.setattr(found, "MOST_BYTES", 4 * 40 * 299)
    with pytest.raises(ValueError, match=r"inputs: expected rows of at most .* 4 GiB"):
        read(save(x=x, p=p))
    monkeypatch.undo()
    monkeypatch.setattr(found, "_MOST_RAW", 4 * 36 * 299)
    with pytest.raises(
        ValueError, match=r"inputs: expected rows of at most .* save images smaller"
    ):
        read(save(x=x, p=p))


def test_rows_of_large_arrays_are_read_in_parts(x, p, save, monkeypatch):
    monkeypatch.setattr("mipoison.audit.reading.stored._BATCH", 1000)
    monkeypatch.setattr(found, "MOST_ROWS", 301)
    inputs = read(save(x=x, p=p)).inputs.numpy()
    keep = found.sampled(320, 1, [])
    assert np.array_equal(inputs, x.reshape(320, -1)[keep])


def test_evidence_has_notes_last(x, p, save):
    """Whoever makes one without notes still can."""
    assert replace(read(save(x=x, p=p)), notes=()).notes == ()
    assert checks.FEWEST_GROUPS <= found.FEWEST_ROWS // 3


def test_a_name_makes_no_logits_of_percent(logits, x, p, save):
    assert abs(read(save(x=x, logits=logits)).outputs.numpy() - p).max() < 1e-6
    with pytest.raises(ValueError, match="logits: expected vectors of numbers"):
        read(save(x=x, logits=logits.astype(str)))
    found = read(save(x=x, logits=100 * p))
    assert abs(found.outputs.numpy() - p).max() < 1e-6 and "percent" in found.notes[0]


def test_names_of_classes_may_be_bytes(save, x, p):
    names = np.array(list("abcd"), "S1")
    columns = x.reshape(320, -1)
    found = read(save(x=columns, p=p, y=names[p.argmax(1)], classes=names))
    assert found.classes == ("a", "b", "c", "d")
    assert any("in 100.0% of the rows" in note for note in found.notes)
