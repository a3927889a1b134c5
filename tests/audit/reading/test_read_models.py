"""A classifier instead of vectors: it gets the inputs as users have them."""

import sys

import numpy as np
import pytest
import torch

from mipoison.audit.reading.read import read

CODE = """
import numpy as np, torch
from sklearn.linear_model import LogisticRegression
rng = np.random.default_rng(0)
rows = rng.random((50, 4))
fitted = LogisticRegression().fit(rows, np.arange(50) % 3)
Unfitted = LogisticRegression
seen = []
def images(batch):
    seen.append(batch.clone())
    scores = batch.mean((2, 3))
    batch.zero_()
    return torch.cat((scores, 1 - scores), 1) * 9 - 6
def embeddings(batch):
    seen.append(batch)
    return np.exp(batch) / np.exp(batch).sum(1, keepdims=True)
def people(frame):
    seen.append(frame)
    age = frame["age"].to_numpy(float) / 100
    return np.stack((age, 1 - age), 1)
def one(batch): return torch.sigmoid(batch.flatten(1)[:, :1] - 0.5)
def short(batch): return torch.rand(len(batch) - 1, 3)
def broken(batch): raise RuntimeError("first line\\nsecond line")
def half(batch): return torch.tensor([[0.5, 0.5], [3.0, -1.0]])[torch.arange(len(batch)) % 2]
def good(batch): return torch.softmax(9 * batch.flatten(1)[:, :4], 1)
def percent(batch): return 100 * good(batch)
def cut(batch): return good(batch) * (good(batch) >= good(batch).topk(2).values[:, 1:])
def rounded(batch): return good(batch).numpy().round(2)
def deep(batch): return good(batch).half()
def low(batch): return good(batch) * 0.98
def separate(batch): return torch.sigmoid(3 * batch.flatten(1)[:, :4])
number = 3
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3, bias=False))
torch.nn.init.eye_(network[1].weight)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def module():
        return sys.modules["theirs"]

    yield module
    sys.modules.pop("theirs", None)


def test_images(theirs, x, save):
    colour = np.stack((x, x**2, 1 - x), 3)
    bytes_ = (colour * 255).astype(np.uint8)
    found = read(save(x=bytes_), model="theirs:images", logits=True)
    seen = torch.cat(theirs().seen)
    assert seen.shape == (320, 3, 6, 6) and seen.dtype == torch.float32
    assert abs(seen.movedim(1, -1).numpy() - bytes_ / 255).max() < 1e-6
    scores = seen.mean((2, 3))
    wanted = torch.softmax(torch.cat((scores, 1 - scores), 1) * 9, 1)
    torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)
    assert found.source == "mine.npz with theirs:images"
    halved = read(save(x=bytes_), model="theirs:images", logits=True, temperature=3.0)
    wanted = torch.softmax(torch.cat((scores, 1 - scores), 1) * 3, 1)
    torch.testing.assert_close(halved.outputs, wanted, rtol=0, atol=1e-6)


def test_images_keep_their_size_for_the_model(theirs, x, save):
    large = x.repeat(11, 1).repeat(11, 2)
    found = read(save(x=np.repeat(large[..., None], 3, 3)), model="theirs:images", logits=True)
    assert found.image_shape == (32, 32, 1) and theirs().seen[0].shape[1:] == (3, 66, 66)


def test_pictures_of_several_sizes(theirs, x, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "photos").mkdir()
    for i, row in enumerate(x):
        picture = image.fromarray((255 * np.stack((row, row**2, 1 - row), 2)).astype(np.uint8))
        picture = picture.resize((9, 7)) if i in (5, 6) else picture
        picture.save(tmp_path / "photos" / f"{i:03}.png")
    shares = []
    options = {"model": "theirs:images", "size": "6", "logits": True}
    found = read(tmp_path / "photos", **options, progress=shares.append)
    seen = theirs().seen
    assert [tuple(batch.shape) for batch in seen[:3]] == [
        (5, 3, 6, 6),
        (2, 3, 7, 9),
        (64, 3, 6, 6),
    ]
    scores = torch.cat([batch.mean((2, 3)) for batch in seen])
    wanted = torch.softmax(torch.cat((scores, 1 - scores), 1) * 9, 1)
    torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 10


def test_embeddings(theirs, logits, save):
    found = read(save(x=logits), model="theirs:embeddings")
    assert np.array_equal(np.concatenate(theirs().seen), logits)
    wanted = torch.softmax(torch.from_numpy(logits), 1).float()
    torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)
    found = read(save(x=logits, classes=list("abc")), model="theirs:fitted")
    assert found.classes == ("a", "b", "c")
    wanted = torch.from_numpy(theirs().fitted.predict_proba(logits)).float()
    torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)
    for kind in (np.float32, np.float64):
        found = read(save(x=logits.astype(kind)), model="theirs:network")
        with torch.no_grad():
            wanted = theirs().network(torch.from_numpy(logits).float()).softmax(1)
        torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)


def test_people(theirs, tmp_path):
    pytest.importorskip("pandas")
    csv = pytest.importorskip("pyarrow.csv")
    pa = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(105)
    columns = {
        "person": np.arange(320),
        "age": np.r_[[None], rng.integers(20, 90, 319)].tolist(),
        "job": rng.choice(["baker", "smith"], 320),
        "p_0": rng.random(320),
        "p_1": rng.random(320),
    }
    csv.write_csv(pa.table(columns), tmp_path / "people.csv")
    options = {"group": "person", "vectors_prefix": "p_"}
    found = read(tmp_path / "people.csv", model="theirs:people", **options)
    frame = theirs().seen[0]
    assert list(frame.columns) == ["age", "job"] and len(found) == len(frame) == 319
    assert [column.name for column in found.columns] == ["age", "job"]
    age = torch.tensor(columns["age"][1:]) / 100
    torch.testing.assert_close(found.outputs[:, 0], age, rtol=0, atol=1e-6)
    # One that was fitted on a data frame gets its columns, also those that are no attributes.
    module = theirs()
    module.fitted.feature_names_in_ = np.array(["age", "person", "p_0", "p_1"])
    found = read(tmp_path / "people.csv", model="theirs:fitted", **options)
    assert found.outputs.shape == (319, 3) and len(found.columns) == 2
    module.fitted.feature_names_in_ = np.array(["age", "wage"])
    with pytest.raises(ValueError, match=r"model: theirs:fitted was fitted on .* without wage"):
        read(tmp_path / "people.csv", model="theirs:fitted", **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_of_torch(theirs, x, save, tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3, bias=False)).eval()
    network[1].weight.data = -torch.eye(3, 36)
    torch.jit.trace(network, torch.rand(2, 1, 6, 6)).save(tmp_path / "net.pt")
    found = read(save(x=x), model=str(tmp_path / "net.pt"))
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)[:, None]).softmax(1)
    torch.testing.assert_close(found.outputs, wanted, rtol=0, atol=1e-6)
    # (The page has both, and shows no folders.)
    assert found.source == "mine.npz with net.pt"
    assert found.notes == ("model: net.pt: logits were brought through the softmax",)
    with pytest.raises(ValueError, match=r"asked with images \[64, 3, 6, 6\], raised"):
        read(save(x=np.stack((x, x, x**2), 3)), model="net.pt")


def test_one_score(theirs, x, save):
    found = read(save(x=x), model="theirs:one")
    assert found.outputs.shape == (320, 2)
    assert any("second of two" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "far", "said"),
    [
        ("percent", 1e-6, "percent"),
        ("cut", 0.5, "cut off"),
        ("rounded", 0.02, "rounded to 2 decimals"),
        ("deep", 1e-2, "16 bits"),
    ],
)
def test_probabilities_of_other_forms_are_no_logits(name, far, said, theirs, x, save):
    found = read(save(x=x), model=f"theirs:{name}")
    wanted = theirs().good(torch.from_numpy(x))
    assert (found.outputs - wanted).abs().max() < far
    assert any(said in note for note in found.notes)
    assert not any("softmax" in note for note in found.notes)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("theirs:low", "320 of 320 rows otherwise"),
        ("theirs:separate", "scores of separate sigmoids"),
        ("theirs:none", "model: theirs:none: expected theirs to have none"),
        ("nothing:model", "model: nothing:model: expected a module nothing"),
        ("theirs:number", "callable or to have predict_proba, got int"),
        ("theirs:Unfitted", "fitted classifier, got the class LogisticRegression"),
        ("theirs:short", r"64 inputs to be answered with \[64, K\] numbers, got \[63, 3\]"),
        ("theirs:broken", "RuntimeError: first line"),
        ("theirs:half", "160 probability vectors among 320"),
        ("theirs:fitted", "36 features"),
        ("model.pkl", r"module:name or a file \(\.pt.*got model\.pkl"),
    ],
)
def test_mistakes(model, said, theirs, x, save):
    with pytest.raises(ValueError, match=said) as told:
        read(save(x=x), model=model)
    assert str(told.value).startswith("model: ") and "\n" not in str(told.value)


def test_there_is_no_such_file(theirs, x, save):
    with pytest.raises(FileNotFoundError, match=r"model: expected a file net\.pt"):
        read(save(x=x), model="net.pt")
    for name in ("good", "percent", "cut", "low"):
        with pytest.raises(ValueError, match=r"logits, got .* already; leave --logits out"):
            read(save(x=x), model=f"theirs:{name}", logits=True)
