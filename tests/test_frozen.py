"""What is computed is what it was, bit for bit, on every processor that `frozen.json` has an entry of."""

from __future__ import annotations

import json

import frozen
import pytest
from fitted import fit_all

KNOWN = json.loads(frozen.FILE.read_text()).get(frozen.machine(), {})
pytestmark = pytest.mark.skipif(not KNOWN, reason=f"nothing is frozen of {frozen.machine()}")


def same(found: dict[str, str]) -> None:
    changed = [name for name, digest in found.items() if KNOWN.get(name, digest) != digest]
    assert not changed, f"expected the answers of before, they differ in {changed}"


def test_operations() -> None:
    same(frozen.operations())


@pytest.mark.whole_fits
def test_defenses() -> None:
    same(frozen.defenses(fit_all()))
