"""Open and read pictures; whatever is wrong with one leaves it out, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mipoison.audit.evidence import Skipped
from mipoison.audit.reading.found import Array
from mipoison.audit.reading.pictures.images import resized
from mipoison.eval.data.pictures import luminance
from mipoison.progress import Progress

_BATCH: Final = 64
# Of pictures that a model gets together, float32.
_MOST_BYTES: Final = 1 << 27
# Of one picture: in float32 and colour 800 MB, of which two or three copies fit into 4 GiB.
_MOST_PIXELS: Final = 1 << 26
# The tag of EXIF data that says which side is up.
_ORIENTATION: Final = 0x0112
_GREY: Final = ("1", "L", "LA", "La", "I", "F")


@dataclass(frozen=True)
class Picture:
    """A file that Pillow knows; its pixels are not read yet."""

    file: Path
    name: str
    size: tuple[int, int]
    grey: bool
    transparent: bool
    turned: bool


def name_in(folder: Path, file: Path) -> str:
    """The path within the folder, which is how a picture is called."""
    return file.relative_to(folder).as_posix()


def opened(folder: Path, file: Path) -> Picture | Skipped:
    """A picture, or why it is left out."""
    name = name_in(folder, file)
    try:
        with Image.open(file) as picture:
            grey = picture.mode in _GREY or picture.mode.startswith("I;16")
            clear = (
                picture.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info
            )
            if picture.width * picture.height > _MOST_PIXELS:
                return Skipped(
                    name, f"{picture.width * picture.height} pixels, of at most {_MOST_PIXELS}"
                )
            size = picture.height, picture.width
            return Picture(file, name, size, grey, clear, _is_turned(picture))
    # Pillow's plugins raise whatever a broken file brings them to.
    except Exception as error:
        return _unreadable(file, name, error)


def _is_turned(picture: Image.Image) -> bool:
    """Whether a viewer would turn or mirror it; damaged EXIF data say nothing."""
    if "exif" not in picture.info:
        return False
    try:
        return int(picture.getexif().get(_ORIENTATION, 1)) != 1
    except Exception:
        return False


def _unreadable(file: Path, name: str, error: Exception) -> Skipped:
    # (It stands on the page, which names no folders above the given one; the system's messages do.)
    said = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    if isinstance(error, UnidentifiedImageError):
        said = "cannot identify what kind of picture it is"
    return Skipped(name, f"unreadable: {said.replace(str(file), name)}")


def read_pictures(
    pictures: list[Picture], target: tuple[int, int], colour: bool, progress: Progress
) -> tuple[Array, Array, list[Skipped]]:
    """Images [n, *target, C], which of the pictures could be read, and the others."""
    images = np.empty((len(pictures), *target, 3 if colour else 1), np.float32)
    good = np.ones(len(pictures), bool)
    damaged = []
    for i, one in enumerate(pictures):
        try:
            images[i] = resized(_pixels(one.file, colour)[None], target)[0].numpy()
        except Exception as error:
            good[i] = False
            damaged.append(_unreadable(one.file, one.name, error))
        progress((i + 1) / len(pictures))
    return images[good], good, damaged


def _pixels(file: Path, colour: bool) -> Tensor:
    """A picture [H, W, C] in [0, 1]."""
    with Image.open(file) as picture:
        picture.load()
        grey = picture.mode in _GREY or picture.mode.startswith("I;16")
        if grey or not colour:
            plain = picture.convert("L") if picture.mode in ("LA", "La") else picture
            return luminance(plain)[..., None].expand(-1, -1, 3 if colour else 1)
        return torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32)).div_(255.0)


def batches(pictures: list[Picture], colour: bool) -> Iterator[Tensor]:
    """Pictures as a model takes them, [n, C, H, W], a few of one size that follow each other together."""
    together: list[Tensor] = []
    for one in pictures:
        pixels = _pixels(one.file, colour).movedim(-1, 0)
        most = min(_BATCH, max(1, _MOST_BYTES // (4 * pixels.numel())))
        if together and (len(together) >= most or pixels.shape != together[0].shape):
            yield torch.stack(together)
            together = []
        together.append(pixels)
    if together:
        yield torch.stack(together)
