"""A class that a role has no row of, as a small draw may leave it, is passed over."""

import pytest
import torch

from mipoison.eval.adversaries.base import Attack
from mipoison.eval.data.splits import Images, assemble
from mipoison.eval.scores.pictures import pictures
from mipoison.eval.scores.recognition import Recognizer
from mipoison.eval.scores.victims import floors


@pytest.fixture
def parts():
    """Of three classes the private rows lack the first, and the victims the second."""
    labels = torch.tensor([1, 2, 0, 1, 0, 1, 2, 2, 0])
    inputs = torch.rand((9, 12), generator=torch.Generator().manual_seed(0))
    roles = ("private", "defender", "auxiliary", "victims")
    rows = dict(zip(roles, torch.arange(9).split([2, 2, 2, 3]), strict=True))
    return assemble(Images(inputs, labels, (3, 4)), rows)


def test_pictures_are_of_the_classes_that_victims_have(parts):
    made = parts.victims.inputs[None]
    attack = Attack({"label only": made}, {"label only": torch.zeros(1, 3)}, {}, {})
    drawn = pictures(parts, attack, ["none"], 0, shown=5)
    # The first victim of class 0 is the last row, that of class 2 the first.
    expected = parts.victims.inputs[[2, 0]].view(2, 3, 4).numpy()
    assert all((images == expected).all() for images in drawn.values()) and len(drawn) == 3


def test_a_class_without_private_rows_is_never_recognised(parts):
    recognizer = Recognizer.of(lambda inputs: inputs, parts)
    made = recognizer.judge(parts.private.inputs[[1, 1, 0]], parts.victims)
    assert made["identity"] == pytest.approx(2 / 3)


def test_the_floor_of_a_class_without_rows_is_the_mean(parts):
    inputs, private = parts.victims.inputs, parts.private.inputs
    guess = torch.stack((private[1], private[1], private.mean(0)))
    error = float((guess - inputs).square().mean())
    assert floors(parts)["class_mean"] == pytest.approx(error)
