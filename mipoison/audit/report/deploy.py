"""Write the lines of Python and the settings of `mipoison serve` that deploy a saved defense."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mipoison.defenses.base import Defense
from mipoison.defenses.loading import load
from mipoison.defenses.wire import MOST_DECIMALS, require_wire

DEFENSE: Final = "defense.safetensors"
SERVE: Final = "serve.toml"
_FULL: Final = '"full"'
_VARIABLE: Final = "MIPOISON_KEY"
# More classes are not listed in a file that people read.
_MOST_LABELS: Final = 100
# The proxy's default; more where rounding would use up a defense's epsilon.
_DECIMALS: Final = 4


@dataclass(frozen=True)
class Deployment:
    """What deploys a choice.

    Attributes:
        python: lines that load the saved defense and put it in front of a model.
        again: the line that fits it anew, on more rows of one's own.
        serve: the settings file of the proxy.
        keyed: whether it needs a key.
    """

    python: str
    again: str
    serve: str
    keyed: bool


def deployment(
    options: Mapping[str, Any], file: bytes, classes: Sequence[str], k: int
) -> Deployment:
    """What deploys a defense that lies beside the page.

    Args:
        options: of the method that made it: "objective" and "budget", "decimals", or "mean_l1".
        file: the saved defense.
        classes: names of the classes, or empty.
        k: how many there are.
    """
    defense, keyed = _loaded(file)
    read = f', key=mp.Key.from_env("{_VARIABLE}")' if keyed else ""
    made = (
        '# once: mp.Key.generate("mipoison.key"); put its text into the variable\n' if keyed else ""
    )
    python = (
        "import mipoison as mp\n\n"
        f"{made}"
        f'defense = mp.load("{DEFENSE}"{read})\n'
        "# model: an nn.Module in eval mode that gives probabilities\n"
        'served = mp.Defended(model, defense, gives="probabilities")\n'
    )
    decimals = next((d for d in range(_DECIMALS, MOST_DECIMALS + 1) if _fits(defense, d, k)), None)
    return Deployment(python, _again(options, read), _serve(keyed, classes, decimals), keyed)


def _loaded(file: bytes) -> tuple[Defense, bool]:
    """A saved defense under some key, and whether it has one."""
    try:
        return load(io.BytesIO(file), key=0), True
    except ValueError:
        # (A needless key is refused.)
        return load(io.BytesIO(file)), False


def _fits(defense: Defense, decimals: int, k: int) -> bool:
    """Whether rounding leaves room in the defense's ball."""
    try:
        require_wire(defense, decimals, None, k)
    except ValueError:
        return False
    return True


def _again(options: Mapping[str, Any], read: str) -> str:
    """The line that makes the defense from one's own outputs and inputs."""
    if "objective" in options:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        return f"defense = mp.LPA.fit(outputs, inputs{given}{read})\n"
    if "decimals" in options:
        return f"defense = mp.defenses.Rounding({options['decimals']})\n"
    return (
        "from mipoison.eval.strengths import SWEEPS\n"
        f'defense = SWEEPS["high_confidence"].realise(outputs, {options["mean_l1"]!r}, key=0, seed=0)\n'
    )


def _serve(keyed: bool, classes: Sequence[str], decimals: int | None) -> str:
    key = f'key_env = "{_VARIABLE}"\n' if keyed else ""
    labels = ""
    if classes and len(classes) <= _MOST_LABELS:
        labels = (
            "# Where the server answers with objects {label: score}, in the order of the fit:\n"
            f"# labels = {json.dumps(list(classes), ensure_ascii=False)}\n"
        )
    return (
        "# mipoison serve --config serve.toml --check\n"
        "[upstream]\n"
        'url = "http://127.0.0.1:8080"         # your model server\n\n'
        "[answers]\n"
        'protocol = "v2"                       # or tfserving, mlflow, torchserve, path\n'
        f"decimals = {decimals or _FULL}\n{labels}\n"
        "[defense]\n"
        f'file = "{DEFENSE}"\n{key}\n'
        "[routes]\n"
        'defend = ["POST /v2/models/*/infer"]  # the paths that answer with vectors\n'
    )
