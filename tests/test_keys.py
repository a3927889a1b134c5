"""Keys: made, read from variables and files, rotated, and never shown."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import torch
from distributions import draw
from fitted import KEYED, KEYLESS, stored

import mipoison as mp
from mipoison import key_text
from mipoison.defenses import LaplaceNoise
from mipoison.keys import Key, resolve_key

K = 10
TEXT = "8f3a41c09b7e25d6aa10ff4c03b2957e"
Fitted = dict[str, Any]


@pytest.mark.parametrize("bad", ["text", 1.5, True, [1], object()])
def test_a_key_of_a_wrong_type_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match="expected key to be an int, bytes or None"):
        resolve_key(bad)  # type: ignore[arg-type]


def test_no_key_means_one_secret_per_process() -> None:
    p = draw("plain", 4, 5)
    assert torch.equal(mp.row_bits(p), mp.row_bits(p))
    assert resolve_key(None) is resolve_key(None)
    assert resolve_key(None) != Key(0)


def test_the_key_cannot_be_read_off_or_pickled() -> None:
    key = Key(b"a very secret thing")
    assert "very" not in repr(key) and repr(key) == str(key) == "Key(<hidden>)"
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(key)
    assert copy.deepcopy(key) is key
    assert Key(1) != Key(-1) and Key(256) != Key(bytes(range(16)))


@pytest.mark.parametrize("secret", [bytes(32), bytearray(16), b"secret42" * 2, b"aaaabbbbccccdddd"])
def test_bytes_that_repeat_themselves_are_no_key(secret: bytes) -> None:
    with pytest.raises(ValueError, match="bytes that repeat themselves, which can be guessed"):
        Key(secret)


# As text, in a variable or a file.


def of_variable(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    monkeypatch.setenv("A_KEY", text)
    return Key.from_env("A_KEY")


def of_file(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    (folder / "A_KEY").write_text(text)
    return Key.from_file(folder / "A_KEY")


READ = pytest.mark.parametrize("read", [of_variable, of_file])
Read = Callable[[str, Path, pytest.MonkeyPatch], Key]


@READ
@pytest.mark.parametrize("text", [TEXT, TEXT.upper(), f"{TEXT}\n", f"  {TEXT}\r\n"])
def test_text_of_a_key_is_its_bytes(
    read: Read, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(text, tmp_path, monkeypatch) == Key(bytes.fromhex(TEXT))
    assert read(TEXT * 2 + "00", tmp_path, monkeypatch) == Key(bytes.fromhex(TEXT * 2 + "00"))


WRONG = {
    "": "an empty text",
    " \n": "an empty text",
    TEXT[:-1]: "an odd number of them, 31",
    TEXT[:-2]: "30, which can be guessed",
    f"0x{TEXT}": "other characters",
    f"{TEXT[:16]} {TEXT[16:]}": "other characters",
    "a passphrase of many words, by heart": "other characters",
    "jzpBwJt+Jdaq/0wDsplXfo86QcCbfiXWqhD/TAOylX4=": "other characters",
    "clé" * 20: "other characters",
    "0" * 64: "digits that repeat themselves",
    "deadbeef" * 8: "digits that repeat themselves",
    "0123456789abcdef" * 4: "digits that repeat themselves",
    "00" * 12 + "12345678": "digits that repeat themselves",
    TEXT * 2: "digits that repeat themselves",
}


def locals_of(trace: TracebackType | None) -> list[Any]:
    """The local variables of the package's frames that an exception left."""
    found: list[Any] = []
    while trace is not None:
        if "mipoison" in trace.tb_frame.f_code.co_filename:
            found += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    return found


@READ
@pytest.mark.parametrize(("text", "fault"), WRONG.items())
def test_a_text_that_is_no_key_is_refused_and_not_shown(
    read: Read, text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=rf"expected a key of 32 hex.*A_KEY.*got {fault}") as error:
        read(text, tmp_path, monkeypatch)
    assert "openssl rand -hex 32" in str(error.value)
    secret = text.strip()
    if secret:
        assert secret not in str(error.value)
        own = [value for value in locals_of(error.tb) if value is not None]
        kept = [v for v in own if isinstance(v, str | bytes) and v]
        assert not any(secret in (v if isinstance(v, str) else v.decode("latin-1")) for v in kept)


def test_random_keys_are_no_repetition() -> None:
    generator = torch.Generator().manual_seed(0)
    secrets = torch.randint(256, (3000, 16), generator=generator, dtype=torch.uint8)
    assert not any(key_text._parsed(bytes(row.tolist()).hex())[1] for row in secrets)


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(ValueError, match=r"variable A_KEY, got none: it is not set; make one with"):
        Key.from_env("A_KEY")
    with pytest.raises(TypeError, match="expected the name of an environment variable, got int"):
        Key.from_env(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("read", [Key.from_env, Key.from_file])
def test_a_key_in_place_of_its_name_is_not_shown(read: Callable[[str], Key]) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="looks like the key") as error:
        read(TEXT)
    assert TEXT not in str(error.value)


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the path of a file .*nowhere', where"):
        Key.from_file(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        Key.from_file(tmp_path)
    (tmp_path / "image").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ValueError, match="got more than 4096 bytes"):
        Key.from_file(str(tmp_path / "image"))
    (tmp_path / "raw").write_bytes(bytes(range(200, 232)))
    with pytest.raises(ValueError, match="got other characters"):
        Key.from_file(tmp_path / "raw")
    with pytest.raises(TypeError, match=r"expected path to be a text or a pathlib\.Path, got int"):
        Key.from_file(3)  # type: ignore[arg-type]


def test_generated_keys_differ_and_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        key = Key.generate(path)
    finally:
        os.umask(before)
    assert Key.from_file(path) == key and key not in (Key.generate(), Key.generate())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert len(bytes.fromhex(text)) == 32 and text.endswith("\n")
    with pytest.raises(FileExistsError, match="a new key in its place would change every answer"):
        Key.generate(path)
    assert path.read_text() == text


def test_no_part_of_a_key_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Key.generate(tmp_path / "key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["generate", "from_env", "from_file"])
def test_constructors_are_called_on_the_class(name: str) -> None:
    with pytest.raises(TypeError, match="to be called on the class"):
        getattr(Key(1), name)("A_KEY")


def test_fingerprint_tells_keys_apart() -> None:
    """The digits are written here, since they stand in logs of other processes and versions."""
    key = Key(bytes.fromhex(TEXT))
    assert key.fingerprint() == "54602cac9b4799ba"
    assert Key(bytes.fromhex(TEXT)).fingerprint() == key.fingerprint()
    prints = {Key(number).fingerprint() for number in range(1000)}
    assert len(prints) == 1000 and all(len(digits) == 16 for digits in prints)
    # No word of the key is in it.
    words = [word.to_bytes(4, "little").hex() for word in key.words]
    assert not any(word in key.fingerprint() for word in words)


# Rotation.


@pytest.mark.parametrize("name", KEYED)
def test_another_key_is_as_loaded_with_it(fitted: Fitted, name: str) -> None:
    defense, p = fitted[name], draw("plain", 80, K, seed=3).float()
    before, ids = defense(p), list(range(80))
    other = Key(b"another key of many bytes")
    rotated, loaded = defense.with_key(other), mp.load(stored(defense), key=other)
    assert type(rotated) is type(defense) and repr(rotated) == repr(defense)
    for options in ({}, {"ids": ids}, {"validate": False}):
        assert torch.equal(rotated(p, **options), loaded(p, **options))
    assert torch.equal(defense(p), before) and not torch.equal(rotated(p), before)
    assert torch.equal(rotated.with_key(1)(p), before)


@pytest.mark.parametrize("name", KEYLESS)
def test_a_keyless_defense_takes_no_other_key(fitted: Fitted, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected no key for .*, which has none, got one"):
        fitted[name].with_key(2)


def test_rotation_demands_a_key() -> None:
    defense = LaplaceNoise(scale=0.1, key=1)
    with pytest.raises(ValueError, match=r"expected a key, got none; .*Key\.generate"):
        defense.with_key(None)
    with pytest.raises(ValueError, match="at least 16 bytes, got 3"):
        defense.with_key(b"abc")
    with pytest.raises(TypeError, match="expected key to be an int, bytes"):
        defense.with_key("a text of sixteen letters")  # type: ignore[arg-type]


def test_rotated_defense_shares_nothing(fitted: Fitted) -> None:
    p = draw("plain", 80, K, seed=3).float()
    for name in ("swap", "equilibrium", "purifier"):
        defense = fitted[name]
        with torch.inference_mode():
            rotated = defense.with_key(2)
        before = defense(p)
        assert not any(x.is_inference() for x in rotated.state_dict().values())
        for tensor in (*rotated.parameters(), *rotated.buffers()):
            tensor.detach().zero_()
        rotated.margin = 0.5
        assert torch.equal(defense(p), before) and defense.margin != 0.5


def test_counts_begin_anew() -> None:
    p = draw("plain", 40, K).float()
    p[3] *= 2
    defense = mp.LFP(rate=0.5, key=1, audit=True, on_invalid="label")
    defense(p)
    flipped = defense.audit.flipped
    rotated = defense.with_key(2)
    assert (defense.failures, rotated.failures) == (1, 0)
    assert defense.audit.flipped == flipped > 0 == rotated.audit.rows
    rotated(p)
    assert (defense.audit.rows, rotated.audit.rows) == (39, 39)


def test_a_service_takes_the_new_key_at_once() -> None:
    p = draw("plain", 40, K).float()
    served = mp.Defended(torch.nn.Identity(), LaplaceNoise(scale=0.1, key=1))
    served.defense = served.defense.with_key(2)
    assert torch.equal(served(p), LaplaceNoise(scale=0.1, key=2)(p))
