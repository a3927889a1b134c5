"""Train the classifier that is being defended, and serve it at a temperature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipoison.eval.data import Role


def train_target(
    private: Role,
    *,
    classes: int,
    seed: int,
    width: int = 128,
    epochs: int = 20,
    batch: int = 32,
    learning_rate: float = 2e-3,
) -> nn.Sequential:
    """Minimises cross-entropy of a one-hidden-layer network on the private rows with AdamW.

    Args:
        private: the rows that train the target.
        classes: number of classes K.
        seed: initial weights and order of the batches.
        width: hidden units.
        epochs: passes over the rows.
        batch: rows a step.
        learning_rate: of AdamW.

    Returns:
        The trained network, ``[N, D]`` pixels to ``[N, K]`` logits, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(private.inputs.shape[1], width), nn.ReLU(), nn.Linear(width, classes)
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(private), generator=generator).split(batch):
            loss = nn.functional.cross_entropy(model(private.inputs[rows]), private.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
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
    return torch.softmax(model(inputs) / temperature, dim=1)
