"""The command `mipoison serve`: checks everything, opens the port, and drains it on SIGTERM."""

from __future__ import annotations

import argparse
import base64
import functools
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import uvicorn
from starlette.applications import Starlette

from mipoison.serve.config.options import add_flags, read
from mipoison.serve.config.settings import Settings
from mipoison.serve.loading import load, require_same
from mipoison.serve.proxy.application import application
from mipoison.serve.proxy.connections import Connection
from mipoison.serve.proxy.logs import configure, log
from mipoison.serve.proxy.metrics import FOLDER

# What uvicorn exits with where the port cannot be opened.
_FAILED: Final = 3
_SETTINGS: Final = "MIPOISON_SERVE_SETTINGS"
_IDENTITY: Final = "MIPOISON_SERVE_IDENTITY"
# Most seconds that a worker takes to start.
_STARTING_S: Final = 120


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `mipoison serve`.

    Exits with 0 after SIGTERM, when all open requests are answered; with 2 and one line for a mistake in the settings;
    and with 3 if the port cannot be opened, or a worker finds another key or file than the first process.

    Args:
        arguments: of the command line, without the command; the process's by default.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        settings = read(given.config, given)
        _check_metrics_folder()
        # (And thereby checks what the settings name.)
        loaded = load(settings)
    except OSError as error:
        # (The package's own errors say more than the system's.)
        own = error.errno is None or error.strerror is None
        _stop(str(error) if own else f"{error.filename}: {error.strerror}")
    except (ValueError, TypeError) as error:
        _stop(str(error))
    if given.check:
        print(f"the settings are right; key {loaded.fingerprint or 'none'}")
        return
    _serve(settings, loaded.identity)


def _check_metrics_folder() -> None:
    folder = os.environ.get(FOLDER)
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{FOLDER}: expected a folder that can be written, got {folder}; make it, or leave the variable out"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mipoison serve",
        allow_abbrev=False,
        description=(
            "A reverse proxy in front of a model server: it defends the confidence vectors of its answers. Settings "
            "come from a TOML file, from flags, or both; a flag overrides the file. The key is never given here, but "
            "in a variable or a file."
        ),
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with the settings")
    parser.add_argument(
        "--check", action="store_true", help="check settings, key and defense, and exit"
    )
    add_flags(parser)
    return parser


def worker() -> Starlette:
    """The application in one of several workers, whose settings the first process has left in the environment."""
    settings = pickle.loads(base64.b64decode(os.environ[_SETTINGS]))
    return _made(settings, os.environ[_IDENTITY])


def _made(settings: Settings, identity: str) -> Starlette:
    """The application; a mistake ends the process with 3, after which uvicorn starts no other worker.

    Args:
        settings: all of them.
        identity: of the key and the file that the first process has checked. A worker that is restarted reads both
            anew, and they may have been replaced; two workers would then answer one query in two ways.
    """
    configure()
    try:
        loaded = load(settings)
        require_same(loaded, identity)
        return application(settings, loaded)
    except (OSError, TypeError, ValueError) as error:
        log("error", level=logging.ERROR, error=error, said=str(error))
        sys.exit(_FAILED)


def _serve(settings: Settings, identity: str) -> None:
    configure()
    listen = settings.listen
    options: dict[str, Any] = {
        "factory": True,
        "host": listen.host,
        "port": listen.port,
        "lifespan": "on",
        "ws": "none",
        "http": f"{Connection.__module__}:{Connection.__name__}",
        "log_config": None,
        "access_log": False,
        # The address of a connection is that of its other end, whatever a header says.
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": max(1, round(listen.drain_s)),
    }
    if listen.workers > 1:
        _serve_several(settings, identity, options)
        return
    server = uvicorn.Server(uvicorn.Config(functools.partial(_made, settings, identity), **options))

    def terminated(number: int, frame: object) -> None:
        # Uvicorn raises the signal again once it has drained; to end by it would not be told from a crash.
        if not server.should_exit:
            sys.exit(0)

    signal.signal(signal.SIGTERM, terminated)
    server.run()
    if not server.started:
        sys.exit(_FAILED)


def _serve_several(settings: Settings, identity: str, options: dict[str, Any]) -> None:
    """Serves with several processes, which keep their metrics in files of one folder."""
    # (Without the key, which each of them reads where the settings say.)
    os.environ[_SETTINGS] = base64.b64encode(pickle.dumps(settings)).decode()
    os.environ[_IDENTITY] = identity
    folder = None
    if not os.environ.get(FOLDER):
        folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="mipoison-metrics-")
    try:
        uvicorn.run(
            f"{__name__}:{worker.__name__}",
            workers=settings.listen.workers,
            # A worker that still imports torch answers no health check, and would be killed for it.
            timeout_worker_healthcheck=_STARTING_S,
            **options,
        )
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _stop(said: str) -> NoReturn:
    line = " ".join(said.splitlines())
    print(f"mipoison: {line}", file=sys.stderr, flush=True)
    sys.exit(2)
