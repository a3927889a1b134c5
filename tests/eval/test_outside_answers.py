"""The scores are found in what libraries' models answer with, and nothing is guessed."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mipoison.eval.outside import scores_in

SCORES = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
Inception = namedtuple("Inception", "logits aux_logits")


class ModelOutput(OrderedDict):
    """Keys are attributes too, as in Hugging Face's transformers."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Output:
    """Attributes alone."""

    logits: object = None
    probs: object = None


@pytest.mark.parametrize(
    "answer",
    [
        SCORES,
        SCORES.double(),
        SCORES.half(),
        SCORES.bfloat16(),
        SCORES.clone().requires_grad_(),
        SCORES.numpy(),
        SCORES.double().numpy().astype(">f8"),
        SCORES.numpy()[::-1][::-1],
        SCORES.tolist(),
        list(SCORES.numpy()),
        {"logits": SCORES, "hidden": torch.zeros(2, 2)},
        {"loss": 1.0, "probs": SCORES.numpy()},
        ModelOutput(loss=torch.tensor(1.0), logits=SCORES),
        ModelOutput(loss=None, probabilities=SCORES),
        Output(logits=SCORES, probs=torch.zeros(2, 2)),
        Output(probs=SCORES),
        Inception(SCORES, SCORES + 1),
        (SCORES,),
        (SCORES, torch.zeros(2, 7, 3)),
        [SCORES, {"hidden": 1}],
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_the_scores_are_found(answer):
    found = scores_in(answer)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(found, SCORES)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "got NoneType"),
        ("cat", "got str"),
        ((), "got tuple of nothing"),
        ({}, "got dict with nothing"),
        ({"scores": SCORES}, "got dict with scores"),
        ({"logits": None}, "got dict with logits"),
        ((SCORES, SCORES), r"got tuple of Tensor \[2, 2\], Tensor \[2, 2\]"),
        ((torch.tensor(1.0), SCORES), r"got tuple of Tensor \[\], Tensor \[2, 2\]"),
        ((torch.ones(2), torch.ones(2)), r"got tuple of Tensor \[2\], Tensor \[2\]"),
        (["cat", "dog"], "got list of str, str"),
        (SCORES.to(torch.complex64), "got Tensor of torch.complex64"),
        (np.array(["cat"]), "got ndarray of <U3"),
        (np.array([SCORES, None], dtype=object), "got ndarray of object"),
        (torch.distributions.Normal(0.0, 1.0), "got Normal"),
    ],
)
def test_what_could_be_anything_is_refused(answer, said):
    with pytest.raises(ValueError, match=rf"called logits, probs, probabilities, {said}; wrap it"):
        scores_in(answer)
