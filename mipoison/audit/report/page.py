"""Write an audit's page: the verdict first, then pictures or attributes, the defenses, how to deploy one, the data."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from mipoison.audit.evidence import Evidence
from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import Measured
from mipoison.audit.report.deploy import DEFENSE, SERVE, Deployment
from mipoison.audit.report.words import advice, percent, spread
from mipoison.eval.presets import LABEL_ONLY, NONE
from mipoison.eval.report.figures import own_style, png_of, victims
from mipoison.eval.report.glossary import TERMS
from mipoison.eval.report.tables import Table

Pixels: TypeAlias = npt.NDArray[np.float32]
_BARE, _LABEL = NONE.name, LABEL_ONLY.name
# Of skipped files and rows, those that are named.
_NAMED: Final = 20
_TERMS: Final = (
    *("gain", "g2", "g3", "median", "worst tenth", "denoiser", "all", "certified"),
    *("label-only ceiling", "l1", "fit, µs"),
)
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "*")


def compose(
    evidence: Evidence,
    content: Mapping[str, Any],
    setting: Setting,
    measured: Mapping[str, Measured],
    deployed: Deployment | None,
) -> str:
    """The page.

    Args:
        evidence: inputs and vectors.
        content: of audit.json.
        setting: the first seed's rows.
        measured: the first seed's systems, for the pictures.
        deployed: how to deploy the recommended defense; None: none is recommended.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("mipoison.audit.report"), PackageLoader("mipoison.eval.report")]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_together,
    )
    systems, chosen = content["systems"], content["recommended"]
    recommended = _called(chosen, systems[chosen]) if chosen else ""
    return environment.get_template("audit.html").render(
        content=content,
        verdict=content["verdict"],
        spread=spread(content["verdict"], content["roles"]["victims"]),
        advice=advice(
            chosen,
            systems.get(chosen),
            content["verdict"],
            shown=recommended,
        ),
        recommended=recommended,
        pictures=_png(_pictures(evidence, setting, measured, chosen)),
        attributes=_attributes(evidence, content),
        curve=_png(_curve(content)),
        defenses=_defenses(content),
        failed=_failed(content),
        changed=[
            _called(name, one)
            for name, one in systems.items()
            if one.get("utility", {}).get("labels_changed", 0) > 0
        ],
        variants=_variants(content),
        deployed=deployed,
        files={"defense": DEFENSE, "serve": SERVE},
        named=content["skipped"][:_NAMED],
        more=max(0, len(content["skipped"]) - _NAMED),
        terms=[term for term in TERMS if term.name in _TERMS],
    )


def _together(printed: Any) -> Any:
    """Keeps percent signs beside their numbers."""
    return printed.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(printed, str) else printed


def _called(name: str, one: Mapping[str, Any]) -> str:
    """How the page calls a system: its family, and its budget or setting."""
    if name == _BARE:
        return "no defense"
    if one["budget"] is not None:
        kept = f"kept {one['kept']}, " if one.get("kept") else ""
        return f"{one['family']} ({kept}budget {one['budget']:g})"
    if "decimals" in one["options"]:
        return f"rounding to {one['options']['decimals']} decimals"
    return (
        "LPA codebook (one answer a label)" if "objective" in one["options"] else str(one["family"])
    )


def _family(one: Mapping[str, Any]) -> str:
    """The kind of a defense, and what it chose where it chooses."""
    kept = one.get("kept")
    return f"{one['family']} ({kept})" if kept else str(one["family"])


def _png(figure: Figure | None) -> str | None:
    if figure is None:
        return None
    with own_style():
        return base64.b64encode(png_of(figure)).decode()


def _pictures(
    evidence: Evidence, setting: Setting, measured: Mapping[str, Measured], chosen: str | None
) -> Figure | None:
    """The same victims, as the strongest adversary sees them; None of anything but images."""
    if evidence.kind != "images":
        return None
    assert evidence.image_shape is not None
    height, width, channels = evidence.image_shape
    shape = (height, width) if channels == 1 else (height, width, channels)

    def images(pixels: Pixels) -> Pixels:
        shown: Pixels = np.clip(pixels[: setting.shown].reshape(-1, *shape), 0, 1)
        return shown

    rows = {"from the vectors": _BARE}
    if chosen is not None:
        rows["from defended vectors"] = chosen
    drawn = {title: images(measured[name].shown) for title, name in rows.items()}
    drawn["originals"] = images(setting.victims.inputs.numpy())
    drawn["label only"] = images(measured[_LABEL].shown)
    with own_style():
        return victims(drawn, list(rows), {}, title="Victims as the strongest adversary sees them")


def _attributes(evidence: Evidence, content: Mapping[str, Any]) -> Table | None:
    """What is told of each attribute, or of embeddings as a whole; None for images."""
    systems, chosen = content["systems"], content["recommended"]
    shown = {"vectors": _BARE, "label only": _LABEL}
    if chosen is not None:
        shown["defended vectors"] = chosen
    quality = [systems[name]["quality"] for name in shown.values()]
    if evidence.kind == "embeddings":
        rows = [
            ["cosine with the input", *(f"{one['cosine']:.2f}" for one in quality), "0.00"],
            ["explained variance (R²)", *(f"{one['r2']:.2f}" for one in quality), "0.00"],
        ]
        caption = "Mean over the victims, inputs and reconstructions taken from the mean input."
        return Table(["", *shown, "from nothing"], rows, caption)
    if evidence.kind != "table":
        return None

    def told(value: float, *, category: bool) -> str:
        return percent(value) if category else f"R² {value:.2f}"

    rows = []
    for column in evidence.columns:
        category, name = bool(column.categories), column.name
        values = [*(one["columns"][name] for one in quality), content["guessed"][name]]
        kind = f"{len(column.categories)} values" if category else "number"
        rows.append([name, *(told(value, category=category) for value in values), kind])
    caption = (
        "Of attributes with values the share of victims for whom the strongest adversary names the right one; of "
        "numbers the share of the variance that is explained (R²: 0 knows nothing, 1 everything). From nothing: the "
        "most frequent value, or the mean, of the adversary's own rows."
    )
    return Table(["attribute", *shown, "from nothing", ""], rows, caption)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _microseconds(value: float) -> str:
    """Three digits, and no powers of ten.

    Example:
        >>> _microseconds(0.1234), _microseconds(4153.1)
        ('0.123', '4153')
    """
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _failed(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What could not be fitted, and why."""
    systems = content["systems"]
    return [(_called(name, one), one["failed"]) for name, one in systems.items() if "failed" in one]


def _defenses(content: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """A table a budget, and one of what has none, with their titles."""
    systems = content["systems"]
    heads = [
        *("defense", "mean l1", "gain", "g2", "g3", "median", "worst tenth", "certified"),
        *("largest l1", "unchanged", "fit s", "µs a row"),
    ]
    tables = []
    for budget in (*content["budgets"], None):
        rows = []
        for name, one in systems.items():
            if one["budget"] != budget or name == _BARE or "failed" in one:
                continue
            used, cost = one["utility"], one["cost"]
            mark = "▸ " if name == content["recommended"] else ""
            rows.append(
                [
                    mark + (_family(one) if budget is not None else _called(name, one)),
                    f"{used['l1_mean']:.3g}",
                    *(_number(one[key]) for key in ("gain", "g2", "g3", "median", "worst_tenth")),
                    _number(one["certified_gain"]),
                    f"{used['l1_max']:.2g}",
                    percent(used["unchanged"]),
                    f"{cost['fit_seconds']:.0f}",
                    _microseconds(cost["microseconds_per_row"]),
                ]
            )
        title = "Without a budget" if budget is None else f"Budget {budget:g}"
        if rows:
            tables.append((title, Table(heads, rows, "")))
    return tables


def _variants(content: Mapping[str, Any]) -> Table:
    """Every variant's error without a defense, from the label alone and under the recommended defense."""
    systems, chosen = content["systems"], content["recommended"]
    shown = {"vectors": _BARE, "label only": _LABEL}
    if chosen is not None:
        shown["defended vectors"] = chosen
    rows = [
        [variant, *(f"{systems[name]['variants'][variant]:.4g}" for name in shown.values())]
        for variant in systems[_BARE]["variants"]
    ]
    caption = f"Mean squared error on the victims ({content['error_unit']})."
    return Table(["adversary", *shown], rows, caption)


def _curve(content: Mapping[str, Any]) -> Figure | None:
    """Gain against realised mean l1, a line a family, certified gains as dashes; None where there are no gains."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for name, one in content["systems"].items():
        if name not in (_BARE, _LABEL) and one.get("gain") is not None:
            families.setdefault(one["family"], []).append(one)
    if not families:
        return None
    with own_style():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        panel = figure.subplots()
        for place, (family, members) in enumerate(families.items()):
            color, marker = _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
            points = sorted((one["utility"]["l1_mean"], one["gain"]) for one in members)
            panel.plot(*zip(*points, strict=True), color=color, marker=marker, label=family)
            proved = [
                (one["utility"]["l1_mean"], one["certified_gain"])
                for one in members
                if one["certified_gain"] is not None
            ]
            for l1, certified in proved:
                panel.scatter(l1, certified, marker="_", s=200, linewidths=2, color=color)
        panel.axhline(1.0, color="#444444", linestyle="--", linewidth=1)
        panel.axhline(0.0, color="#999999", linewidth=0.8)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(6))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.set_xlabel("mean l1 distance that answers move")
        panel.set_ylabel("gain under the strongest adversary\n(dash: certified)")
        panel.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return figure
