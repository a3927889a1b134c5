"""What is computed is what it was, bit for bit, on every processor that `frozen.json` has an entry of."""

from __future__ import annotations

import json

import frozen
import pytest
from fitted import fit_all

KNOWN = json.loads(frozen.FILE.read_text()).get(frozen.machine(), {})
pytestmark = pytest.mark.skipif(not KNOWN, reason=f"nothing is frozen of {frozen.machine()}")


def same(found: dict[str, str]) -> None:
    known = {name: digest for name, digest in found.items() if name in KNOWN}
    changed = [name for name, digest in known.items() if KNOWN[name] != digest]
    assert not changed, f"expected the answers of before, they differ in {changed}"
    if unknown := sorted(set(found) - set(known)):
        pytest.skip(f"the others are as before; not frozen of this processor: {', '.join(unknown)}")


def test_operations() -> None:
    same(frozen.operations())


@pytest.mark.whole_fits
def test_defenses() -> None:
    same(frozen.defenses(fit_all()))
