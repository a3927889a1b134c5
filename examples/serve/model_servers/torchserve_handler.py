"""A handler of TorchServe that answers with the whole confidence vector of each request."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """JSON {"image": [64]} → [10]."""

    def preprocess(self, data: list[dict]) -> torch.Tensor:
        """The images of a batch of requests, [N, 64]."""
        return torch.tensor([one["body"]["image"] for one in data], dtype=torch.float64)

    def postprocess(self, data: torch.Tensor) -> list[list[float]]:
        """One answer for each request."""
        return data.tolist()
