"""`mipoison serve` in front of model servers that others wrote, each started as its own users start it.

The servers live in an environment of their own, since some need other versions of what the proxy is made of. The
variable MODEL_SERVERS names its `bin`; a server that is not there is skipped.

    make test-model-servers
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serve_processes import free_port, running, serving, write_config

import mipoison as mp
from mipoison.defenses.wire import on_the_wire

BIN = os.environ.get("MODEL_SERVERS")
pytestmark = pytest.mark.skipif(
    BIN is None, reason="needs model servers; make test-model-servers installs them"
)
SECRET = "00112233445566778899aabbccddeeff"
SERVERS = Path(__file__).parents[2] / "examples" / "serve" / "model_servers"
DECIMALS = 4
# Images that the classifier was not trained on: the defender's, and those that clients send.
OWN, ASKED = slice(800, 1200), slice(1200, 1210)


@lru_cache(maxsize=1)
def images() -> np.ndarray:
    """8x8 digits, [1797, 64]."""
    from sklearn.datasets import load_digits

    return load_digits().data / 16


def program(name: str) -> str:
    """The path of a server's program; skips the test where it is not installed."""
    found = shutil.which(name, path=BIN)
    if found is None:
        pytest.skip(f"needs {name} in the environment that MODEL_SERVERS names")
    return os.path.abspath(found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classifier, and what the servers make of it."""
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([program("python"), SERVERS / "train.py", folder], check=True)
    return folder


@dataclass
class Server:
    """A model server, and how the proxy and its clients speak to it.

    Args:
        process: while it runs.
        port: that it listens on.
        route: that is defended.
        protocol: of the settings.
        ready: path of its readiness.
        bodies: what clients send, each with images of `ASKED`, in order.
        kept: what stands beside the vectors in every answer.
    """

    process: AbstractContextManager[subprocess.Popen[bytes]]
    port: int
    route: str
    protocol: str
    ready: str
    bodies: list[Any]
    kept: dict[str, Any] = field(default_factory=dict)


def vectors_of(document: Any) -> list[list[str]]:
    """The vectors of an answer of any of the servers, as the texts of their numbers."""
    if isinstance(document, list):
        return [document]
    if "outputs" in document:
        (output,) = document["outputs"]
        flat, k = output["data"], output["shape"][-1]
        return [flat[i : i + k] for i in range(0, len(flat), k)]
    if "items" in document:
        return [item["confidences"] for item in document["items"]]
    return [document["output"]]


def mlserver(folder: Path) -> Server:
    """MLServer with a scikit-learn model: the V2 protocol, probabilities where a client asks for them."""
    port = free_port()
    start = [program("mlserver"), "start", "."]
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": "digits",
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": "./model.joblib"},
            }
        )
    )
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    # (Its worker processes do not start under uvloop 0.22.)
    settings = {"host": "127.0.0.1", "parallel_workers": 0, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    sent = {
        "name": "x",
        "shape": [len(images()[ASKED]), 64],
        "datatype": "FP64",
        "data": images()[ASKED].tolist(),
    }
    ready = "/v2/models/digits/ready"
    return Server(
        running(start, f"http://127.0.0.1:{port}{ready}", folder=folder),
        port,
        "POST /v2/models/digits/infer",
        "v2",
        ready,
        [{"inputs": [sent], "outputs": [{"name": "predict_proba"}]}],
        kept={"model_name": "digits"},
    )


def fastapi(folder: Path) -> Server:
    """A model behind FastAPI and uvicorn, with a JSON of its own."""
    program("fastapi")
    port = free_port()
    shutil.copy(SERVERS / "with_fastapi.py", folder)
    start = [program("uvicorn"), "with_fastapi:app", "--port", str(port)]
    return Server(
        running(start, f"http://127.0.0.1:{port}/health", folder=folder),
        port,
        "POST /predict",
        'path"\npath = "items[*].confidences',
        "/health",
        [{"images": images()[ASKED].tolist()}],
    )


def litserve(folder: Path) -> Server:
    """A model behind LitServe, one image a request."""
    program("litserve")
    port = free_port()
    shutil.copy(SERVERS / "with_litserve.py", folder)
    start = [program("python"), "with_litserve.py", str(port)]
    return Server(
        running(start, f"http://127.0.0.1:{port}/health", folder=folder),
        port,
        "POST /predict",
        'path"\npath = "output',
        "/health",
        [{"image": image.tolist()} for image in images()[ASKED]],
    )


def torchserve(folder: Path) -> Server:
    """TorchServe with a handler that answers with the whole vector."""
    archive, start = program("torch-model-archiver"), program("torchserve")
    if shutil.which("java") is None:
        pytest.skip("TorchServe needs Java")
    port = free_port()
    arguments = ["--model-name", "digits", "--version", "1.0", "--serialized-file", "model.pt"]
    handler = ["--handler", str(SERVERS / "torchserve_handler.py"), "--export-path", ".", "--force"]
    subprocess.run([archive, *arguments, *handler], cwd=folder, check=True)
    (folder / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{port}\n"
        f"management_address=http://127.0.0.1:{free_port()}\n"
        f"metrics_address=http://127.0.0.1:{free_port()}\n"
        "default_workers_per_model=1\n"
    )
    options = ["--start", "--foreground", "--ncs", "--disable-token-auth", "--model-store", "."]
    models = ["--models", "digits=digits.mar", "--ts-config", "config.properties"]
    # (It starts its workers with the python of the path.)
    path = f"{Path(start).parent}{os.pathsep}{os.environ['PATH']}"
    return Server(
        running(
            [start, *options, *models],
            f"http://127.0.0.1:{port}/ping",
            folder=folder,
            environment={"PATH": path},
        ),
        port,
        "POST /predictions/digits",
        "torchserve",
        "/ping",
        [{"image": image.tolist()} for image in images()[ASKED]],
    )


def asked(port: int, server: Server) -> Iterator[httpx.Response]:
    path = server.route.split(" ")[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for body in server.bodies:
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            yield answer


@pytest.mark.parametrize("made", [mlserver, fastapi, litserve, torchserve])
def test_defended_answers_of(made: Any, trained: Path, tmp_path: Path) -> None:
    server: Server = made(trained)
    key = mp.Key(bytes.fromhex(SECRET))
    own = own_vectors(trained, tmp_path)
    defense = mp.LPA.fit(
        own, images()[OWN], objective="direction", budget=0.1, epsilon=0.3, key=key
    )
    defense.save(tmp_path / "lpa.safetensors")
    port = free_port()
    config = write_config(
        tmp_path / "serve.toml",
        upstream=server.port,
        port=port,
        defense=tmp_path / "lpa.safetensors",
        protocol=server.protocol,
        defend=server.route,
        ready=server.ready,
        more='key_env = "A_KEY"',
    )
    with server.process, serving(config, port, key=SECRET):
        bare = list(asked(server.port, server))
        served = list(asked(port, server))
        again = list(asked(port, server))
        elsewhere = httpx.get(f"http://127.0.0.1:{port}{server.ready}")
    assert elsewhere.status_code == 404

    undefended = np.array([row for one in bare for row in vectors_of(one.json())])
    texts = [row for one in served for row in vectors_of(json.loads(one.text, parse_float=str))]
    answers = np.array([[float(text) for text in row] for row in texts])
    assert undefended.shape == answers.shape == (len(images()[ASKED]), 10)
    loaded = mp.load(tmp_path / "lpa.safetensors", key=key)
    expected = np.asarray(on_the_wire(loaded, undefended, decimals=DECIMALS))
    assert np.array_equal(answers, expected)
    # (MLServer draws an id for each answer.)
    assert [vectors_of(one.json()) for one in again] == [vectors_of(one.json()) for one in served]
    assert all(sum(map(Decimal, map(str, row))) == 1 for row in texts)
    assert np.array_equal(answers.argmax(1), undefended.argmax(1))
    assert (np.abs(answers - undefended).max(1) > 0.01).all()
    # Nothing but the vectors and what the protocol passes beside them.
    for one in served:
        assert "logits" not in one.text
        document = one.json()
        assert all(document[name] == value for name, value in server.kept.items())


def own_vectors(trained: Path, folder: Path) -> np.ndarray:
    """The classifier's vectors of the defender's own images."""
    np.save(folder / "own.npy", images()[OWN])
    code = (
        "import joblib, sys, numpy as np; "
        "np.save(sys.argv[3], joblib.load(sys.argv[1]).predict_proba(np.load(sys.argv[2])))"
    )
    files = [trained / "model.joblib", folder / "own.npy", folder / "vectors.npy"]
    subprocess.run([program("python"), "-c", code, *files], check=True)
    return np.load(folder / "vectors.npy")
