"""Defend confidence vectors in tables: Arrow, Parquet, pandas and polars. Needs the extra [arrow]."""

try:
    import pyarrow as _pyarrow  # noqa: F401
except ImportError as error:
    if error.name != "pyarrow":
        raise
    raise ImportError(
        "mipoison.integrations.arrow needs pyarrow; install it with: pip install 'mipoison[arrow]'",
        name="pyarrow",
    ) from error

from mipoison.integrations.arrow.kinds import defend
from mipoison.integrations.arrow.parquet import defend_parquet

__all__ = ["defend", "defend_parquet"]
