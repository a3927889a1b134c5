"""The console script: hands over to the harness, or says how to install it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

_NEEDED: Final = ("sklearn", "torchmetrics", "matplotlib", "rich", "tyro", "joblib")


def main() -> None:
    """Runs `mipoison …`; exits with 2 and one sentence where the extra [eval] is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"mipoison: the evaluation harness needs {', '.join(missing)}; "
            "install it with: pip install 'mipoison[eval]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from mipoison.eval.cli import main as evaluate

    evaluate()
