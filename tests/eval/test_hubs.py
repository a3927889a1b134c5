"""Names of torchvision and Hugging Face are loaded where those are installed, and explained where not."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from mipoison.eval.data import hubs
from mipoison.eval.data.catalogue import describe
from mipoison.eval.data.loading import split


def pictures(count=60, classes=3):
    generator = np.random.default_rng(0)
    for i in range(count):
        yield (
            Image.fromarray(generator.integers(0, 256, (28, 30), dtype=np.uint8)),
            10 * (i % classes),
        )


class Listed:
    """A data set as both hubs give them: a length and places."""

    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        return self.items[place]


class Digits(Listed):
    """Takes what torchvision's classes take."""

    def __init__(self, root, train=True, download=False):
        assert train and download and root
        super().__init__(pictures())


class Tensors(Listed):
    """Items that are no pictures."""

    def __init__(self):
        super().__init__([(np.zeros((3, 3)), 1)] * 30)


@pytest.fixture
def stand_ins(monkeypatch):
    """Both packages with just what is asked of them; the real ones need a network."""
    vision = types.ModuleType("torchvision.datasets")
    vision.Digits, vision.Tensors, vision.number = Digits, Tensors, 3
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", vision)
    hub = types.ModuleType("datasets")
    image, label = type("Image", (), {}), type("ClassLabel", (), {})

    def load_dataset(name):
        rows = Listed([{"picture": p, "kind": k} for p, k in pictures()])
        rows.features = {"picture": image(), "kind": label()}
        if name == "of/text":
            rows.features = {"text": object()}
        return {"test": rows} if name == "of/tests" else {"train": rows, "test": None}

    hub.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", hub)


@pytest.mark.parametrize(
    "name", ["torchvision:Digits", "huggingface:some/digits", "huggingface:of/tests"]
)
def test_a_name_is_divided_among_the_roles(stand_ins, name):
    parts = split(name, seed=100)
    assert parts.classes == 3 and parts.image_shape == (32, 32)
    roles = (parts.private, parts.defender, parts.auxiliary, parts.victims)
    assert [len(role) for role in roles] == [12, 12, 24, 12]
    assert len(set().union(*(role.rows.tolist() for role in roles))) == 60
    assert 0 <= float(parts.victims.inputs.min()) < float(parts.victims.inputs.max()) <= 1
    assert name.partition(":")[2].split("/")[-1] in describe(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:Nothing", "expected a class of torchvision.datasets, got none"),
        ("torchvision:number", "expected a class of torchvision.datasets, got none"),
        ("torchvision:Tensors", "expected pictures, got ndarray"),
        ("huggingface:of/text", "expected a column Image and a column ClassLabel"),
    ],
)
def test_what_is_no_labelled_pictures_is_refused(stand_ins, name, said):
    with pytest.raises(ValueError, match=said):
        split(name, seed=0)


@pytest.mark.parametrize("package", ["torchvision", "datasets"])
def test_a_package_that_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "torchvision.datasets", raising=False)
    name = {"torchvision": "torchvision:MNIST", "datasets": "huggingface:mnist"}[package]
    with pytest.raises(ValueError, match=f"expected {package} to be installed and to load"):
        split(name, seed=0)


def test_many_rows_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(hubs, "MOST", 4)
    assert list(hubs._spread(10)) == [0, 2, 5, 7] and list(hubs._spread(3)) == [0, 1, 2]


def test_torchvision_s_own_fake_data():
    try:
        from torchvision import datasets  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision does not load: {error}")
    parts = split("torchvision:FakeData", seed=0)
    assert parts.image_shape == (32, 32) and parts.classes == 10


def test_a_download_that_fails_is_told_in_one_line(stand_ins, monkeypatch):
    def unreachable(*given, **named):
        raise OSError("no route\nto host")

    monkeypatch.setattr(
        sys.modules["torchvision.datasets"], "Digits", type("D", (), {"__init__": unreachable})
    )
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", unreachable)
    for name in ("torchvision:Digits", "huggingface:some/digits"):
        with pytest.raises(ValueError, match=rf"'{name}': .*raised OSError: no route \(") as raised:
            split(name, seed=0)
        assert "\n" not in str(raised.value)


def test_without_a_home_downloads_lie_beside_other_temporary_files(monkeypatch, tmp_path):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(hubs.Path, "home", nowhere)
    monkeypatch.setattr(hubs.tempfile, "gettempdir", lambda: str(tmp_path))
    assert hubs._cache() == tmp_path / "mipoison"
