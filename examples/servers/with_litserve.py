"""Serve a defended classifier with LitServe; `python with_litserve.py PORT` is the server alone."""

import sys

import deployment
import litserve
import torch


class Classifier(litserve.LitAPI):
    """Each worker loads the defense in `setup`, after it was started."""

    def setup(self, device: str) -> None:
        """Makes the classifier of this worker."""
        self.served = deployment.defended()

    def decode_request(self, request: dict[str, list[list[float]]]) -> torch.Tensor:
        """The inputs of a request."""
        return torch.tensor(request["inputs"])

    def predict(self, inputs: torch.Tensor) -> torch.Tensor:
        """Defended outputs."""
        return self.served(inputs)

    def encode_response(self, answers: torch.Tensor) -> dict[str, list[list[float]]]:
        """What goes over the wire."""
        return {"outputs": answers.tolist()}


def main() -> None:
    """Starts a server, asks it, and stops it."""
    port = deployment.free_port()
    with deployment.deployed(), deployment.running(sys.executable, __file__, str(port)):
        print(deployment.check(f"http://127.0.0.1:{port}/predict", name="outputs"))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        server = litserve.LitServer(Classifier(), accelerator="cpu")
        server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
