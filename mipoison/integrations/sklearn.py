"""Defend the probabilities of a scikit-learn classifier."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from mipoison.defenses import LPA
from mipoison.defenses.wire import on_the_wire, require_wire
from mipoison.integrations.fitting import fitted, require_settings
from mipoison.integrations.sealed import Sealed
from mipoison.ops.numbers import as_number


class DefendedClassifier(Sealed, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that answers with defended probabilities, and with labels read from them.

    Args:
        estimator: a classifier with `predict_proba`, or a Pipeline. `estimator_` is the fitted one, undefended.
        defense: a fitted one, a `Deferred`, or a class whose `fit` makes one.
        options: further arguments of that fit, such as {"budget": 0.1}.
        held_out: share in (0, 1) of the rows given to `fit` that fit the defense and not the classifier. Answers
            reveal such rows, so that none may be private. None: they are given as `defender`.
        key: of a defense to be fitted; bytes and ints become a `Key`, with which this cannot be pickled.
        key_env: in its place the variable that holds it, which `fit` and unpickling read.
        decimals: see `Defended`.
    """

    def __init__(
        self,
        estimator: Any,
        defense: Any = LPA,
        *,
        options: dict[str, Any] | None = None,
        held_out: float | None = None,
        key: Any = None,
        key_env: str | None = None,
        decimals: int | None = None,
    ) -> None:
        self.estimator, self.defense, self.options = estimator, defense, options
        self.held_out, self.key, self.key_env, self.decimals = held_out, key, key_env, decimals

    def fit(self, X: Any, y: Any, defender: Any = None) -> DefendedClassifier:
        """Fits the classifier to X and y, and a defense to inputs of the defender's own, none of them in X.

        Args:
            X: inputs, [N, ...], as the classifier takes them.
            y: their classes, [N].
            defender: inputs of the defender's own, [M, ...]; None with `held_out` or a fitted defense.

        Raises:
            TypeError: for a wrong kind of setting.
            ValueError: for settings that do not go together, classes that are none, or a share out of (0, 1).
        """
        self.require_sealed()
        secret = {"options": self.options, "key": self.key, "key_env": self.key_env}
        require_settings(self.defense, held_out=self.held_out, defender=defender, **secret)
        check_classification_targets(y)
        share = self.held_out
        if share is not None and as_number("held_out", share, 0.0, 1.0, open_low=True) == 1.0:
            raise ValueError(
                f"expected held_out to be a share below 1, got {share!r}; pass .2 for a fifth of the rows"
            )
        if self.held_out is not None:
            X, defender, y, _ = train_test_split(
                X, y, test_size=self.held_out, stratify=y, random_state=0
            )
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.estimator_.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        self.defense_, outputs_of = self.defense, self.estimator_.predict_proba
        if isinstance(self.defense, type):
            self.defense_ = fitted(self.defense, outputs_of, defender, **secret)
        require_wire(self.defense_, self.decimals, None, len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> Any:
        """Defended probabilities [N, K] of inputs X, [N, ...].

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: for another K than the defense was fitted on, or what the classifier refuses.
        """
        check_is_fitted(self)
        return on_the_wire(self.defense_, self.estimator_.predict_proba(X), decimals=self.decimals)

    def predict(self, X: Any) -> Any:
        """The labels that the defended probabilities of inputs X tell, [N]; but for an LFP the classifier's own."""
        labels = self.predict_proba(X).argmax(axis=1)
        return self.classes_[labels]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags
