"""Read a folder of pictures, and match them with their vectors by name or in sorted order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from mipoison.audit.evidence import Skipped
from mipoison.audit.reading.confidences import require_count
from mipoison.audit.reading.found import Array, Found, listed, sampled
from mipoison.audit.reading.keys import as_texts
from mipoison.audit.reading.options import Options
from mipoison.audit.reading.pictures.files import Picture, batches, name_in, opened, read_pictures
from mipoison.audit.reading.pictures.images import DARK, as_size, grey_where_equal, target_size
from mipoison.audit.reading.vectors import Vectors, vectors_of
from mipoison.eval.data.files import SUFFIXES
from mipoison.progress import Progress

_BY_FOLDER: Final = "folder"


def read_folder(folder: Path, options: Options, progress: Progress) -> Found:
    """What a folder of pictures has, in it or in folders of it; what is hidden is not looked at.

    Pictures of one size of at most `images.LARGEST` pixels a side stay as they are; others are averaged to `SIDE`, or
    to the option's size. A model gets them in the size that they have. Vectors are matched by a column or array of file
    names; without one, in the order of the sorted paths, of all picture files or of those that can be read.

    Raises:
        ValueError: if there are no pictures, or their vectors are not as many.
    """
    size = as_size(options.size)
    files, skipped = _listed(folder)
    if not files:
        raise ValueError(_none(folder, skipped))
    vectors = vectors_of(options) if options.vectors is not None else None
    if vectors is None and options.model is None:
        raise ValueError(
            f"vectors: expected a file with the vectors of the pictures in {folder.name}, got none; name it with "
            "--vectors, or what answers with --model"
        )
    found = [opened(folder, file) for file in files]
    pictures = [one for one in found if isinstance(one, Picture)]
    skipped += [one for one in found if isinstance(one, Skipped)]
    notes: list[str] = []
    places = None
    if vectors is not None:
        pictures, places, lost = _matched(vectors, files, pictures, folder, notes)
        skipped += lost
    if not pictures:
        raise ValueError(_none(folder, skipped))
    target = target_size({one.size for one in pictures}, size)
    colour = not all(one.grey for one in pictures)
    numbers = target[0] * target[1] * (3 if colour else 1)
    keep = sampled(len(pictures), numbers + (vectors.width if vectors else 0), notes, "pictures")
    if keep is not None:
        pictures = [pictures[i] for i in keep]
        places = None if places is None else places[keep]
    _tell(pictures, target, colour, notes)
    images, good, damaged = read_pictures(pictures, target, colour, progress)
    if images.size and (most := float(images.max())) < DARK:
        notes.append(
            f"the brightest pixel is {most:.2g} of the largest possible value: scale pictures of 10 or 12 bits in "
            "files of 16 to the full range"
        )
    pictures = [one for one, fits in zip(pictures, good, strict=True) if fits]
    places = None if places is None else places[good]
    return Found(
        "images",
        grey_where_equal(images, notes) if len(images) else images,
        [one.name for one in pictures],
        partial(batches, pictures, colour),
        outputs=None if vectors is None or places is None else vectors.at(places),
        groups=_groups(options, vectors, pictures, places),
        classes=() if vectors is None else vectors.classes,
        called=folder.name,
        vectors_called="" if vectors is None else vectors.called,
        logits=vectors is not None and vectors.logits,
        skipped=skipped + damaged,
        notes=notes,
    )


def _listed(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """Files of pictures, sorted by the parts of their paths, and other files."""
    found = [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(x.startswith(".") for x in file.relative_to(folder).parts)
    ]
    found.sort(key=lambda file: file.relative_to(folder).parts)
    files = [file for file in found if file.suffix.lower() in SUFFIXES]
    others = [
        Skipped(name_in(folder, file), f"no picture ({', '.join(SUFFIXES)})")
        for file in found
        if file.suffix.lower() not in SUFFIXES
    ]
    return files, others


def _none(folder: Path, skipped: list[Skipped]) -> str:
    some = listed(f"{one.name}: {one.reason}" for one in skipped[:3]) if skipped else "no files"
    return (
        f"{folder.name}: expected pictures ({', '.join(SUFFIXES)}), in it or in one folder a class, found none that "
        f"could be used ({some})"
    )


def _matched(
    vectors: Vectors, files: list[Path], pictures: list[Picture], folder: Path, notes: list[str]
) -> tuple[list[Picture], Array, list[Skipped]]:
    """Pictures that have a vector, the positions of these, and what has no counterpart."""
    known = {name_in(folder, file) for file in files}
    found = _files_named(vectors, known, _short(folder, files))
    if found is None:
        return (*_in_order(vectors, files, pictures, notes), [])
    counts = Counter(name or given for given, name in found)
    if twice := [name for name, times in counts.items() if times > 1]:
        raise ValueError(
            f"{vectors.called}: expected one vector a file, got several for {listed(twice)}; leave the others out"
        )
    place = {name: i for i, (_, name) in enumerate(found) if name is not None}
    lost = [
        Skipped(given.rpartition("/")[2], f"in {vectors.called}, but no such picture")
        for given, name in found
        if name is None
    ]
    if not place:
        raise ValueError(
            f"{vectors.called}: expected names of the pictures in {folder.name}, such as {listed(sorted(known)[:2])}, "
            f"got {listed(given for given, _ in found[:2])}; write their paths within the folder"
        )
    lost += [Skipped(one.name, "no vector") for one in pictures if one.name not in place]
    kept = [one for one in pictures if one.name in place]
    return kept, np.array([place[one.name] for one in kept], np.int64), lost


def _short(folder: Path, files: list[Path]) -> dict[str, str]:
    """Files by their mere names, and by these without suffix, where no two files have the same."""
    short: dict[str, str] = {}
    for names in ([file.name for file in files], [file.stem for file in files]):
        if len(set(names)) == len(files):
            short |= {name: name_in(folder, file) for name, file in zip(names, files, strict=True)}
    return short


def _files_named(
    vectors: Vectors, known: set[str], short: Mapping[str, str]
) -> list[tuple[str, str | None]] | None:
    """What names the file of each vector, and the file: what says so, else the values that most often do."""

    def find(names: Sequence[str]) -> list[tuple[str, str | None]]:
        plain = [name.replace("\\", "/") for name in names]
        return [(one, _within(one, known) or short.get(one.rpartition("/")[2])) for one in plain]

    if vectors.names is not None:
        return find(vectors.names)
    others = [as_texts(take()) for take in vectors.beside.values()]
    once = [find(one.tolist()) for one in others if one is not None and len(set(one)) == len(one)]
    best = max(once, key=_known, default=None)
    return None if best is None or 2 * _known(best) < len(best) else best


def _known(found: list[tuple[str, str | None]]) -> int:
    return sum(name is not None for _, name in found)


def _within(given: str, known: set[str]) -> str | None:
    """The file whose path is the given one or its end."""
    parts = given.split("/")
    return next((end for i in range(len(parts)) if (end := "/".join(parts[i:])) in known), None)


def _in_order(
    vectors: Vectors, files: list[Path], pictures: list[Picture], notes: list[str]
) -> tuple[list[Picture], Array]:
    """As many vectors as picture files, or as those that can be read."""
    if vectors.shape[:1] == (len(files),):
        place = {file: i for i, file in enumerate(files)}
        places = np.array([place[one.file] for one in pictures], np.int64)
    else:
        require_count(vectors.called, vectors.shape, len(pictures), "pictures")
        places = np.arange(len(pictures))
    if pictures:
        # (10.png comes before 2.png.)
        counted = sorted(files, key=lambda file: (len(file.name), file.name)) != files
        doubt = ", sorted as texts and not as numbers" if counted else ""
        notes.append(
            f"vectors were given to the pictures in the order of their sorted paths{doubt}, from "
            f"{pictures[0].name} to {pictures[-1].name}; a column of file names makes sure"
        )
    return pictures, places


def _tell(pictures: list[Picture], target: tuple[int, int], colour: bool, notes: list[str]) -> None:
    sizes = {one.size for one in pictures}
    if sizes != {target}:
        most = f"{len(sizes)} sizes" if len(sizes) > 1 else "x".join(map(str, next(iter(sizes))))
        notes.append(
            f"pictures of {most} were averaged to {target[0]}x{target[1]}, proportions not kept; --size chooses another"
        )
    if clear := sum(one.transparent for one in pictures):
        notes.append(f"the transparency of {clear} pictures was dropped")
    if turned := sum(one.turned for one in pictures):
        notes.append(
            f"{turned} pictures were taken as they are stored, although their EXIF data say that they are turned"
        )
    if colour and (grey := sum(one.grey for one in pictures)):
        notes.append(f"{grey} grey pictures are among {len(pictures)}; all were taken as colour")


def _groups(
    options: Options, vectors: Vectors | None, pictures: list[Picture], places: Array | None
) -> Array | None:
    if options.group == _BY_FOLDER:
        return np.array([one.name.rpartition("/")[0] for one in pictures])
    given = None if vectors is None else vectors.groups
    if given is not None and places is not None:
        return given[places]
    if options.group is not None:
        raise ValueError(
            f"group: expected {_BY_FOLDER}, or a column beside the vectors, got {options.group}; of a folder of "
            "pictures, "
            f"{_BY_FOLDER} keeps those of one folder together"
        )
    return None
