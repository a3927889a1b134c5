"""Large batches are answered in pieces: the same answers, errors and counts, in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from torch import Tensor

import mipoison as mp
from mipoison.defenses import LaplaceNoise, Rounding
from mipoison.defenses.base import Defense
from mipoison.defenses.pieces import pieces

K, N = 10, 600
Fitted = dict[str, Callable[..., Tensor]]


def rows() -> Tensor:
    """Rows of all distributions; the last piece has fewer than the others."""
    each = [draw(distribution, N // 7 + 1, K, seed=3) for distribution in DISTRIBUTIONS]
    return torch.cat(each)[:N].float()


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 256 rows."""
    for kind in (Defense, mp.LPA, mp.LFP):
        monkeypatch.setattr(kind, "piece", 256 * K)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def test_few_rows_are_one_piece() -> None:
    assert list(pieces(torch.zeros(512, 10), 5125)) == [slice(None)]
    assert list(pieces(torch.zeros(513, 10), 5125)) == [slice(0, 512), slice(512, 513)]
    # A piece has a row or more, however many classes.
    assert len(list(pieces(torch.zeros(3, 20_000), 1))) == 3
    assert list(pieces(torch.zeros(0, 10), 1)) == [slice(None)]


def test_pieces_are_answered_as_the_whole(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    p = rows()
    whole = {name: (d(p), d(p, validate=False)) for name, d in fitted.items()}
    shorten(monkeypatch)
    for name, defense in fitted.items():
        for answer, validate in zip(whole[name], (True, False), strict=True):
            assert torch.equal(defense(p, validate=validate), answer), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_pieces_of_other_dtypes_and_kinds(small: None, dtype: torch.dtype) -> None:
    p = rows().to(dtype)
    defense = LaplaceNoise(scale=0.1, key=1)
    expected = torch.cat([defense(some) for some in p.split(100)])
    assert torch.equal(defense(p), expected)
    assert (defense(p.numpy()) == expected.numpy()).all()
    assert torch.equal(defense(p.t().contiguous().t()), expected)


@pytest.mark.parametrize("validate", [True, False])
def test_ids_go_with_their_rows(small: None, validate: bool) -> None:
    p, ids = rows(), torch.arange(N) * 7
    defense = LaplaceNoise(scale=0.1, key=1)
    expected = [defense(p[i : i + 100], ids=ids[i : i + 100]) for i in range(0, N, 100)]
    assert torch.equal(defense(p, ids=ids, validate=validate), torch.cat(expected))
    with pytest.raises(ValueError, match="expected"):
        defense(p, ids=ids[:-1], validate=validate)


def test_invalid_rows_in_any_piece(small: None) -> None:
    p = rows()
    p[300], p[599, 2] = 2 * p[300], torch.nan
    with pytest.raises(ValueError, match="rows 300, 599"):
        Rounding(1)(p)
    lenient = Rounding(1, on_invalid="label")
    q = lenient(p)
    assert lenient.failures == 2 and float(q[300].max()) == 1 and float(q[599].max()) < 0.2
    assert torch.equal(q, lenient(p, validate=False)) and lenient.failures == 2


def test_an_audit_counts_all_pieces(small: None) -> None:
    p = rows()
    flips = mp.LFP(rate=0.5, audit=True, key=1)
    q = flips(p)
    audit = flips.audit
    assert audit is not None
    assert (audit.rows, audit.flipped) == (N, int((q.argmax(1) != p.argmax(1)).sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process under Linux")
def test_a_large_batch_takes_little_memory() -> None:
    """In a process of its own."""
    script = """
        import re
        import torch
        import mipoison as mp
        from mipoison.defenses import LaplaceNoise
        from mipoison.defenses.bank import Bank
        from mipoison.defenses.lpa.decoy import Decoy

        def megabytes(name):
            return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

        if {few}:
            # Of few classes, and many numbers recovered from each of several candidates.
            p, x = torch.rand(300, 2), torch.rand(300, 200)
            p = p / p.sum(1, keepdim=True)
            fitted = mp.Surrogate.fit(p, x, epochs=1, components=160, width=32, members=1)
            defense = mp.LPA(Decoy(fitted, Bank(p)), key=1)
            p = torch.full((60_000, 2), 0.5) + torch.tensor([[0.1, -0.1]])
        else:
            defense = LaplaceNoise(scale=0.1, key=1)
            p = torch.full((500_000, 10), 0.1)
        defense(p[:1000])
        # Forgets the peak so far, which is the parent's.
        open("/proc/self/clear_refs", "w").write("5")
        before = megabytes("VmRSS")
        q = defense(p, validate={})
        more = megabytes("VmHWM") - before - q.nbytes / 2**20
        assert more <= 64, more
    """
    for validate, few in ((True, False), (False, False), (True, True)):
        program = textwrap.dedent(script).replace("{}", str(validate)).replace("{few}", str(few))
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
