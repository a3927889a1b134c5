"""Spread an experiment's cells over processes or machines, through joblib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor

# Joblib's own, or a backend of joblib.
ENGINES: Final = ("loky", "ray", "dask")


@contextmanager
def engine_of(name: str) -> Iterator[None]:
    """Joblib's backend for the block.

    Args:
        name: one of `ENGINES`; "ray" and "dask" use a cluster that is there, or start a local one.

    Raises:
        ValueError: if it is unknown or not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
    try:
        if name == "loky":
            # Joblib keeps idle processes, and they keep their folder and the modules that they have read.
            get_reusable_executor().shutdown(wait=True)
        elif name == "ray":
            from ray.util.joblib import register_ray

            register_ray()
        elif name == "dask":
            from distributed import Client, get_client
    except ImportError as error:
        package = {"ray": "ray", "dask": "dask[distributed]"}[name]
        raise ValueError(
            f"engine: expected {package} to be installed for {name!r}; pip install '{package}'"
        ) from error
    with ExitStack() as stack:
        if name == "dask":
            try:
                get_client()
            except ValueError:
                stack.enter_context(Client())
        stack.enter_context(parallel_config(backend=name))
        yield
