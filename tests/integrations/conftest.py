"""Tests of a missing library are skipped. With --integrations none may be missing, and servers are started."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known only where this folder is named on the command line."""
    parser.addoption("--integrations", action="store_true", help="all libraries, and servers")


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    """Skips a test without --integrations."""
    if not request.config.getoption("--integrations", default=False):
        pytest.skip("only with --integrations, as in make test-integrations")
