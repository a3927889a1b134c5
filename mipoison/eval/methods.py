"""Name the defenses that an experiment can compare, and build them from the defender's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from torch import Tensor

Defense = Callable[[Tensor], Tensor]
Options = dict[str, float | str]


@dataclass(frozen=True)
class Method:
    """One row of the comparison: a way to build a defense, with its strength.

    Attributes:
        name: how reports call it; unique within an experiment.
        family: rows of one family are one curve, swept over strength.
        builder: a key of `BUILDERS`.
        options: keyword arguments of the builder, as pairs, so that a method stays hashable.
        label_preserving: whether the defense promises that no label changes.
    """

    name: str
    family: str
    builder: str
    options: tuple[tuple[str, float | str], ...] = ()
    label_preserving: bool = True

    def build(self, outputs: Tensor, inputs: Tensor, *, key: int, seed: int) -> Defense:
        """Fits the defense on the defender's own vectors ``[n, K]`` and inputs ``[n, D]``.

        Args:
            outputs: undefended vectors of the defender's data.
            inputs: that data.
            key: the deployment's secret.
            seed: of a surrogate's training.

        Returns:
            A function from served to defended vectors.

        Raises:
            ValueError: if the builder is unknown.
        """
        if self.builder not in BUILDERS:
            raise ValueError(
                f"method {self.name!r}: expected a builder out of {sorted(BUILDERS)}, "
                f"got {self.builder!r}"
            )
        return BUILDERS[self.builder](outputs, inputs, key, seed, dict(self.options))


def _nothing(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    return lambda served: served


def _label_only(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import LabelOnly

    return LabelOnly()


def _rounding(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import Rounding

    return Rounding(decimals=int(options["decimals"]))


def _laplace(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import LaplaceNoise

    return noise_of_mean_l1(
        lambda scale: LaplaceNoise(scale=scale, key=key), outputs, float(options["mean_l1"])
    )


def _gaussian(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import GaussianNoise

    return noise_of_mean_l1(
        lambda scale: GaussianNoise(scale=scale, key=key), outputs, float(options["mean_l1"])
    )


def _lpa(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import LPA

    given = {name: float(options[name]) for name in ("epsilon", "budget") if name in options}
    return LPA.fit(
        outputs,
        inputs,
        objective=str(options["objective"]),
        epsilon=given.get("epsilon"),
        budget=given.get("budget"),
        norm="l1",
        key=key,
        seed=seed,
    )


def _lfp(outputs: Tensor, inputs: Tensor, key: int, seed: int, options: Options) -> Defense:
    from mipoison.defenses import LFP

    return LFP.fit(
        outputs,
        inputs,
        rate=float(options["rate"]),
        rows=str(options["rows"]),
        targets=str(options["targets"]),
        key=key,
        seed=seed,
    )


BUILDERS: Mapping[str, Callable[[Tensor, Tensor, int, int, Options], Defense]] = {
    "none": _nothing,
    "label_only": _label_only,
    "rounding": _rounding,
    "laplace": _laplace,
    "gaussian": _gaussian,
    "lpa": _lpa,
    "lfp": _lfp,
}


def noise_of_mean_l1(
    make: Callable[[float], Defense], outputs: Tensor, mean_l1: float, *, rounds: int = 14
) -> Defense:
    """Finds the noise scale whose mean l1 on the defender's vectors is the one asked for.

    A nominal scale says little about the distortion that arrives once the label is kept and the
    row is back on the simplex; defenses are compared at equal realised distortion.

    Args:
        make: scale to defense.
        outputs: the defender's vectors, ``[n, K]``.
        mean_l1: mean l1 distance to realise; if no scale up to 100 reaches it, 100 is taken.
        rounds: halvings of the scale's interval, on a logarithmic axis from 1e-5 to 100.

    Returns:
        The defense of that scale.

    Example:
        >>> import torch
        >>> shift = lambda scale: (lambda p: p + scale)
        >>> noise_of_mean_l1(shift, torch.zeros(1, 2), 0.2, rounds=40)(torch.zeros(1))
        tensor([0.1000])
    """
    low, high = 1e-5, 100.0
    for _ in range(rounds):
        middle = (low * high) ** 0.5
        moved = float((make(middle)(outputs) - outputs).abs().sum(-1).mean())
        low, high = (middle, high) if moved < mean_l1 else (low, middle)
    return make(high)


def time_per_row(defense: Defense, outputs: Tensor) -> tuple[Tensor, float]:
    """Defends all rows in one call and returns them with the seconds that one row took.

    A first call on a few rows, not timed, pays for whatever is set up once.
    """
    defense(outputs[:8])
    start = perf_counter()
    defended = defense(outputs)
    return defended.detach(), (perf_counter() - start) / len(outputs)
