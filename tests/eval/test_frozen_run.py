"""A run's numbers and images are those of before, on every processor that `frozen.json` has an entry of."""

import json

import frozen
import pytest

KNOWN = json.loads(frozen.FILE.read_text()).get(frozen.machine(), {})


@pytest.mark.skipif(not KNOWN, reason=f"nothing is frozen of {frozen.machine()}")
def test_run(finished):
    found = frozen.run_digests(finished)
    assert found == {name: KNOWN[name] for name in found}
