"""Say of a fitted defense what is proved of its answers, which objective it kept, and what its file holds."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from mipoison.audit.measure.setting import Setting
from mipoison.certificates import certify
from mipoison.defenses.base import Defense
from mipoison.defenses.lpa import AUTO, LPA
from mipoison.defenses.lpa.codebook import Codebook
from mipoison.defenses.lpa.cutoff import Cutoff
from mipoison.eval.methods import Defense as Served
from mipoison.eval.methods import Method


def certificate(
    setting: Setting, defense: Served, queries: Tensor, served: Tensor
) -> dict[str, Any] | None:
    """What holds against every adversary, on rows that the defense was not fitted on; None: nothing.

    Args:
        setting: whose rows.
        defense: what answered.
        queries: its answers to the auxiliary rows, [n, K].
        served: its answers to the victims, [M, K].
    """
    parties, answers = [setting.auxiliary, setting.victims], [queries, served]
    if not isinstance(defense, LPA) or isinstance(defense.objective, Codebook | Cutoff):
        # (Their answers come cheap, and are often few.)
        parties.append(setting.rest)
        answers.append(defense(setting.rest.outputs).float())
    x = torch.cat([party.inputs for party in parties])
    made = certify(
        torch.cat(answers),
        torch.cat([party.outputs for party in parties]),
        x,
        groups=torch.cat([party.groups for party in parties]),
        low=float(x.min()) - 1.0,
        high=float(x.max()) + 1.0,
    )
    if made.mse <= 0:
        return None
    return {
        name: getattr(made, name)
        for name in ("mse", "mse_seen", "label_mse_seen", "confidence", "rows", "answers", "alone")
    }


def kept(method: Method, defense: Served) -> str | None:
    """The objective that a fit chose; None where the method names one."""
    if dict(method.options).get("objective") != AUTO or not isinstance(defense, LPA):
        return None
    return defense.objective.name


def saved(defense: Served) -> bytes:
    """The file of a defense, without its key; empty where it has none."""
    if not isinstance(defense, Defense):
        return b""
    file = io.BytesIO()
    defense.save(file)
    return file.getvalue()
