"""Arrays, numbers and lists of other libraries: taken where their meaning is plain, refused by name elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from operands import goal_of, packed
from table import codewords_of
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import Contract, LabelOnly, LaplaceNoise, Purifier, Rounding, Swap

K, N = 10, 60
P = draw("plain", N, K, seed=2).float()
WORDS = codewords_of(K, 3)
NETWORK, GOAL = packed(K), goal_of(N)
ARRAY = P.numpy()
LABELS = np.arange(N) % K


class Frame:
    """What a DataFrame or another library's array is to NumPy: something with `__array__`."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


def read_only(array: np.ndarray) -> np.ndarray:
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers from the second byte of some memory on."""
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    moved = memory.view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "reversed": lambda a: a[::-1].copy()[::-1],
    "turned": lambda a: np.asfortranarray(a),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": read_only,
    "unaligned": unaligned,
    "masked nowhere": np.ma.array,
    "array of another library": Frame,
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "list of arrays": list,
}
# Each is a call with rows [N, K], which must answer as with the ndarray of the same numbers.
CALLS: dict[str, Callable[[Any], Any]] = {
    "project": lambda p: mp.project(p, center=p, epsilon=0.1),
    "step": lambda p: mp.step(p, p, center=p, alpha=0.1, epsilon=0.1),
    "move": lambda p: mp.move(p, p, epsilon=0.1),
    "flip": lambda p: mp.flip(p, rate=0.5, key=1)[0],
    "row_bits": lambda p: mp.row_bits(p, key=1),
    "quantize": lambda p: mp.quantize(p, WORDS)[0],
    "recover": lambda p: mp.recover(p, NETWORK),
    "perturb": lambda p: mp.perturb(p, GOAL, NETWORK, steps=2, alpha=0.05, epsilon=0.1),
    "lpa": lambda p: mp.lpa(p, key=1),
    "lfp": lambda p: mp.lfp(p, rate=0.5, key=1),
    "defense": lambda p: LaplaceNoise(key=1)(p),
    "served": lambda p: mp.Defended(lambda x: x, Rounding(1))(p),
    "logits": lambda p: mp.Defended(lambda x: x, Rounding(1), gives="logits")(p),
    "found out": lambda p: mp.Defended(lambda x: x, Rounding(1), gives=None, example=p)(p),
}
FITS: dict[str, Callable[[Any], Any]] = {
    "LPA": lambda p: mp.LPA.fit(p, ARRAY, objective="ascent", key=1),
    "LFP": lambda p: mp.LFP.fit(p, targets="runner_up", rate=0.5, key=1),
    "Contract": Contract.fit,
    "Swap": lambda p: Swap.fit(p, key=1),
    "Purifier": lambda p: Purifier.fit(p, epochs=1, key=1),
}


# Where a list is not several rows but several answers.
SERVED = ("served", "logits", "found out")


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("call", CALLS)
def test_rows_of_other_arrays(call: str, kind: str) -> None:
    if call in SERVED and kind == "list of arrays":
        with pytest.raises(TypeError, match="one tensor or array"):
            CALLS[call](list(ARRAY))
        return
    q, expected = CALLS[call](ARRAYS[kind](ARRAY)), CALLS[call](ARRAY)
    assert type(q) is type(expected) is np.ndarray and q.dtype == expected.dtype
    assert np.array_equal(q, expected)


@pytest.mark.parametrize("call", [name for name in CALLS if name not in SERVED])
def test_rows_as_lists(call: str) -> None:
    double = ARRAY.astype(np.float64)
    expected = CALLS[call](double)
    for listed in (double.tolist(), [tuple(row) for row in double], tuple(double.tolist())):
        q = CALLS[call](listed)
        assert isinstance(q, np.ndarray) and np.array_equal(q, expected)
    # A list of tensors is a tensor in parts.
    q = CALLS[call](list(P))
    assert isinstance(q, Tensor) and np.array_equal(q.numpy(), CALLS[call](ARRAY))


@pytest.mark.parametrize("kind", [*ARRAYS, "tensors"])
@pytest.mark.parametrize("fit", FITS)
def test_fits_on_other_arrays(fit: str, kind: str) -> None:
    rows = list(P) if kind == "tensors" else ARRAYS[kind](ARRAY)
    assert torch.equal(FITS[fit](rows)(P), FITS[fit](P)(P))


def test_integers_in_a_list_are_probabilities() -> None:
    assert LabelOnly()([[1, 0], [0, 1]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_list_of_tensors_keeps_its_gradient() -> None:
    z = torch.rand(3, K, dtype=torch.float64, requires_grad=True)
    mp.project(list(z)).square().sum().backward()
    expected = torch.autograd.grad(mp.project(z).square().sum(), z)[0]
    assert z.grad is not None and torch.equal(z.grad, expected)


def test_a_file_in_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", ARRAY)
    for mode in ("r", "c"):
        q = mp.lpa(np.load(tmp_path / "p.npy", mmap_mode=mode), key=1)
        assert type(q) is np.ndarray and np.array_equal(q, mp.lpa(ARRAY, key=1))


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ("abc", TypeError, "got str"),
        (b"abc", TypeError, "got bytes"),
        (None, TypeError, "got NoneType"),
        ({0: P}, TypeError, "got dict"),
        ({1.0}, TypeError, "got set"),
        ((row for row in ARRAY), TypeError, "got generator"),
        (object(), TypeError, "got object"),
        (nn.Softmax, TypeError, "got type"),
        ([["0.5", "0.5"]], TypeError, "hold numbers, got <U3"),
        (ARRAY.astype(object), TypeError, "hold numbers, got object"),
        (ARRAY.astype(np.longdouble), TypeError, "hold numbers, got float128"),
        (ARRAY + 0j, TypeError, "hold numbers, got complex"),
        (P + 0j, TypeError, "got complex64"),
        (ARRAY.astype(np.int32), TypeError, "got int32"),
        (np.zeros(3, [("a", "f4"), ("b", "f4")]), TypeError, "structured_to_unstructured"),
        (P.to_sparse(), TypeError, r"use \.to_dense\(\)"),
        (np.ma.array(ARRAY, mask=ARRAY > 0.5), ValueError, "without masked entries"),
        ([[0.5, 0.5], [1.0]], ValueError, "parts of one shape"),
        ([P[0], P[0, :3]], ValueError, r"one shape and device, got \(10,\) on cpu and \(3,\)"),
        ([], ValueError, r"K >= 2 classes, got \(0,\)"),
        (P[0], ValueError, r"a single vector goes in as vector\[None, :\]"),
        (P[:, :1], ValueError, r"torch\.cat\(\(1 - x, x\), 1\)"),
        (P[:, :0], ValueError, r"got \(60, 0\)"),
        (torch.rand(2, K, 4, 4), ValueError, r"\[N, K, H, W\], first x\.movedim\(1, -1\)"),
        (torch.rand(2, 5, K), ValueError, r"x\.reshape\(-1, x\.shape\[-1\]\)"),
    ],
)
def test_other_rows_are_refused_by_name(rows: Any, error: type[Exception], words: str) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "z": lambda: mp.project(rows),
        "center": lambda: mp.project(P, center=rows),
        "q": lambda: mp.step(rows, P, alpha=0.1),
        "g": lambda: mp.step(P, rows, alpha=0.1),
        "target": lambda: mp.move(P, rows, epsilon=0.1),
        "p": lambda: mp.flip(rows, rate=0.1),
        "outputs": lambda: LabelOnly()(rows),
        "centers": lambda: Contract(rows),
    }
    if not isinstance(rows, list | dict):
        calls["the model's answers"] = lambda: mp.Defended(lambda: rows, LabelOnly())()
    fits: list[Callable[[], Any]] = [
        lambda: mp.LPA.fit(rows, torch.rand(N)),
        lambda: mp.LFP.fit(rows, torch.rand(N)),
        lambda: Contract.fit(rows),
        lambda: Swap.fit(rows),
        lambda: Purifier.fit(rows),
        lambda: mp.Surrogate.fit(rows, torch.rand(N)),
    ]
    for name, call in calls.items():
        if name == "center" and rows is None:
            continue
        with pytest.raises(error, match=words) as caught:
            call()
        assert f"expected {name} " in str(caught.value)
        if isinstance(rows, type(_ for _ in ())):
            return
    for fit in fits:
        with pytest.raises(error, match=words) as caught:
            fit()
        assert "expected outputs " in str(caught.value)


def test_segmentation_map_reshaped_as_the_error_says() -> None:
    x = torch.softmax(torch.randn(2, K, 3, 4), 1)
    rows = x.movedim(1, -1)
    assert Rounding(1)(rows.reshape(-1, rows.shape[-1])).shape == (24, K)


# Labels, inputs, ids.

INTEGERS: dict[str, Any] = {
    "list": LABELS.tolist(),
    "list of tensors": list(torch.from_numpy(LABELS)),
    "list of NumPy's": list(LABELS),
    "reversed": LABELS[::-1].copy()[::-1],
    "big-endian": LABELS.astype(">i8"),
    "read-only": read_only(LABELS),
    "unsigned": LABELS.astype(np.uint64),
    "small": LABELS.astype(np.int8),
    "array of another library": Frame(LABELS),
}


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_other_kinds(kind: str) -> None:
    given, expected = INTEGERS[kind], torch.from_numpy(LABELS)
    calls: list[Callable[[Any], Tensor]] = [
        lambda labels: mp.project(P, label=labels),
        lambda labels: mp.step(P, P, label=labels, alpha=0.1),
        lambda labels: mp.flip(P, targets=labels, rate=1.0, key=1)[0],
        lambda ids: mp.row_bits(P, ids=ids, key=1),
        lambda ids: LaplaceNoise(key=1)(P, ids=ids),
    ]
    for call in calls:
        assert torch.equal(call(given), call(expected))


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ("a" * N, TypeError, "got str"),
        (["a"] * N, TypeError, r"hold numbers, got <U1.*numpy\.unique\("),
        (LABELS.astype(object), TypeError, "hold numbers, got object"),
        (LABELS / 2, TypeError, "hold integers, got torch.float64"),
        (LABELS > 3, TypeError, "hold integers, got torch.bool"),
        (LABELS[:5], ValueError, r"of shape \(60,\), one integer a row, got \(5,\)"),
        (LABELS[:, None], ValueError, r"got \(60, 1\)"),
        (3, TypeError, "got int"),
    ],
)
def test_other_integers_are_refused_by_name(
    labels: Any, error: type[Exception], words: str
) -> None:
    for name, call in {
        "label": lambda: mp.project(P, label=labels),
        "targets": lambda: mp.flip(P, targets=labels, rate=1.0),
        "groups": lambda: mp.LPA.fit(P, P, groups=labels),
    }.items():
        with pytest.raises(error, match=words) as caught:
            call()
        assert f"expected {name} " in str(caught.value)


def test_ids_of_unsigned_numbers_do_not_wrap() -> None:
    """2⁶⁴ − 1 would be the id −1."""
    with pytest.raises(ValueError, match="at most 64 bits with a sign"):
        mp.row_bits(P, ids=np.full(N, 2**64 - 1, np.uint64))


PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 4)).astype(np.uint8)
INPUTS: dict[str, Any] = {
    "bytes": PIXELS,
    "tensor": torch.from_numpy(PIXELS),
    "list of tensors": list(torch.from_numpy(PIXELS)),
    "list of arrays": list(PIXELS),
    "lists": PIXELS.tolist(),
    "big-endian": PIXELS.astype(">i4"),
    "reversed": PIXELS[::-1].copy()[::-1],
    "half": PIXELS.astype(np.float16),
    "array of another library": Frame(PIXELS),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_of_other_kinds(kind: str) -> None:
    expected = mp.Surrogate.fit(P, PIXELS.astype(np.float32), epochs=1)
    assert torch.equal(mp.Surrogate.fit(P, INPUTS[kind], epochs=1)(P), expected(P))


def test_boolean_inputs() -> None:
    mask = PIXELS > 100
    expected = mp.Surrogate.fit(P, mask.astype(np.float32), epochs=1)
    assert torch.equal(mp.Surrogate.fit(P, mask, epochs=1)(P), expected(P))


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (PIXELS[:5], ValueError, "as many inputs as outputs, got 5 and 60"),
        (torch.tensor(1.0), ValueError, "got 0 and 60"),
        (PIXELS[:, :0], ValueError, r"one number each or more, got shape \(60, 0, 4\)"),
        (P.log() / 0, ValueError, "finite, got NaN or Inf in rows 0, 1"),
        (P.double() * 1e300, ValueError, "finite, got NaN or Inf"),
        (P + 0j, TypeError, "real numbers, got torch.complex64"),
        (["a"] * N, TypeError, "hold numbers"),
        ("a" * N, TypeError, "got str"),
        (np.array([object()] * N), TypeError, "hold numbers, got object"),
        ([PIXELS[0]] * 30 + [PIXELS[0, :2]] * 30, ValueError, "parts of one shape"),
    ],
)
def test_other_inputs_are_refused_by_name(inputs: Any, error: type[Exception], words: str) -> None:
    for fit in (
        lambda: mp.Surrogate.fit(P, inputs),
        lambda: mp.LPA.fit(P, inputs),
        lambda: mp.LPA.fit(P, inputs, objective="decoy"),
        # It learns nothing from them, and looks at them all the same.
        lambda: mp.LPA.fit(P, inputs, objective="direction"),
        lambda: mp.LFP.fit(P, inputs),
        lambda: mp.LFP.fit(P, inputs, targets="random", rows="margin"),
    ):
        with pytest.raises(error, match=words) as caught:
            fit()
        assert "inputs" in str(caught.value) and "expected" in str(caught.value)


# Libraries that are no dependency of this one.


def test_frames_and_series() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ARRAY, index=range(100, 100 + N))
    q = mp.lpa(frame, key=1)
    assert type(q) is np.ndarray and np.array_equal(q, mp.lpa(ARRAY, key=1))
    labels = pandas.Series(LABELS, index=range(7, 7 + N))
    assert torch.equal(mp.project(P, label=labels), mp.project(P, label=LABELS))
    for ids in (labels, labels.astype(str), labels.astype(str).astype("category")):
        expected = mp.lpa(P, ids=ids.tolist(), key=1)
        assert torch.equal(mp.lpa(P, ids=ids, key=1), expected)
    fitted = mp.LPA.fit(frame, frame, objective="generator", groups=labels, key=1)
    expected = mp.LPA.fit(ARRAY, ARRAY, objective="generator", groups=LABELS, key=1)
    assert torch.equal(fitted(P), expected(P))
    with pytest.raises(TypeError, match="expected ids to hold integers, got missing ones"):
        mp.lpa(P, ids=labels.where(labels > 2))


def test_pictures() -> None:
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(pixels) for pixels in PIXELS]
    expected = mp.Surrogate.fit(P, PIXELS, epochs=1)
    assert torch.equal(mp.Surrogate.fit(P, pictures, epochs=1)(P), expected(P))
    with pytest.raises(ValueError, match="expected inputs to have parts of one shape"):
        mp.Surrogate.fit(P, [*pictures[1:], image.new("L", (3, 3))])


def test_out_is_of_the_kind_that_is_returned() -> None:
    expected = mp.project(ARRAY)
    for rows in (ARRAY.astype(">f4"), list(ARRAY), Frame(ARRAY)):
        out = np.empty_like(ARRAY)
        assert mp.project(rows, out=out) is out and np.array_equal(out, expected)
        with pytest.raises(TypeError, match="expected out to be a ndarray"):
            mp.project(rows, out=torch.empty(N, K))
        with pytest.raises(TypeError, match="expected out of dtype float32, got >f4"):
            mp.project(rows, out=np.empty((N, K), ">f4"))
    out = torch.empty(N, K)
    assert mp.project(list(P), out=out) is out
