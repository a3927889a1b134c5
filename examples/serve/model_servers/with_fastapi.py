"""A classifier behind FastAPI, as its tutorial would have it; run with `uvicorn with_fastapi:app`."""

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("model.joblib")


class Images(BaseModel):
    """Images, [N, 64]."""

    images: list[list[float]]


@app.get("/health")
def health() -> dict[str, str]:
    """Says that the server runs."""
    return {"status": "ok"}


@app.post("/predict")
def predict(asked: Images) -> dict[str, object]:
    """Class names, confidences, and logits beside them."""
    images = np.array(asked.images)
    return {
        "items": [
            {"label": int(p.argmax()), "confidences": p.tolist(), "logits": logits.tolist()}
            for p, logits in zip(
                model.predict_proba(images), model.decision_function(images), strict=True
            )
        ]
    }
