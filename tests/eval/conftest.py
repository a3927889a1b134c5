"""What the tests of the harness share."""

import shutil

import pytest
import short_fits
import torch
from tiny import TINY

from mipoison.eval import cli
from mipoison.eval.report.report import write_report
from mipoison.eval.run.experiment import run
from mipoison.eval.scores import victims

short_fits.install("train_target", victims)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks are quickest, and the same everywhere, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny():
    """Two cells of baselines that need no fitting, with adversaries that hardly train."""
    return TINY


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory, pytestconfig):
    """The output folder of the tiny experiment; not to be changed."""
    out = tmp_path_factory.mktemp("harness") / "out"
    with short_fits.chosen(not pytestconfig.getoption("--full")):
        assert run(tiny, out).complete
    return out


@pytest.fixture(scope="session")
def reported(finished, tmp_path_factory):
    """That folder with its report; not to be changed."""
    out = shutil.copytree(finished, tmp_path_factory.mktemp("reported") / "out")
    write_report(out)
    return out


@pytest.fixture
def one_line(capsys):
    """What a command says that cannot be done: one line, with exit code 2."""

    def told(given):
        with pytest.raises(SystemExit) as stopped:
            cli.main(given)
        printed = capsys.readouterr()
        assert stopped.value.code == 2, printed.err
        assert printed.out == "" and printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("mipoison: ") and "Traceback" not in printed.err
        return printed.err

    return told
