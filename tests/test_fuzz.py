"""A little of the fuzz that `make sanitize` runs for minutes."""

from __future__ import annotations

import pytest
from fuzz import Caller


@pytest.mark.parametrize("seed", [11, 12])
def test_any_input_is_answered_or_refused(seed: int) -> None:
    caller = Caller(seed)
    for _ in range(360):
        caller.call()
    # Most is answered, and every operator was called.
    assert caller.refused < 80 and min(caller.made.values()) > 5
