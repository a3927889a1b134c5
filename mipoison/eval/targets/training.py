"""Name the classifiers that can be defended."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipoison.adamw import AdamW
from mipoison.eval.data.splits import Role
from mipoison.eval.scalars import whole
from mipoison.eval.targets.networks import ARCHITECTURES
from mipoison.eval.targets.retraining import PLAIN, WAYS, is_way, retraining


def choices() -> str:
    """What `known` takes, for a message."""
    ways = ", ".join(f"+{way}" for way in WAYS)
    return (
        f"one of {sorted(ARCHITECTURES)}, alone or with one of {ways} (at a strength of its own: '+vib:0.1'; "
        "nls takes a number in [-1, 0), the others one >= 0)"
    )


def known(target: str) -> bool:
    """Whether a target is an architecture, or one and a way to retrain it: "cnn", "cnn+vib", "cnn+vib:0.1"."""
    name, plus, way = target.partition("+")
    return name in ARCHITECTURES and (not plus or is_way(way))


# Rows that go through a target together: convolutions at full size are large.
_ROWS = 1000


def train_target(
    private: Role,
    *,
    classes: int,
    seed: int,
    architecture: str = "mlp",
    image_shape: tuple[int, int] | None = None,
    epochs: int = 20,
    batch: int = 32,
    learning_rate: float = 2e-3,
) -> nn.Sequential:
    """Minimises cross-entropy of a classifier, or what defends it, on the private rows with AdamW.

    Args:
        private: the rows that train the target.
        classes: number of classes K.
        seed: initial weights, order of the batches and dropout.
        architecture: a key of `architectures.ARCHITECTURES`, "mlp" say, or one and a way to defend by retraining, see
            `retraining.retraining`: "mlp+vib", "mlp+vib:0.1".
        image_shape: height and width; by default one line of D pixels, which is enough for "mlp".
        epochs: passes over the rows.
        batch: rows a step.
        learning_rate: of AdamW.

    Returns:
        The trained network, ``[N, D]`` pixels to ``[N, K]`` logits, in evaluation mode.

    Raises:
        ValueError: if the architecture is unknown, or does not fit the images.
    """
    if not known(architecture):
        raise ValueError(f"architecture: expected {choices()}, got {architecture!r}")
    name, _, way = architecture.partition("+")
    shape = image_shape or (1, private.inputs.shape[1])
    seed = whole("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES[name](shape, classes)
        trained = retraining(way) if way else PLAIN
        model = trained.rebuild(model)
        optimizer = AdamW(model.parameters(), rate=learning_rate, fused=False)
        for _ in range(epochs):
            for rows in torch.randperm(len(private), generator=generator).split(batch):
                optimizer.step(trained.loss(model, private.inputs[rows], private.labels[rows]))
    return model.eval()


@torch.no_grad()
def serve(model: nn.Module, inputs: Tensor, *, temperature: float) -> Tensor:
    """Returns the confidence vectors softmax(logits / T) that a client would see undefended.

    Args:
        model: inputs to logits.
        inputs: ``[N, D]``.
        temperature: T > 0; 1 is the plain softmax, larger is flatter and leaks more.

    Returns:
        float32 ``[N, K]``, each row a probability vector.

    Raises:
        ValueError: if the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0, got {temperature}")
    return torch.softmax(through(model, inputs) / temperature, dim=1)


@torch.no_grad()
def through(model: nn.Module, inputs: Tensor) -> Tensor:
    """Returns what a network makes of rows ``[N, D]``, so many at a time as memory holds."""
    return torch.cat([model(rows) for rows in inputs.split(_ROWS)])


def accuracy(model: nn.Module, role: Role) -> float:
    """Returns the share of a role's rows that the target classifies as labelled."""
    served = serve(model, role.inputs, temperature=1.0)
    return float((served.argmax(1) == role.labels).double().mean())
