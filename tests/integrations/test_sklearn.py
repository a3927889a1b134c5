"""`DefendedClassifier` against scikit-learn's own checks, and what it promises beyond them."""

from __future__ import annotations

import copy
import pickle
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="needs scikit-learn >= 1.6")

from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import mipoison as mp
from mipoison.defenses import Rounding
from mipoison.defenses.lpa.direction import Direction
from mipoison.integrations.sklearn import DefendedClassifier

SECRET, VARIABLE = secrets.token_hex(32), "KEY_OF_THE_SKLEARN_TESTS"
DIRECTION = {"objective": "direction", "epsilon": 0.1}
LINEAR = make_pipeline(StandardScaler(), LogisticRegression())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a saved defense is."""
    path = tmp_path_factory.mktemp("saved")
    mp.LPA(Direction(), epsilon=0.1, key=0).save(path / "lpa.safetensors")
    return path


@pytest.fixture(autouse=True)
def _deployment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    monkeypatch.chdir(folder)


# One of the checks hashes what an estimator was given, which a key refuses. The path is relative, since the names of
# tests have to be alike in all processes.
@parametrize_with_checks(
    [
        DefendedClassifier(LogisticRegression(), mp.Deferred("lpa.safetensors", key_env=VARIABLE)),
        DefendedClassifier(GaussianNB(), options=DIRECTION, held_out=0.3, key_env=VARIABLE),
    ]
)
def test_sklearns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def iris() -> tuple[Any, Any, Any]:
    """Inputs and labels, and inputs of the defender's own: every third row."""
    X, y = load_iris(return_X_y=True)
    own = np.arange(len(X)) % 3 == 0
    return X[~own], y[~own], X[own]


def defended(estimator: Any = LINEAR, **settings: Any) -> DefendedClassifier:
    X, y, own = iris()
    settings = {"options": DIRECTION, "key_env": VARIABLE} | settings
    return DefendedClassifier(estimator, **settings).fit(X, y, defender=own)


def test_probabilities_are_the_defenses_answers() -> None:
    X, y, own = iris()
    fitted = defended()
    p, q = fitted.estimator_.predict_proba(X), fitted.predict_proba(X)
    key = mp.Key.from_env(VARIABLE)
    expected = mp.LPA.fit(fitted.estimator_.predict_proba(own), own, key=key, **DIRECTION)
    assert np.array_equal(q, expected(p)) and (np.abs(q - p).sum(1) > 0.01).all()
    assert (fitted.predict(X) == fitted.estimator_.predict(X)).all()
    assert fitted.score(X, y) == LINEAR.fit(X, y).score(X, y)


def test_other_methods_of_the_classifier_are_not_reached() -> None:
    fitted = defended(LogisticRegression())
    public = {name for name in dir(fitted.estimator_) if not name.startswith("_")}
    told = {name for name in public if hasattr(fitted, name)}
    assert {"decision_function", "predict_log_proba", "coef_"} <= public - told
    own = {"fit", "predict", "predict_proba", "score", "classes_", "n_features_in_"}
    of_settings = {"get_params", "set_params", "get_metadata_routing"}
    assert told == own | of_settings | {"set_fit_request", "set_score_request"}


def test_lfp_labels_are_those_of_its_probabilities() -> None:
    X, _, _ = iris()
    fitted = defended(defense=mp.LFP, options={"rate": 0.3, "rows": "random", "targets": "random"})
    labels = fitted.predict(X)
    assert (labels == fitted.classes_[fitted.predict_proba(X).argmax(1)]).all()
    assert 0 < (labels != fitted.estimator_.predict(X)).mean() < 0.6


class Recording(GaussianNB):
    """Keeps the rows that it is trained on, and those that it is asked about."""

    def fit(self, X: Any, y: Any) -> Recording:
        self.trained_ = X
        return super().fit(X, y)

    def predict_proba(self, X: Any) -> Any:
        vars(self).setdefault("asked_", X)
        return super().predict_proba(X)


def test_held_out_rows_fit_the_defense_alone() -> None:
    X, y = np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 3
    settings = {"options": DIRECTION, "held_out": 1 / 3, "key_env": VARIABLE}
    fitted = DefendedClassifier(Recording(), **settings).fit(X, y)
    trained, asked = (
        {tuple(row) for row in rows}
        for rows in (fitted.estimator_.trained_, fitted.estimator_.asked_)
    )
    assert (len(trained), len(asked)) == (60, 30)
    assert trained | asked == {tuple(row) for row in X}


def test_decimals_sum_to_one() -> None:
    X, _, _ = iris()
    thousandths = defended(decimals=3).predict_proba(X) * 1000
    assert np.allclose(thousandths, thousandths.round(), atol=1e-9)
    assert (thousandths.round().astype(int).sum(1) == 1000).all()


def test_clone_has_the_same_fitted_defense() -> None:
    X, y, own = iris()
    outputs = LINEAR.fit(X, y).predict_proba(own)
    defense = mp.LPA.fit(outputs, own, objective="decoy", epsilon=0.1, key=0)
    given = DefendedClassifier(LINEAR, defense)
    assert np.array_equal(clone(given).fit(X, y).predict_proba(X), given.fit(X, y).predict_proba(X))


def test_in_a_pipeline() -> None:
    X, y, _ = iris()
    settings = {"options": DIRECTION, "held_out": 0.3, "key_env": VARIABLE}
    inner = DefendedClassifier(LogisticRegression(), **settings)
    pipeline = make_pipeline(StandardScaler(), inner).fit(X, y)
    scaled = pipeline[0].transform(X)
    assert np.array_equal(pipeline.predict_proba(X), pipeline[1].predict_proba(scaled))
    assert pipeline.score(X, y) > 0.9


def test_grid_search() -> None:
    X, y, own = iris()
    grid = {
        "options": [DIRECTION | {"epsilon": epsilon} for epsilon in (0.1, 0.2)],
        "estimator__logisticregression__C": [0.1, 1.0],
    }
    given = DefendedClassifier(LINEAR, key_env=VARIABLE)
    search = GridSearchCV(given, grid, cv=2, scoring="neg_log_loss").fit(X, y, defender=own)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert search.best_estimator_.defense_.epsilon == search.best_params_["options"]["epsilon"]
    assert np.array_equal(search.predict_proba(X), search.best_estimator_.predict_proba(X))


def test_inputs_of_several_kinds() -> None:
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    X, y, own = iris()
    expected = defended().predict_proba(X)
    table, own_table = pandas.DataFrame(X).add_prefix("x"), pandas.DataFrame(own).add_prefix("x")
    settings: dict[str, Any] = {"options": DIRECTION, "key_env": VARIABLE}
    of_table = DefendedClassifier(LINEAR, **settings).fit(table, y, defender=own_table)
    np.testing.assert_allclose(of_table.predict_proba(table), expected, rtol=0, atol=1e-9)
    assert list(of_table.feature_names_in_) == ["x0", "x1", "x2", "x3"]
    of_sparse = DefendedClassifier(LogisticRegression(), **settings)
    of_sparse.fit(sparse.csr_matrix(X), y, defender=sparse.csr_matrix(own))
    assert of_sparse.predict_proba(sparse.csr_matrix(X)).shape == (100, 3)


# The key.


def shown(given: Any) -> str:
    return f"{given!r} {given} {given._repr_html_()} {given.get_params()} {vars(given)}"


def texts_of(secret: bytes) -> list[str]:
    """The secret as it could show, and the words that it is hashed to."""
    return [secret.hex(), repr(secret)[2:-1], *map(str, mp.Key(secret).words)]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, mp.Key])
def test_key_does_not_show(kind: type) -> None:
    secret = secrets.token_bytes(16)
    for given in (
        defended(key=kind(secret), key_env=None),
        defended().set_params(key=kind(secret)),
        clone(DefendedClassifier(LINEAR, key=kind(secret))),
    ):
        assert not any(text in shown(given) for text in texts_of(secret))


def test_key_itself_is_not_pickled() -> None:
    X, _, _ = iris()
    fitted = defended(key=secrets.token_bytes(16), key_env=None)
    for given in (fitted, DefendedClassifier(LINEAR, key=b"a secret of many bytes")):
        with pytest.raises(TypeError, match=r"expected key_env to pickle .*, got the key itself"):
            pickle.dumps(given)
    # One key a process: another would answer otherwise.
    with pytest.raises(TypeError, match=r"expected key_env to pickle .*, got none"):
        pickle.dumps(defended(key_env=None))
    assert np.array_equal(fitted.predict_proba(X), fitted.predict_proba(X))


def test_pickled_with_the_name_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _, _ = iris()
    fitted = defended(options={"epsilon": 0.2, "objective": "decoy"})
    pickled = pickle.dumps(fitted)
    assert not any(text.encode() in pickled for text in texts_of(bytes.fromhex(SECRET)))
    assert bytes.fromhex(SECRET) not in pickled
    for given in (pickle.loads(pickled), copy.deepcopy(fitted)):
        assert np.array_equal(given.predict_proba(X), fitted.predict_proba(X))
    other = secrets.token_hex(32)
    monkeypatch.setenv(VARIABLE, other)
    with pytest.raises(
        ValueError, match=rf"fingerprint [0-9a-f]{{16}} .* {VARIABLE}, got [0-9a-f]"
    ) as caught:
        pickle.loads(pickled)
    assert other not in str(caught.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ValueError, match=f"environment variable {VARIABLE}, got none"):
        pickle.loads(pickled)


def test_defense_without_a_key_is_pickled() -> None:
    X, _, _ = iris()
    codebook = defended(options={"objective": "codebook"}, key_env=None)
    for fitted in (codebook, DefendedClassifier(LINEAR, Rounding(2)).fit(*iris()[:2])):
        again = pickle.loads(pickle.dumps(fitted))
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


# What is refused.


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({}, ValueError, "expected rows to fit the defense on, got none"),
        ({"held_out": 0.2, "defender": True}, ValueError, "got defender and held_out"),
        ({"held_out": 5}, ValueError, r"expected held_out in \(0, 1\]"),
        ({"held_out": 0}, ValueError, r"expected held_out in \(0, 1\]"),
        ({"held_out": 1.0}, ValueError, "expected held_out to be a share below 1"),
        ({"held_out": "0.2"}, TypeError, "held_out"),
        (
            {"defense": Rounding(2), "defender": True},
            ValueError,
            "beside a fitted one, got defender",
        ),
        ({"defense": Rounding(2), "key_env": VARIABLE}, ValueError, "got key_env; leave it out"),
        ({"defense": Rounding(2), "options": {}}, ValueError, "got options; leave it out"),
        ({"defense": "lpa"}, TypeError, "a class with a fit such as mipoison.LPA, got str"),
        ({"defense": Rounding}, TypeError, "a class with a fit such as mipoison.LPA, got Rounding"),
        ({"key": 1, "key_env": VARIABLE, "defender": True}, ValueError, "key or key_env, got both"),
        ({"key": [1], "defender": True}, TypeError, "expected key to be an int, bytes or None"),
        ({"key_env": "NOT_SET_AT_ALL", "defender": True}, ValueError, "NOT_SET_AT_ALL, got none"),
        ({"options": {"wish": 1}, "defender": True}, TypeError, "unexpected keyword argument"),
        ({"estimator": LinearSVC(), "defender": True}, AttributeError, "predict_proba"),
        ({"defense": Rounding(2), "decimals": 12}, ValueError, r"expected decimals in \[1, 9\]"),
    ],
    ids=str,
)
def test_refused(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    X, y, own = iris()
    settings = {"estimator": LINEAR} | settings
    defender = own if settings.pop("defender", False) else None
    with pytest.raises(error, match=said):
        DefendedClassifier(**settings).fit(X, y, defender=defender)


def test_secret_in_the_place_of_a_name_is_refused_unseen() -> None:
    for given in ({"key": SECRET}, {"key_env": SECRET}, {"key_env": f"{VARIABLE}={SECRET}"}):
        with pytest.raises(ValueError, match="name of the environment variable") as caught:
            DefendedClassifier(LINEAR, **given)  # type: ignore[arg-type]
        assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="expected no key in options") as caught:
        DefendedClassifier(LINEAR, options={"key": SECRET})
    assert SECRET not in str(caught.value)
    X, y, own = iris()
    text = "correct horse battery staple"
    worded = DefendedClassifier(LINEAR, key=text)
    assert text not in shown(worded) and text not in shown(clone(worded))
    with pytest.raises(TypeError, match=r"expected key to be .* got a text, which would show"):
        worded.fit(X, y, defender=own)
    fitted = defended()
    for later in (DefendedClassifier(LINEAR, options=dict(DIRECTION), key_env=VARIABLE), fitted):
        later.options["key"] = SECRET
        with pytest.raises(ValueError, match="expected no key in options"):
            later.fit(X, y, defender=own)
    with pytest.raises(ValueError, match="expected no key in options"):
        pickle.dumps(fitted)


def test_rows_that_are_no_probabilities_are_refused() -> None:
    X, y, _ = iris()

    class Wrong(GaussianNB):
        def predict_proba(self, X: Any) -> Any:
            return 2 * super().predict_proba(X)

    fitted = DefendedClassifier(Wrong(), Rounding(2)).fit(X, y)
    with pytest.raises(ValueError, match="expected outputs to be probability vectors"):
        fitted.predict(X)


def test_defense_of_other_classes_is_refused() -> None:
    X, y, _ = iris()
    of_four = np.eye(4)[np.arange(40) % 4] * 0.6 + 0.1
    other = mp.LPA.fit(of_four, np.arange(40.0), objective="decoy", epsilon=0.1, key=0)
    fitted = DefendedClassifier(LINEAR, defense=other).fit(X, y)
    with pytest.raises(ValueError, match="expected outputs with K=4 classes, as fitted, got K=3"):
        fitted.predict_proba(X)
