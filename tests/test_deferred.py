"""Deferred defenses: sent to workers as a path, loaded once a process, with the key that is there."""

from __future__ import annotations

import copy
import multiprocessing
import operator
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from distributions import draw
from fitted import KEYED, KEYLESS
from fresh import run
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import LaplaceNoise, Rounding, deferred, storage

K = 10
TEXT = "8f3a41c09b7e25d6aa10ff4c03b2957e"
KEY = mp.Key(bytes.fromhex(TEXT))
Fitted = dict[str, Any]


@pytest.fixture
def p() -> Tensor:
    return draw("plain", 40, K, seed=3).float()


@pytest.fixture
def noise() -> LaplaceNoise:
    return LaplaceNoise(scale=0.05, key=KEY)


@pytest.fixture
def path(noise: LaplaceNoise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of keyed noise, whose key is in MIPOISON_KEY."""
    monkeypatch.setenv("MIPOISON_KEY", TEXT)
    noise.save(tmp_path / "noise.safetensors")
    return str(tmp_path / "noise.safetensors")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were loaded, in order."""
    found: list[str] = []

    def load(file: str) -> storage.Content:
        found.append(file)
        # (Long enough for other threads to come.)
        time.sleep(0.02)
        return read(file)

    read = storage.load
    monkeypatch.setattr(deferred.storage, "load", load)
    return found


@pytest.mark.parametrize("name", [*KEYED, *KEYLESS])
def test_answers_are_those_of_the_loaded_defense(
    fitted: Fitted, name: str, p: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "defense.safetensors"
    fitted[name].save(path)
    keyed = name in KEYED
    if keyed:
        monkeypatch.setenv("MIPOISON_KEY", TEXT)
    else:
        monkeypatch.delenv("MIPOISON_KEY", raising=False)
    loaded = mp.load(path, key=KEY) if keyed else mp.load(path)
    sent = pickle.loads(pickle.dumps(mp.Deferred(path)))
    for options in ({}, {"validate": False}, *([{"ids": list(range(len(p)))}] if keyed else ())):
        assert torch.equal(sent(p, **options), loaded(p, **options))
    assert torch.equal(torch.from_numpy(sent(p.numpy())), loaded(p))


def test_a_pickle_holds_neither_defense_nor_key(path: str, p: Tensor) -> None:
    made = mp.Deferred(path)
    before = pickle.dumps(made)
    made(p)
    after = pickle.dumps(made)
    assert after == before and len(before) < 600
    for secret in (TEXT, *map(str, KEY.words)):
        assert secret.encode() not in after and secret not in repr(made)
    assert repr(made) == f"Deferred({path!r}, key_env='MIPOISON_KEY', device='cpu')"


def test_all_copies_load_once(path: str, p: Tensor, loads: list[str]) -> None:
    made = mp.Deferred(path)
    assert not loads
    for twin in (
        made,
        made,
        copy.copy(made),
        copy.deepcopy(made),
        pickle.loads(pickle.dumps(made)),
    ):
        twin(p)
    assert loads == [path]
    mp.Deferred(path)(p)
    assert loads == [path] * 2


def test_threads_load_once(path: str, p: Tensor, loads: list[str]) -> None:
    data = pickle.dumps(mp.Deferred(path))
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        own = pickle.loads(data)
        barrier.wait()
        found.append(own(p))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [path] and len(found) == 8
    assert all(torch.equal(q, found[0]) for q in found)


def test_a_replaced_file_is_read_by_another_deferred(path: str, p: Tensor) -> None:
    old = mp.Deferred(path)
    before = old(p)
    other = LaplaceNoise(scale=0.5, key=KEY)
    other.save(path)
    assert torch.equal(old(p), before) and torch.equal(copy.copy(old)(p), before)
    assert torch.equal(mp.Deferred(path)(p), other(p))


def test_a_process_keeps_a_few(path: str, p: Tensor) -> None:
    for _ in range(2 * deferred._KEPT):
        mp.Deferred(path)(p)
    assert len(deferred._loaded) == deferred._KEPT


# Workers.


def test_a_spawned_worker_loads_once(path: str, p: Tensor, noise: LaplaceNoise) -> None:
    made = mp.Deferred(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answers = [pool.apply(made, (p,), {"ids": list(range(40))}) for _ in range(2)]
        handles = pool.map(operator.attrgetter("defense._handle"), [made] * 3, chunksize=1)
    assert all(torch.equal(q, noise(p, ids=list(range(40)))) for q in answers)
    assert len(set(handles)) == 1


@pytest.mark.full
def test_workers_of_joblib(path: str, p: Tensor, noise: LaplaceNoise) -> None:
    made = mp.Deferred(path)
    made(p)
    try:
        parts = Parallel(n_jobs=2)(delayed(made)(part) for part in p.split(10))
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert torch.equal(torch.cat(parts), noise(p))


FORKING = """
import os, signal, sys, torch
import mipoison as mp
from mipoison.defenses import deferred

torch.set_num_threads(1)
p = torch.rand(20, 10).softmax(1)
used, unused = mp.Deferred({path!r}), mp.Deferred({path!r})
expected = used(p)
deferred._LOADING.acquire()
child = os.fork()
if child == 0:
    signal.alarm(20)
    same = torch.equal(used(p), expected) and torch.equal(unused(p), expected)
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
print(status)
"""


def test_a_child_forked_while_another_thread_loads(path: str) -> None:
    done = run(FORKING.format(path=path))
    assert done.stdout == "0\n", done.stderr


# Keys.


def test_a_missing_key_is_named_until_it_is_there(
    path: str, p: Tensor, noise: LaplaceNoise, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mp.Deferred(path, key_env="A_KEY_OF_WORKERS")
    for _ in range(2):
        with pytest.raises(ValueError, match="variable A_KEY_OF_WORKERS, got none"):
            made(p)
    monkeypatch.setenv("A_KEY_OF_WORKERS", TEXT)
    assert torch.equal(made(p), noise(p))


def test_a_file_of_the_key(path: str, p: Tensor, noise: LaplaceNoise, tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = mp.Deferred(path, key_file=file)
    with pytest.raises(FileNotFoundError, match="expected the path of a file that holds a key"):
        made(p)
    file.write_text("no key")
    with pytest.raises(ValueError, match="expected a key of 32 hexadecimal digits or more in"):
        made(p)
    file.write_text(TEXT + "\n")
    assert torch.equal(made(p), noise(p))
    assert repr(made) == f"Deferred({path!r}, key_file={str(file)!r}, device='cpu')"


def test_a_keyless_defense_refuses_a_file_of_a_key(p: Tensor, tmp_path: Path) -> None:
    key, path = tmp_path / "key", tmp_path / "rounding"
    key.write_text(TEXT)
    Rounding(1).save(path)
    with pytest.raises(ValueError, match="expected no key for Rounding, which has none, got one"):
        mp.Deferred(path, key_file=key)(p)


def test_wrong_arguments_are_found_where_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected path to be a text or a pathlib\.Path, got int"):
        mp.Deferred(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected the name of an environment variable, got int"):
        mp.Deferred(tmp_path, key_env=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got what looks like the key") as error:
        mp.Deferred(tmp_path, key_env=TEXT)
    assert TEXT not in str(error.value)
    for name in ("", "A=B", "A\0B", f"MINE={TEXT}"):
        with pytest.raises(ValueError, match="which no variable has") as error:
            mp.Deferred(tmp_path, key_env=name)
        assert TEXT not in str(error.value)
    with pytest.raises(ValueError, match="expected key_env or key_file, got both"):
        mp.Deferred(tmp_path, key_env="MINE", key_file=tmp_path)
    with pytest.raises(TypeError, match=r"expected path to be a text or a pathlib\.Path, got Key"):
        mp.Deferred(tmp_path, key_file=KEY)  # type: ignore[arg-type]


def test_files_that_hold_no_defense(p: Tensor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mp.Deferred(tmp_path / "nowhere")(p)
    (tmp_path / "text").write_text("no defense")
    with pytest.raises(ValueError, match="expected a file saved by a mipoison defense"):
        mp.Deferred(tmp_path / "text")(p)


def test_the_device_is_that_of_the_tensors(fitted: Fitted, p: Tensor, tmp_path: Path) -> None:
    fitted["contract"].save(tmp_path / "contract")
    made = mp.Deferred(tmp_path / "contract", device="meta")
    with pytest.raises(ValueError, match="expected outputs on meta, where the tensors of"):
        made(p)


# In front of a classifier.


def test_a_defended_classifier_can_be_pickled(path: str, p: Tensor, noise: LaplaceNoise) -> None:
    served = mp.Defended(nn.Softmax(-1), mp.Deferred(path))
    served(p)
    twin = pickle.loads(pickle.dumps(served))
    ids = list(range(len(p)))
    assert torch.equal(twin(p), noise(p.softmax(-1)))
    assert torch.equal(twin(p, ids=ids), noise(p.softmax(-1), ids=ids))
    assert not twin.training and twin.state_dict() == {}


def test_failures_are_those_of_the_process(p: Tensor, tmp_path: Path) -> None:
    Rounding(1, on_invalid="label").save(tmp_path / "rounding")
    made = mp.Deferred(tmp_path / "rounding")
    served = mp.Defended(nn.Identity(), made)
    p[3] *= 2
    served(p)
    copy.copy(made)(p)
    assert served.failures == made.failures == 2


def test_compiled_graphs_call_it(path: str, p: Tensor, noise: LaplaceNoise) -> None:
    served = mp.Defended(nn.Softmax(-1), mp.Deferred(path), validate=False)
    expected = noise(p.softmax(-1))
    assert torch.equal(torch.compile(served, backend="eager")(p), expected)
    # Once it is loaded, as one graph.
    assert torch.equal(torch.compile(served, backend="eager", fullgraph=True)(p), expected)
