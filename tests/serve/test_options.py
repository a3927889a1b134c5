"""Settings from a file and flags: what is read, and the one line that every mistake gets."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from serving import settings_of

from mipoison.defenses import wire
from mipoison.serve.config import options, routes
from mipoison.serve.config.checks import routes_of
from mipoison.serve.config.settings import MOST_DECIMALS, Settings
from mipoison.serve.failures import Refused

GOOD = """
[upstream]
url = "http://127.0.0.1:8080"
timeout_s = 5
[answers]
protocol = "mlflow"
decimals = "full"
labels = ["a", "b"]
[defense]
file = "lpa.safetensors"
[routes]
defend = ["POST /v2/models/*/infer"]
[listen]
access_log = false
"""


def read(text: str | None, *flags: str, folder: Path = Path("/tmp")) -> Settings:
    parser = argparse.ArgumentParser()
    options.add_flags(parser)
    file = None
    if text is not None:
        file = folder / "serve.toml"
        file.write_text(text)
    return options.read(file, parser.parse_args(flags))


def test_a_file_is_read(tmp_path: Path) -> None:
    made = read(GOOD, folder=tmp_path)
    assert (made.upstream.timeout_s, made.answers.decimals, made.answers.labels) == (
        5.0,
        None,
        ("a", "b"),
    )
    assert made.defense.file == tmp_path / "lpa.safetensors" and made.listen.access_log is False
    assert made.listen.port == 8000 and made.answers.gives == "probabilities"


def test_flags_alone_are_enough_and_override_the_file(tmp_path: Path) -> None:
    needed = (
        *("--upstream", "http://h:1", "--protocol", "mlflow", "--defense", "d"),
        *("--defend", "POST /invocations", "--defend", "POST /b"),
    )
    made = read(None, *needed)
    assert made.defense.file == Path("d") and len(made.routes.defend) == 2
    made = read(
        GOOD,
        "--decimals",
        "3",
        "--access-log",
        "true",
        "--labels",
        "x",
        "--labels",
        "y",
        folder=tmp_path,
    )
    assert (made.answers.decimals, made.listen.access_log, made.answers.labels) == (
        3,
        True,
        ("x", "y"),
    )
    assert made.answers.protocol == "mlflow"


@pytest.mark.parametrize("what", ["missing", "folder", "text"])
def test_certificates_are_looked_at_before_the_start(what: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if what == "folder":
        file.mkdir()
    if what == "text":
        file.write_text("no certificate")
    text = GOOD.replace("http://127.0.0.1:8080", "https://h")
    text = text.replace("[upstream]", '[upstream]\nca_file = "ca.pem"')
    with pytest.raises(ValueError, match=r"ca_file: expected a file with certificates.*ca.pem: ."):
        read(text, folder=tmp_path)


def test_a_flag_that_says_where_the_key_is_overrides_the_file(tmp_path: Path) -> None:
    text = with_("defense", 'key_env = "A"')
    made = read(text, "--key-file", "k", folder=tmp_path)
    assert (made.defense.key_env, made.defense.key_file) == (None, Path("k"))
    with pytest.raises(ValueError, match="expected one of key_env and key_file"):
        read(text, "--key-file", "k", "--key-env", "B", folder=tmp_path)


def test_every_setting_has_a_flag_of_its_own_and_none_takes_a_key() -> None:
    flags = [options.flag_of(item) for _, item in options.all_settings()]
    assert len(set(flags)) == len(flags)
    assert [flag for flag in flags if "key" in flag] == ["--key-env", "--key-file"]


def test_the_most_decimals_are_those_of_the_wire() -> None:
    assert MOST_DECIMALS == wire.MOST_DECIMALS


def without(line: str) -> str:
    assert line in GOOD
    return GOOD.replace(line, "")


def with_(section: str, line: str) -> str:
    return (
        GOOD.replace(f"[{section}]\n", f"[{section}]\n{line}\n")
        if f"[{section}]" in GOOD
        else f"{GOOD}[{section}]\n{line}\n"
    )


WRONG: list[tuple[str, str]] = [
    ("[upstream", "expected TOML, got a mistake"),
    (
        without('url = "http://127.0.0.1:8080"\n'),
        "expected url in [upstream], got none; add it to the file, or give --upstream",
    ),
    (without('protocol = "mlflow"\n'), "give --protocol"),
    (without('file = "lpa.safetensors"\n'), "give --defense"),
    (without('defend = ["POST /v2/models/*/infer"]\n'), "give --defend"),
    (
        f"{GOOD}[wish]\n",
        "expected a section out of upstream, answers, defense, routes, listen, batching, got 'wish'",
    ),
    (f"upstream = 1\n{GOOD.partition('[answers]')[2]}", "expected"),
    (with_("answers", "wish = 1"), "[answers]: expected a setting out of protocol, path"),
    (with_("defense", 'key = "s"'), "got 'key'"),
    (with_("listen", 'port = "x"'), "[listen] port: expected a whole number, got 'x'"),
    (with_("listen", "port = true"), "a whole number"),
    (with_("listen", "port = 1.5"), "a whole number"),
    (with_("listen", "port = 65536"), "expected 0 to 65535, got 65536"),
    (with_("listen", "workers = 0"), "expected 1 to 256"),
    (with_("listen", 'drain_s = "nan"'), "a finite number"),
    (with_("listen", "drain_s = inf"), "a finite number"),
    (with_("batching", "wait_ms = -1"), "expected 0 to 1000"),
    (GOOD.replace('decimals = "full"', "decimals = 0"), "from 1 to 9"),
    (GOOD.replace('decimals = "full"', "decimals = 10"), "from 1 to 9"),
    (GOOD.replace("access_log = false", 'access_log = "no"'), "true or false"),
    (GOOD.replace('labels = ["a", "b"]', 'labels = "a"'), "a list of texts"),
    (GOOD.replace('labels = ["a", "b"]', "labels = [1]"), "a list of texts"),
    (GOOD.replace('labels = ["a", "b"]', 'labels = ["a", "a"]'), "different texts"),
    (
        GOOD.replace('"mlflow"', '"v3"'),
        "expected one of v2, tfserving, mlflow, torchserve, path, got 'v3'",
    ),
    (GOOD.replace('"lpa.safetensors"', '""'), "a path"),
    (with_("upstream", 'ready_path = "ready"'), "begins with /"),
    (with_("upstream", 'ca_file = "ca.pem"'), "an https url"),
    *(
        (with_("upstream", f'ready_path = "{path}"'), "ready_path: expected a path that begins")
        for path in ("/a#b", "/é", "/a b", "/a%2f", f"/{'a' * 70_000}")
    ),
    *(
        (GOOD.replace("http://127.0.0.1:8080", url), "one such as http://127.0.0.1:8080")
        for url in ("http://999.1.1.1", "http://é..x", "http://a b:80", "http://*", "http://$H:80")
    ),
    *(
        (with_("defense", f'identity_header = "{name}"'), "which a client chooses")
        for name in ("Host", "X-Request-Id", "Transfer-Encoding")
    ),
    (GOOD.replace('"mlflow"', '"v2"'), "labels: expected none with protocol 'v2'"),
    (
        with_("answers", 'pass_fields = ["a"]').replace('"mlflow"', '"torchserve"'),
        "pass_fields: expected none where the whole body",
    ),
    (
        with_("answers", 'path = "$"\npass_fields = ["a"]').replace('"mlflow"', '"path"'),
        "pass_fields: expected none where the whole body",
    ),
    (f"{GOOD}\nx = {'[' * 5000}", "too deep to read"),
    (with_("defense", "drift_window = 99999999"), "expected 100 to 16777216"),
    (GOOD.replace("http://127.0.0.1:8080", "ftp://h"), "one such as http://127.0.0.1:8080"),
    (GOOD.replace("http://127.0.0.1:8080", "http://"), "one such as http://127.0.0.1:8080"),
    (GOOD.replace("http://127.0.0.1:8080", "http://h:99999"), "one such as http://127.0.0.1:8080"),
    (GOOD.replace("http://127.0.0.1:8080", "http://me:s3cret@h"), "no user, query or fragment"),
    (with_("answers", 'path = "a"'), 'with protocol "path"'),
    (GOOD.replace('"mlflow"', '"path"'), "got none"),
    (
        GOOD.replace('protocol = "mlflow"', 'protocol = "path"\npath = "a[0]"'),
        "[answers] path: expected a path such as",
    ),
    (
        GOOD.replace('protocol = "mlflow"', 'protocol = "torchserve"\noutput = "a"'),
        "[answers] output: expected none",
    ),
    (with_("answers", 'pass_fields = ["predictions"]'), "got predictions, which hold them"),
    (with_("answers", 'output = "p"\npass_fields = ["p"]'), "got p, which hold them"),
    (with_("answers", 'pass_headers = ["Content-Length"]'), "hold for a new body"),
    (with_("answers", 'pass_headers = ["a b"]'), "the name of a header"),
    (with_("answers", "temperature = 2"), "it acts on logits"),
    (with_("defense", 'key_env = "A"\nkey_file = "b"'), "one of key_env and key_file"),
    (with_("defense", 'identity_header = "X Account"'), "the name of a header"),
    (with_("listen", 'metrics_allow = ["me"]'), "networks such as 10.0.0.0/8"),
    (GOOD.replace('["POST /v2/models/*/infer"]', "[]"), "at least one path"),
    (GOOD.replace('["POST /v2/models/*/infer"]', '["POST /a", "POST /a"]'), "got it twice"),
    (GOOD.replace('["POST /v2/models/*/infer"]', '["/a"]'), "a method and a path"),
    (GOOD.replace('["POST /v2/models/*/infer"]', '["POST a"]'), "a method and a path"),
    (GOOD.replace('["POST /v2/models/*/infer"]', '["POST /a/../b"]'), "a method and a path"),
    (GOOD.replace('["POST /v2/models/*/infer"]', '["DELETE /a"]'), "GET, POST or PUT"),
    (with_("routes", 'pass_paths = ["GET /metrics"]'), "which the proxy answers itself"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_mistakes_are_told_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        read(text, folder=tmp_path)
    told = str(caught.value)
    assert said in told and "\n" not in told and "s3cret" not in told


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--port", "x"), "--port: expected a whole number, got 'x'"),
        (("--decimals", "many"), "--decimals: expected a whole number from 1 to 9"),
        (("--upstream", "h:1"), "one such as http"),
    ],
)
def test_mistakes_in_flags_name_the_flag(flags: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        read(GOOD, *flags, folder=tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        options.read(tmp_path / "serve.toml", argparse.Namespace())


def test_defaults_are_within_their_own_limits() -> None:
    for section, item in options.all_settings():
        if item.default is MISSING or item.default is None or item.metadata["low"] is None:
            continue
        assert item.metadata["low"] <= item.default <= item.metadata["high"], (section, item.name)


# Routes.


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/v2/models/*/infer", "/v2/models/m/infer", True),
        ("/v2/models/*/infer", "/v2/models/m/versions/1/infer", False),
        ("/v2/models/*/versions/*/infer", "/v2/models/m/versions/1/infer", True),
        ("/v1/models/*:predict", "/v1/models/m:predict", True),
        ("/v1/models/*", "/v1/models/m:predict", False),
        ("/v1/models/*", "/v1/models/", False),
        ("/a.b", "/axb", False),
        ("/a", "/a/", False),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:
    assert routes.Route("POST", pattern, True).fits(path) is fits


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "/a/../b",
        "/a/./b",
        "/..",
        "//a",
        "/a//b",
        "/a%2fb",
        "/a\\b",
        "/a b",
        "/ä",
        "/a\n",
        "/a?b",
        "/a#b",
    ],
)
def test_paths_with_two_readings_are_refused(path: str) -> None:
    with pytest.raises(Refused, match="plain segments") as caught:
        routes.find((routes.Route("POST", "/*", False),), "POST", path)
    assert caught.value.reason == "bad_path"


def test_defended_routes_come_first() -> None:
    made = routes_of(settings_of(defend=("POST /a/*",), pass_paths=("GET /a/b",)))
    assert (
        routes.find(made, "POST", "/a/b").defended and not routes.find(made, "GET", "/a/b").defended
    )
    with pytest.raises(Refused) as caught:
        routes.find(made, "PUT", "/a/b")
    assert caught.value.headers == {"allow": "GET, POST"}


@pytest.mark.parametrize(
    ("passed", "defended", "overlap"),
    [
        ("POST /m/*", "POST /m/infer", True),
        ("POST /m/infer", "POST /m/*", True),
        ("POST /*/a", "POST /m/*", True),
        ("POST /m/*:predict", "POST /m/x:*", True),
        ("GET /m/*", "POST /m/infer", False),
        ("POST /m/*", "POST /m/*/infer", False),
        ("POST /m/*", "POST /m/*:predict", False),
        ("POST /m/*/ready", "POST /m/*/infer", False),
    ],
)
def test_no_path_that_is_defended_may_pass(passed: str, defended: str, overlap: bool) -> None:
    if not overlap:
        settings_of(defend=(defended,), pass_paths=(passed,))
        return
    with pytest.raises(ValueError, match="expected no path that is defended"):
        settings_of(defend=(defended,), pass_paths=(passed,))


def test_every_section_is_a_field_of_the_settings() -> None:
    names: list[Any] = [item.name for item in fields(Settings)]
    assert names == list(options.SECTIONS)
