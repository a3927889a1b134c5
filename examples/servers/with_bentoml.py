"""Serve a defended classifier with BentoML; `bentoml serve with_bentoml:Classifier` is the server alone."""

import os
import sys

import bentoml
import deployment
import torch


@bentoml.service(workers=1)
class Classifier:
    """Each worker loads the defense."""

    def __init__(self) -> None:
        self.served = deployment.defended()

    @bentoml.api
    def predict(self, inputs: list[list[float]]) -> list[list[float]]:
        """Answers a request with defended outputs."""
        return self.served(torch.tensor(inputs)).tolist()


def main() -> None:
    """Starts a server, asks it, and stops it."""
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    port = str(deployment.free_port())
    server = ["serve", "with_bentoml:Classifier", "--host", "127.0.0.1", "--port", port]
    with deployment.deployed(), deployment.running(sys.executable, "-m", "bentoml", *server):
        print(deployment.check(f"http://127.0.0.1:{port}/predict"))


if __name__ == "__main__":
    main()
