"""Files in the format of Labeled Faces in the Wild, small and of nobody: for the tests."""

import numpy as np

PEOPLE, PRIVATE, CLASSES = 40, 6, 30


def write(folder, *, side=32, logits=True):
    """Writes both files: 6 people with 24 photographs, 34 with 6, and logits of what makes their faces."""
    generator = np.random.default_rng(0)
    # Person numbers have gaps, as those of a selection may.
    person = np.repeat(3 * np.arange(PEOPLE), [24] * PRIVATE + [6] * (PEOPLE - PRIVATE))
    order = generator.permutation(len(person))
    person = person[order].astype(np.int16)
    # Three numbers make a face; those of one person are alike.
    traits = generator.normal(size=(PEOPLE, 3))[person // 3]
    traits = traits + generator.normal(0, 0.2, traits.shape)
    coarse = 125 + 30 * traits @ generator.normal(size=(3, 16))
    blocks = np.ones((side // 4, side // 4))
    x = np.kron(coarse.reshape(-1, 4, 4), blocks).clip(0, 255).astype(np.uint8)
    np.savez(folder / "lfw-faces.npz", x=x, person=person)
    if logits:
        answers = 2 * traits @ generator.normal(size=(3, CLASSES))
        np.savez(folder / "lfw-imagenet-logits.npz", logits=answers.astype(np.float16))
    return folder
