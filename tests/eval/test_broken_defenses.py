"""A defense that is broken on purpose is caught: its gain collapses under the adversary that should see it."""

import itertools
from dataclasses import astuple
from typing import NamedTuple

import pytest
import torch

from mipoison import row_bits
from mipoison.certificates import Certificate, certify
from mipoison.defenses import LPA, LabelOnly, LaplaceNoise, Temperature
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.codebook import Codebook, padded
from mipoison.defenses.lpa.frontier import Frontier
from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.base import STANDARD
from mipoison.eval.adversaries.recovery import attack_denoised
from mipoison.eval.adversaries.repeated import averaged, deployed
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.data.splits import joined
from mipoison.eval.metrics import RowGain, gain, row_gain
from mipoison.eval.presets import DEMO
from mipoison.eval.run.cell import prepare
from mipoison.eval.targets.training import serve
from mipoison.progress import Progress

SEED, TEMPERATURE, KEY = 100, 3.0, 11
# Half the adversary's effort: what is to be seen here is larger than what the rest would add.
EFFORT = AdversarySettings(epochs=15, wide_epochs=20)
COPIES = 32
UNTOLD = Progress(None)


class Judged(NamedTuple):
    """What is left of one defense: gains, their spread over the victims, a certificate and the strongest's error."""

    standard: float
    adaptive: float
    rows: RowGain
    denoised: RowGain
    certified: Certificate
    error: float
    deviation: float


def leaky(served):
    """The label alone, but for one row in ten, by its own bits: it leaves as it came."""
    spared = row_bits(served, key=5, words=1)[:, 0] < 2**32 // 10
    return torch.where(spared.unsqueeze(1), served, LabelOnly()(served))


def fresh_noise(scale):
    """Laplace noise under a new key at every call: what keying is there to prevent."""
    keys = itertools.count()
    return lambda served: LaplaceNoise(scale=scale, key=next(keys))(served)


@pytest.fixture(scope="module")
def judged():
    """Whole and broken defenses by name, all attacked alike."""
    setup = prepare(DEMO, SEED)
    parts = setup.parts
    own = serve(setup.model, parts.defender.inputs, temperature=TEMPERATURE)
    whole = LPA.fit(
        own, parts.defender.inputs, objective="equilibrium", budget=0.2, key=KEY, seed=SEED
    )
    frontier = Frontier.of(
        own, parts.defender.inputs, Aim(2.0, "l1", 1e-3, None, None, "root", 0), UNTOLD
    )
    words = frontier.codewords(float(frontier.limits().median()))
    book = LPA(Codebook(padded(words)), epsilon=2.0)
    keyed = LaplaceNoise(scale=0.05, key=KEY)
    # Each with how often the adversary asks every query, and sees every victim's answer.
    systems = {
        "none": (lambda served: served, 1),
        "whole": (whole, 1),
        "identity": (lambda served: served.clone(), 1),
        "label-only": (LabelOnly(), 1),
        "codebook": (book, 1),
        "label-only, leaky": (leaky, 1),
        # Keeps every label and can be undone, but hides what it tells below the usual floor.
        "sharpened": (Temperature(temperature=1 / 6), 1),
        "keyed noise": (keyed, 1),
        "keyed noise, repeated": (keyed, COPIES),
        "fresh noise": (fresh_noise(0.05), 1),
        "fresh noise, repeated": (fresh_noise(0.05), COPIES),
    }

    def asked(role):
        answers = []
        for defense, copies in systems.values():
            ask = deployed(setup.model, defense, temperature=TEMPERATURE)
            answers.append(averaged(ask, role.inputs, copies=(copies,), jitter=0.0, seed=0)[copies])
        return torch.stack(answers)

    queries, served = asked(parts.auxiliary), asked(parts.victims)
    known = (queries, parts.auxiliary, served, parts.victims)
    made = attack(EFFORT, *known, seed=SEED)
    denoised = attack_denoised(EFFORT, made, 0, *known, seed=SEED)
    ceiling = float(made.errors["label only"][0].mean())

    def mean_gain(errors, system, bare):
        return gain(float(errors[system].mean()), float(bare.mean()), ceiling)

    standard, bare = made.errors[STANDARD], made.errors[made.strongest(0)][0]
    held = joined(parts.auxiliary, parts.victims)
    answers = torch.cat((queries, served), 1)

    def certificate(system):
        return certify(answers[system], answers[0], held.inputs, groups=held.rows)

    def of_strongest(system):
        return made.errors[made.strongest(system)][system]

    return {
        name: Judged(
            mean_gain(standard, system, standard[0]),
            mean_gain(made.errors[made.strongest(system)], system, bare),
            row_gain(made.errors[made.strongest(system)][system], bare, ceiling),
            row_gain(
                denoised.errors[denoised.strongest(system)][system],
                denoised.errors[denoised.strongest(0)][0],
                ceiling,
            ),
            certificate(system),
            float(of_strongest(system).mean()),
            float(of_strongest(system).std()) / len(parts.victims) ** 0.5,
        )
        for system, name in enumerate(systems)
    }


def test_the_whole_defense_gains(judged):
    assert min(judged["whole"].standard, judged["whole"].adaptive) > 0.6


def test_the_identity_gains_nothing(judged):
    identity = judged["identity"]
    assert (identity.standard, identity.adaptive) == (0.0, 0.0)
    for rows in identity.rows, identity.denoised:
        assert rows.median == rows.worst_decile == pytest.approx(0.0, abs=1e-3)


def test_what_can_be_undone_gains_nothing(judged):
    assert judged["sharpened"].standard > 0.3 > 0.1 > judged["sharpened"].adaptive


def test_the_denoiser_sees_rows_that_were_spared(judged):
    whole, spared = judged["label-only"], judged["label-only, leaky"]
    # Who learns from defended vectors alone meets too few of them, and the mean would hide them anyway.
    assert spared.adaptive > 0.9
    assert spared.denoised.worst_decile < 0.05 < 0.15 < whole.denoised.worst_decile


def test_repeats_remove_fresh_noise_and_no_keyed_one(judged):
    once, repeated = judged["keyed noise"], judged["keyed noise, repeated"]
    # The systems' denoisers are trained in one batch of matrix products, whose entries round alike on some processors
    # only.
    assert repeated._replace(denoised=once.denoised) == once
    assert astuple(repeated.denoised) == pytest.approx(astuple(once.denoised), abs=1e-5)
    assert judged["fresh noise, repeated"].adaptive < judged["fresh noise"].adaptive / 2


@pytest.mark.parametrize("name", ["label-only", "codebook"])
def test_no_adversary_beats_a_certificate(judged, name):
    found = judged[name]
    assert found.certified.mse > judged["none"].error
    assert found.error > found.certified.mse - found.deviation


def test_what_tells_every_row_apart_has_no_certificate(judged):
    for name in ("none", "keyed noise", "fresh noise"):
        assert judged[name].certified.mse == 0
    # A few rows move as far as one bank vector, and share it: too few for a certificate of any gain.
    whole = judged["whole"].certified
    assert whole.alone > 0.5 and whole.mse < judged["none"].error / 2
