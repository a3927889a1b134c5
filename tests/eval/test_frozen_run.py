"""A run's numbers and images do not depend on its processes, and are those of before where these are kept."""

import json

import frozen
import pytest
from tiny import untimed

from mipoison.eval.run.experiment import run

KNOWN = json.loads(frozen.FILE.read_text()).get(frozen.machine(), {})
# Other processes train as users do.
pytestmark = pytest.mark.whole_fits


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(tiny, out).complete
    return out


# (Of a processor that a change was not measured on, no run is known since.)
@pytest.mark.skipif("run numbers" not in KNOWN, reason=f"no run is frozen of {frozen.machine()}")
def test_run(whole):
    found = frozen.run_digests(whole)
    assert found == {name: KNOWN[name] for name in found}


def test_processes_do_not_change_the_numbers(tiny, whole, tmp_path):
    assert run(tiny, tmp_path / "out", jobs=2).complete
    assert untimed(tmp_path / "out") == untimed(whole)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_other_engines_give_the_same_numbers(engine, package, tiny, whole, tmp_path):
    pytest.importorskip(package)
    assert run(tiny, tmp_path / "out", jobs=2, engine=engine).complete
    assert untimed(tmp_path / "out") == untimed(whole)
