"""A classifier behind LitServe; run with `python with_litserve.py PORT`."""

import sys

import joblib
import litserve


class Digits(litserve.LitAPI):
    """Answers one image with its confidences."""

    def setup(self, device: str) -> None:
        """Loads the classifier."""
        self.model = joblib.load("model.joblib")

    def decode_request(self, request: dict) -> list[float]:
        """The image, [64]."""
        return request["image"]

    def predict(self, image: list[float]) -> list[float]:
        """Its confidences, [10]."""
        return self.model.predict_proba([image])[0].tolist()

    def encode_response(self, output: list[float]) -> dict:
        """What is sent."""
        return {"output": output}


if __name__ == "__main__":
    server = litserve.LitServer(Digits())
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
