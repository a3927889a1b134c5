"""Serve a defended classifier with Ray Serve."""

import os

# Ray reads it when it is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import deployment
import ray
import torch
from ray import serve
from starlette.requests import Request


@serve.deployment
class Classifier:
    """Each replica loads the defense. Its node has the key in a variable: `runtime_env` would show it to all users."""

    def __init__(self) -> None:
        self.served = deployment.defended()

    async def __call__(self, request: Request) -> dict[str, list[list[float]]]:
        """Answers a request with defended outputs."""
        inputs = torch.tensor((await request.json())["inputs"])
        return {"outputs": self.served(inputs).tolist()}


def main() -> None:
    """Starts a cluster and a server on this machine, asks it, and stops both."""
    port = deployment.free_port()
    with deployment.deployed():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(Classifier.bind())
            print(deployment.check(f"http://127.0.0.1:{port}/", name="outputs"))
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    main()
