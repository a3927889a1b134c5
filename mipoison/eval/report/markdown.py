"""Write an experiment's numbers as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mipoison.eval.data.catalogue import describe
from mipoison.eval.report.glossary import COLUMN_TERMS, as_markdown
from mipoison.eval.report.verdict import ahead, leak
from mipoison.eval.scores.frontier import efficient, equal_l1_cells, fresh, strongest_variant

COLUMNS = (
    "| defense | l1 | largest | g2 | g3 | certified | median | worst tenth | denoiser | all | identity | unchanged "
    "| labels changed | fit, s | µs | strongest adversary |\n" + "|---" * 16 + "|\n"
)


# Of runs whose defenses were not certified.
_UNMEASURED: Final = {"mean": None, "sd": None}


def described(configuration: Mapping[str, Any]) -> str:
    """What an experiment's data are, from its configuration in results.json."""
    return describe(configuration["dataset"], configuration["auxiliary"])


def spread(statistic: Mapping[str, Any], digits: int = 2) -> str:
    """Mean ± standard deviation, and a dash where there is none.

    Example:
        >>> spread({"mean": 0.5, "sd": 0.25}), spread({"mean": 0.5, "sd": None}, 1)
        ('0.50 ± 0.25', '0.5')
    """
    mean, sd = statistic["mean"], statistic["sd"]
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


def mean_alone(statistic: Mapping[str, Any]) -> str:
    """As `spread`, without the deviation.

    Example:
        >>> mean_alone({"mean": 0.5, "sd": 0.25}), mean_alone({"mean": None, "sd": None})
        ('0.50', '–')
    """
    return spread({"mean": statistic["mean"], "sd": None})


def with_deviation(statistic: Mapping[str, Any], digits: int = 2, *, scale: float = 1.0) -> str:
    """Formats mean ± sd times a scale, and a dash where there is none.

    Example:
        >>> with_deviation({"mean": 0.5, "sd": 0.25}, 0, scale=100)
        '50 ± 25'
    """
    return spread({part: value and value * scale for part, value in statistic.items()}, digits)


def share(statistic: Mapping[str, Any], digits: int = 0) -> str:
    """Formats a share as mean ± sd in percent, and a dash where there is none.

    Example:
        >>> share({"mean": 0.5, "sd": None}), share({"mean": None, "sd": None})
        ('50 %', '–')
    """
    shown = with_deviation(statistic, digits, scale=100)
    return shown if statistic["mean"] is None else shown + " %"


def percent(statistic: Mapping[str, Any], digits: int = 0) -> str:
    """The mean of a share, and a dash where there is none.

    Example:
        >>> percent({"mean": 0.5}), percent({"mean": None})
        ('50%', '–')
    """
    mean = statistic["mean"]
    return "–" if mean is None else f"{mean:.{digits}%}"


def row(title: str, measured: Mapping[str, Any]) -> str:
    """One line under `COLUMNS`."""
    cells = [
        title,
        spread(measured["utility.l1_mean"], 3),
        f"{measured['utility.l1_max']['max']:.2f}",
        *(spread(measured[name]) for name in ("standard.gain", "adaptive.gain")),
        spread(measured.get("certificate.gain", _UNMEASURED)),
        *(spread(measured[f"adaptive.{part}"]) for part in ("median", "worst_decile")),
        spread(measured["denoiser.gain"]),
        spread(measured["all.gain"]),
        percent(measured["adaptive.identity"]),
        percent(measured["utility.unchanged"]),
        f"{measured['utility.labels_changed']['max']:.0f}",
        f"{measured['cost.fit_seconds']['mean']:.1f}",
        f"{measured['cost.microseconds_per_row']['mean']:.0f}",
        strongest_variant(measured),
    ]
    return "| " + " | ".join(cells) + " |\n"


def asked_again(group: Mapping[str, Any]) -> str:
    """Warns of defenses whose randomness is fresh; nothing where there are none.

    Example:
        >>> asked_again({"defenses": {"noise": {"utility.repeats": {"min": 0.25}}}})[:52]
        'Asked again, noise answers 25% of the rows as before'
    """
    said = ", ".join(f"{name} answers {share:.0%}" for name, share in fresh(group).items())
    if not said:
        return ""
    return (
        f"Asked again, {said} of the rows as before: averaging the answers removes that, and the gains here do not "
        "count it. See --worst-cases."
    )


def equal_l1_table(group: Mapping[str, Any], methods: Sequence[Mapping[str, Any]]) -> str:
    """g3 of every family at equal realised mean l1; nothing where no method aims at one."""
    budgets, families = equal_l1_cells(group, methods)
    if not budgets:
        return ""
    lines = [
        "| family | " + " | ".join(f"{budget:g}" for budget in budgets) + " |\n",
        "|---" * (len(budgets) + 1) + "|\n",
    ]
    for family, cells in families.items():
        lines.append(f"| {family} | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def unfinished(results: Mapping[str, Any]) -> list[str]:
    """Says which cells a run lacks and why, a sentence each; nothing of one that is whole.

    Example:
        >>> run = {"complete": False, "cells_finished": 1, "cells_planned": 3}
        >>> unfinished(run | {"failed": {"seed0-T3": "RuntimeError: so"}})
        ['Not finished: 1 of 3 cells are shown.', 'Cell seed0-T3 failed: RuntimeError: so']
    """
    if results["complete"]:
        return []
    shown = f"{results['cells_finished']} of {results['cells_planned']} cells are shown"
    return [f"Not finished: {shown}."] + [
        f"Cell {name} failed: {trace.strip().splitlines()[-1]}"
        for name, trace in results["failed"].items()
    ]


_WORST_CASES: Final = {
    "other_keys": "simulates other keys",
    "key_leaked": "holds the key",
    "strongest": "does the strongest of these",
}


def worst_cases_table(group: Mapping[str, Any]) -> str:
    """g3 under repeated queries, other keys and the leaked key; nothing where no method was tried so."""
    tried = group["worst_cases"]
    if not tried:
        return ""
    keys = list(dict.fromkeys(key for case in tried.values() for key in case))
    heads = [_WORST_CASES.get(key, f"averages {key.removeprefix('copies.')}") for key in keys]
    lines = [
        f"| g3 of an adversary that | {' | '.join(heads)} |\n",
        "|---" * (len(heads) + 1) + "|\n",
    ]
    for name, case in tried.items():
        lines.append(f"| {name} | {' | '.join(spread(case[key]) for key in keys)} |\n")
    return "\n" + "".join(lines)


def summary_page(results: Mapping[str, Any]) -> str:
    """The run's main numbers on one page.

    Args:
        results: what results.json holds.
    """
    configuration, environment = results["configuration"], results["environment"]
    methods = configuration["methods"]
    parts = [
        f"# How much do the confidences leak? ({configuration['dataset']})\n\n",
        f"{described(configuration)}.\n\n{as_markdown(*COLUMN_TERMS)}",
        "\nPixels in [0, 1]. report.html defines every term.\n",
    ]
    parts += [f"\n**{said}**\n" for said in unfinished(results)]
    for temperature, group in results["summary"].items():
        bare, floors = group["defenses"]["none"], group["floors"]
        parts.append(
            f"\n## Served at T = {temperature}\n\n"
            f"{' '.join((leak(group), *ahead(group, methods)))}\n\n"
            f"Seeds {', '.join(map(str, group['seeds']))}; accuracy {percent(group['target']['accuracy'], 1)}. "
            f"Undefended MSE: standard {spread(bare['standard.mse'], 4)}, adaptive {spread(bare['adaptive.mse'], 4)}; "
            f"label only {spread(floors['label_only'], 4)}.\n\n"
        )
        parts.append(COLUMNS)
        parts += [row(method["name"], group["defenses"][method["name"]]) for method in methods]
        names = ", ".join(name for name in efficient(group, methods) if name != "none")
        parts.append(f"\nNo other keeps labels and has a larger g3 at a smaller l1: {names}.\n")
        if warning := asked_again(group):
            parts.append(f"\n**{warning}**\n")
        parts.append(worst_cases_table(group))
        table = equal_l1_table(group, methods)
        if table:
            parts.append(
                "\n**g3 at equal realised mean l1**, read off each family's curve between its measured members\n\n"
                f"{table}"
            )
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    parts.append(
        f"\n{environment['processor']}, {environment['cores']} cores, Python {environment['python']}, {versions}; "
        f"{environment['date']}.\n"
    )
    return "".join(parts)
