"""Defend the answers of a scikit-learn classifier: arrays in, arrays out."""

import secrets

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import mipoison as mp


def main() -> None:
    """Poisons the probabilities of a logistic regression on digits."""
    digits = load_digits()
    private, own = digits.data[:900] / 16, digits.data[900:] / 16
    model = LogisticRegression(max_iter=500).fit(private, digits.target[:900])

    vectors = model.predict_proba(own)
    images = own.reshape(-1, 8, 8)
    defense = mp.LPA.fit(
        vectors, images, objective="decoy", epsilon=0.1, key=secrets.token_bytes(16)
    )
    answers = defense(vectors)

    assert isinstance(answers, np.ndarray)
    assert (answers.argmax(1) == vectors.argmax(1)).all()
    print(f"largest l1: {np.abs(answers - vectors).sum(1).max():.3f}")


if __name__ == "__main__":
    main()
