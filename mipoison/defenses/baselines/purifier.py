"""Purifier (Yang et al., AAAI 2023, arXiv 2212.00612): answers are reconstructions by a variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mipoison import ops
from mipoison.adamw import AdamW
from mipoison.construction import constructor
from mipoison.defenses.base import Defense
from mipoison.defenses.baselines.noise import GaussianNoise
from mipoison.defenses.clean import as_dtype, defender_rows
from mipoison.defenses.saving import Restore
from mipoison.dtype_stable import DtypeStable
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.neutral import neutral, neutrally
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_count, as_number, as_part, as_seed
from mipoison.random import uniforms
from mipoison.reference.network import features, in_tiles, whole_lanes

_BATCH: Final = 128
_LEARNING_RATE: Final = 1e-3
# Small: the label is kept in any case, and a larger weight of its cross-entropy would sharpen the vectors.
_LABEL_WEIGHT: Final = 1e-2


def _layers(*sizes: int) -> nn.Sequential:
    """Linear layers with a ReLU in between."""
    stack: list[nn.Module] = []
    for i, (inside, outside) in enumerate(pairwise(sizes)):
        stack += [nn.ReLU()] * (i > 0) + [
            _Linear(inside, outside, dtype=torch.float32, device="cpu")
        ]
    return nn.Sequential(*stack)


class _Linear(DtypeStable, nn.Linear):
    """A linear layer that casts and dynamic quantization of a model around it leave as it is."""


class Reformer(DtypeStable):
    """The autoencoder: encoder ([p, log p], label) → code, decoder (code, label) → vector.

    All layers are whole lanes wide and rows are evaluated in tiles, so that bits do not depend on the
    batch.

    Args:
        classes: K.
        latent: size of the code; rounded up to a multiple of 32.
        width: units of the hidden layers; rounded up to a multiple of 32.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.
    """

    def __init__(self, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.latent, hidden = whole_lanes(latent), whole_lanes(width)
        seen = whole_lanes(2 * classes)  # as wide as `features`
        label = whole_lanes(classes)
        self.encoder = _layers(seen + label, hidden, 2 * self.latent)
        self.decoder = _layers(self.latent + label, hidden, label)

    def settings(self) -> dict[str, Any]:
        """The arguments of `restore` beside the tensors."""
        width = self.decoder[0].out_features
        return {"classes": self.classes, "latent": self.latent, "width": width}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Reformer:
        """Builds the autoencoder from the values of `settings` and `state_dict`."""
        reformer = cls(**settings)
        reformer.load_state_dict(tensors, assign=True)
        return reformer.requires_grad_(False)

    def _encoded(self, p: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code."""
        mean, spread = self.encoder(torch.cat((features(p), label), -1)).chunk(2, -1)
        return mean, spread.clamp(-10.0, 10.0)

    def _decoded(self, code: Tensor, label: Tensor) -> Tensor:
        """Logits [.., K] of the vector."""
        logits: Tensor = self.decoder(torch.cat((code, label), -1))
        return logits[..., : self.classes]

    def _hot(self, label: Tensor) -> Tensor:
        """One-hot labels in whole lanes."""
        return F.one_hot(label, whole_lanes(self.classes)).to(torch.float32)

    def loss(self, p: Tensor, normal: Tensor, divergence: float) -> Tensor:
        """Squared error of the vectors + a little cross-entropy of the label + divergence·KL of the code."""
        label = label_of(p)
        hot = self._hot(label)
        mean, spread = self._encoded(p, hot)
        logits = self._decoded(mean + (spread / 2).exp() * normal, hot)
        error = (torch.softmax(logits, -1) - p).square().sum(-1).mean()
        penalty = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(-1).mean()
        return error + _LABEL_WEIGHT * F.cross_entropy(logits, label) + divergence * penalty

    def forward(self, p: Tensor, normal: Tensor) -> Tensor:
        """Vectors reconstructed from their codes, float32 [N, K].

        Args:
            p: clean rows, float32 [N, K].
            normal: standard normal draws, float32 [N, latent].
        """
        if len(p) == 0:
            return p
        with neutral(p.device):
            drawn = []
            for rows, hot, noise in in_tiles(p, self._hot(label_of(p)), normal):
                mean, spread = self._encoded(rows, hot)
                code = mean + (spread / 2).exp() * noise
                drawn.append(torch.softmax(self._decoded(code, hot), -1))
        return torch.cat(drawn)[: len(p)]


class Purifier(Defense):
    """Moves each row toward its reconstruction by a conditional variational autoencoder, at most ε in l1.

    The code of the reconstruction is sampled by (key, row). The source also swaps labels of training
    members, against membership inference; this is left out, since the label is kept here.

    Args:
        reformer: the autoencoder; `Purifier.fit` trains one.
        epsilon: hard cap on the row's move, l1, in [0, 2]; 2 answers with the reconstruction, as
            the source does.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "Purifier"
    saved: ClassVar[tuple[str, ...]] = ("epsilon",)
    parts: ClassVar[Mapping[str, Restore | None]] = {"reformer": Reformer.restore}

    def __init__(
        self,
        reformer: Reformer,
        *,
        epsilon: float = 2.0,
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.reformer = as_part("reformer", reformer, Reformer, "Purifier.fit")
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0)
        self._key: Key = resolve_key(key)

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, "l1"

    @property
    def classes(self) -> int:
        """K of the vectors it was fitted on."""
        return self.reformer.classes

    @constructor
    @neutrally
    def fit(
        cls,
        outputs: Any,
        *,
        latent: int = 32,
        width: int = 128,
        divergence: float = 1e-3,
        epochs: int = 60,
        seed: int = 0,
        **settings: Any,
    ) -> Purifier:
        """Trains the autoencoder on the defender's vectors.

        Args:
            outputs: undefended confidence vectors of non-private data, [N, K]; tensor or array.
            latent: size of the code, ≥ 1; rounded up to a multiple of 32.
            width: units of the hidden layers, ≥ 1; rounded up likewise.
            divergence: weight ≥ 0 of the penalty on the code, its KL divergence from a standard normal.
            epochs: passes over the data, ≥ 1.
            seed: of initialisation and batches.
            settings: as in `Purifier`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, or rows that are no probability
                vectors.

        Example:
            >>> p = torch.softmax(torch.randn(64, 5), 1)
            >>> q = Purifier.fit(p, epochs=1, key=b"a secret of many bytes")(p)
            >>> bool((q.argmax(1) == p.argmax(1)).all())
            True
        """
        latent, width = as_count("latent", latent, 1), as_count("width", width, 1)
        epochs, seed = as_count("epochs", epochs, 1), as_seed(seed)
        weight = as_number("divergence", divergence, 0.0)
        rows = as_dtype(defender_rows(outputs), torch.float32)
        with torch.inference_mode(False), torch.enable_grad():
            rows = rows.clone()
            # Made before training, so that a wrong setting is found first.
            made = cls(_untrained(rows, latent, width, seed), **settings)
            _train(made.reformer, rows, weight, epochs, seed)
        return made

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        label = label_of(p)
        u = uniforms(ops.row_bits(p, key=self._key, words=self.reformer.latent))
        normal = GaussianNoise.quantile(u).to(torch.float32)
        drawn = self.reformer(as_dtype(p, torch.float32, label), normal).to(torch.float64)
        kept = as_dtype(ops.project(drawn, label=label, validate=False), p.dtype, label)
        return ops.move(p, kept, epsilon=self.epsilon, validate=False)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"epsilon={self.epsilon:g}"


def _untrained(rows: Tensor, latent: int, width: int, seed: int) -> Reformer:
    """An autoencoder for rows [N, K]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reformer(rows.shape[1], latent, width).to(rows.device)


def _train(reformer: Reformer, rows: Tensor, divergence: float, epochs: int, seed: int) -> None:
    """Trains the autoencoder on clean rows, float32 [N, K]."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = AdamW(reformer.parameters(), rate=_LEARNING_RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator, device="cpu").split(_BATCH):
            seen = rows[batch.to(rows.device)]
            normal = torch.randn(
                (len(seen), reformer.latent), generator=generator, dtype=torch.float32, device="cpu"
            )
            optimizer.step(reformer.loss(seen, normal.to(rows.device), divergence))
    reformer.requires_grad_(False)
