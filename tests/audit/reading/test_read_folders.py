"""Folders of pictures, and their vectors by name or in order."""

import numpy as np
import pytest

from mipoison.audit.reading.read import read

Image = pytest.importorskip("PIL.Image")
pictures = pytest.importorskip("mipoison.audit.reading.pictures.files")


@pytest.fixture(scope="session")
def pixels():
    return np.random.default_rng(104).integers(0, 256, (320, 5, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def names():
    """Two classes, whose folders and files are not made in sorted order."""
    return [f"{'ab'[i % 2]}/{i:03}.png" for i in range(319, -1, -1)]


@pytest.fixture(scope="session")
def folder(pixels, names, tmp_path_factory):
    """Pictures, and what stands beside them; nothing here is changed by a test."""
    path = tmp_path_factory.mktemp("photos")
    for name, picture in zip(names, pixels, strict=True):
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path / name)
    (path / "notes.txt").write_text("not a picture")
    (path / ".hidden.png").write_text("not looked at")
    (path / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return path


@pytest.fixture
def by_name(p, names, tmp_path):
    def save(said=names, vectors=p):
        path = tmp_path / "vectors.npz"
        np.savez(path, p=vectors, files=np.array(said))
        return path

    return save


SKIPPED = [("notes.txt", "no picture"), ("a/broken.png", "unreadable")]


def skipped(found):
    return [(one.name, one.reason) for one in found.skipped]


def test_vectors_by_name(folder, by_name, pixels, names, p):
    found = read(folder, vectors=by_name())
    assert found.image_shape == (5, 4, 3) and found.source == f"{folder.name} with vectors.npz"
    order = np.argsort(names)
    assert abs(found.inputs.numpy() - pixels[order].reshape(320, -1) / 255).max() < 1e-6
    assert abs(found.outputs.numpy() - p[order]).max() < 1e-6
    for (name, reason), (wanted, why) in zip(skipped(found), SKIPPED, strict=True):
        assert name == wanted and why in reason


@pytest.mark.parametrize("change", ["data/{}", "C:\\photos\\{}", "{}"])
def test_names_with_more_or_less_before_them(change, folder, by_name, names, p):
    said = [change.format(name.replace("/", "\\") if "\\" in change else name) for name in names]
    assert (
        abs(read(folder, vectors=by_name(said)).outputs[0].numpy() - p[np.argsort(names)[0]]).max()
        < 1e-6
    )
    alone = [name.partition("/")[2] for name in names]
    assert len(read(folder, vectors=by_name(alone))) == 320


def test_what_has_no_counterpart_is_named(folder, by_name, names, p):
    found = read(folder, vectors=by_name(["/home/me/gone.png", *names[1:]]))
    assert len(found) == 319
    assert ("gone.png", "in vectors.npz: p, but no such picture") in skipped(found)
    assert (names[0], "no vector") in skipped(found)
    with pytest.raises(ValueError, match=r"several for b/317\.png"):
        read(folder, vectors=by_name([names[2], *names[1:]]))
    # One picture under two names is one picture.
    with pytest.raises(ValueError, match=r"several for b/317\.png"):
        read(folder, vectors=by_name([f"data/{names[2]}", *names[1:]]))
    with pytest.raises(ValueError, match=r"expected names of the pictures"):
        read(folder, vectors=by_name([f"photo {i}" for i in range(320)]))


def test_vectors_in_sorted_order(folder, names, p, tmp_path):
    order = np.argsort(names)
    # With a vector for the broken picture, and without: it sorts after a/318.png.
    place = sorted([*names, "a/broken.png"]).index("a/broken.png")
    for vectors in (p[order], np.insert(p[order], place, p[0], axis=0)):
        np.save(tmp_path / "p.npy", vectors)
        found = read(folder, vectors=tmp_path / "p.npy")
        assert abs(found.outputs.numpy() - p[order]).max() < 1e-6
        assert any("from a/000.png to b/319.png" in note for note in found.notes)
    np.save(tmp_path / "p.npy", p[:-1])
    with pytest.raises(ValueError, match=r"as many vectors as pictures, got 319 and 320"):
        read(folder, vectors=tmp_path / "p.npy")


def test_vectors_in_a_csv(folder, names, p, tmp_path):
    pytest.importorskip("pyarrow")
    rows = [",".join([name, *map(str, row)]) for name, row in zip(names, p, strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(["image,p_a,p_b,p_c,p_d", *rows]))
    found = read(folder, vectors=tmp_path / "p.csv")
    assert found.classes == ("a", "b", "c", "d")
    assert abs(found.outputs.numpy() - p[np.argsort(names)]).max() < 1e-6


def test_groups_by_folder(folder, by_name):
    with pytest.raises(ValueError, match=r"at least 30 groups .* got 2"):
        read(folder, vectors=by_name(), group="folder")
    with pytest.raises(ValueError, match=r"group: expected folder"):
        read(folder, vectors=by_name(), group="person")


def test_groups_beside_the_vectors(folder, names, p, tmp_path):
    people = np.arange(320) // 2
    np.savez(tmp_path / "v.npz", p=p, files=np.array(names), person=people.astype(str))
    groups = read(folder, vectors=tmp_path / "v.npz", group="person").groups.numpy()
    order = np.argsort(names)
    assert len(set(groups)) == 160
    assert len(set(zip(people[order].tolist(), groups.tolist(), strict=True))) == 160


def test_sizes_and_modes(by_name, pixels, names, p, tmp_path):
    """One folder of colour, grey, transparent, deep and large pictures."""
    path = tmp_path / "mixed"
    path.mkdir()
    flat = [f"{i:03}.png" for i in range(320)]
    for i, (name, picture) in enumerate(zip(flat, pixels, strict=True)):
        image = Image.fromarray(picture)
        if i == 1:
            image = image.convert("L")
        elif i == 2:
            image.putalpha(7)
        elif i == 3:
            image = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
        elif i == 4:
            image = image.convert("L").convert("P")
        elif i == 5:
            image = image.resize((70, 90))
        elif i == 6:
            image.putalpha(7)
            image = image.convert("LA")
        image.save(path / name)
    Image.fromarray(pixels[0, ..., 0].astype(np.float32)).save(path / "deep.tiff")
    found = read(path, vectors=by_name(flat), size="5,4")
    rows = found.inputs.reshape(320, 5, 4, 3).numpy() * 255
    assert abs(rows[2] - pixels[2]).max() < 1e-3
    assert abs(rows[3] - pixels[3, ..., :1]).max() < 1e-3
    for i in (1, 6):
        assert (
            abs(rows[i] - np.array(Image.fromarray(pixels[i]).convert("L"))[..., None]).max() < 1e-3
        )
    said = " ".join(found.notes)
    assert "averaged to 5x4" in said and "transparency of 2" in said and "3 grey pictures" in said
    assert skipped(found) == [("deep.tiff", "no vector")]
    assert read(path, vectors=by_name(flat)).image_shape == (32, 32, 3)


def test_grey_folders(by_name, pixels, p, tmp_path):
    path = tmp_path / "grey"
    path.mkdir()
    flat = [f"{i:03}.png" for i in range(320)]
    for name, picture in zip(flat, pixels, strict=True):
        Image.fromarray(picture[..., 0]).save(path / name)
    found = read(path, vectors=by_name(flat))
    assert found.image_shape == (5, 4, 1) and not found.notes
    assert abs(found.inputs.numpy() - pixels[..., 0].reshape(320, -1) / 255).max() < 1e-6


def test_folders_without_pictures_or_vectors(folder, by_name, tmp_path):
    with pytest.raises(ValueError, match=r"vectors: expected a file with the vectors"):
        read(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none: expected pictures .*\(no files\)"):
        read(tmp_path / "none", vectors=by_name())
    (tmp_path / "none" / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"none: expected pictures .*x\.txt: no picture"):
        read(tmp_path / "none", vectors=by_name())


def test_reasons_name_no_folders_above(tmp_path):
    for error in (PermissionError(13, "Permission denied", str(tmp_path)), OSError(str(tmp_path))):
        told = pictures._unreadable(tmp_path, "a/1.png", error)
        assert str(tmp_path) not in told.reason and told.reason.startswith("unreadable: ")


def test_large_pictures_are_left_out_or_asked_about_one_by_one(folder, names, monkeypatch):
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 19)
    told = pictures.opened(folder, folder / names[0])
    assert told.name == names[0] and told.reason == "20 pixels, of at most 19"
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 20)
    some = [pictures.opened(folder, folder / name) for name in names[:7]]
    monkeypatch.setattr(pictures, "_MOST_BYTES", 3 * 4 * 20 * 3)
    assert [len(batch) for batch in pictures.batches(some, True)] == [3, 3, 1]
    monkeypatch.setattr(pictures, "_MOST_BYTES", 1)
    assert [len(batch) for batch in pictures.batches(some, True)] == [1] * 7


def test_what_is_turned_or_dark_is_noted(by_name, pixels, tmp_path):
    path = tmp_path / "turned"
    path.mkdir()
    flat = [f"{i:03}.png" for i in range(320)]
    turned = Image.Exif()
    turned[0x0112] = 6
    for i, (name, picture) in enumerate(zip(flat, pixels, strict=True)):
        # (As a camera of 12 bits has them in files of 16.)
        deep = Image.fromarray(picture[..., 0].astype(np.uint16) * 16)
        deep.save(path / name, exif=turned if i < 2 else Image.Exif())
    found = read(path, vectors=by_name(flat))
    assert any(note.startswith("2 pictures were taken as they are stored") for note in found.notes)
    assert any("brightest pixel is 0.062 of" in note for note in found.notes)
    assert abs(found.inputs.numpy() - pixels[..., 0].reshape(320, -1) * (16 / 65535)).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("filenames", str),
        ("filenames", lambda name: name.encode()),
        ("id", lambda name: name.rpartition(".")[0]),
        ("files", lambda name: name.encode()),
    ],
)
def test_values_that_name_the_pictures_are_found(name, change, folder, names, p, tmp_path):
    path = tmp_path / "vectors.npz"
    order = np.random.default_rng(0).permutation(320)
    said = np.array([change(names[i]) for i in order])
    np.savez(path, p=p[order], split=np.array(["test"] * 320), **{name: said})
    if name == "id":
        # Without suffix, names within folders are told apart by their end alone.
        np.savez(path, p=p[order], id=np.array([one.rpartition("/")[2] for one in said]))
    found = read(folder, vectors=path)
    assert abs(found.outputs.numpy() - p[np.argsort(names)]).max() < 1e-6


def test_an_order_of_texts_that_is_not_that_of_numbers_is_said(x, p, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "photos").mkdir()
    for i, row in enumerate(x):
        image.fromarray((255 * row).astype(np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    np.save(tmp_path / "p.npy", p)
    found = read(tmp_path / "photos", vectors=tmp_path / "p.npy")
    assert any("sorted as texts and not as numbers" in note for note in found.notes)


def test_names_as_objects_are_refused_and_other_objects_are_not_looked_at(
    folder, names, p, tmp_path
):
    objects = np.array(names, object)
    np.savez(tmp_path / "v.npz", p=p, files=objects)
    with pytest.raises(ValueError, match=r"files: expected an array of numbers or text, got obj"):
        read(folder, vectors=tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", p=p, filenames=np.array(names), other=objects)
    found = read(folder, vectors=tmp_path / "v.npz")
    assert abs(found.outputs.numpy() - p[np.argsort(names)]).max() < 1e-6
