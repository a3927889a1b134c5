"""Defend a data frame with Spark: workers get the path of the defense, and load it once each."""

import os
import secrets
import sys
import tempfile

import torch
from pyspark.sql import SparkSession

import mipoison as mp
from mipoison.defenses import LaplaceNoise
from mipoison.integrations.arrow import defend


def main() -> None:
    """Defends random vectors on two local cores."""
    # Workers started here inherit the key. On a cluster of yours each node has it from a secret store.
    os.environ["MIPOISON_KEY"] = secrets.token_hex(32)
    defense = LaplaceNoise(scale=0.05, key=mp.Key.from_env("MIPOISON_KEY"))
    outputs = torch.rand(2000, 10, dtype=torch.float64).softmax(1)

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the workers' Python
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "300")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        defense.save(f"{folder}/defense.safetensors")
        deferred = mp.Deferred(f"{folder}/defense.safetensors", key_env="MIPOISON_KEY")
        frame = session.createDataFrame(
            list(enumerate(outputs.tolist())), "id long, p array<double>"
        )  # or session.read.parquet(…)
        answers = frame.repartition(4).mapInArrow(
            lambda batches: defend(batches, deferred), frame.schema
        )
        rows = answers.orderBy("id").collect()  # or answers.write.parquet(…)
    session.stop()

    found = torch.tensor([row["p"] for row in rows], dtype=torch.float64)
    assert torch.equal(found, defense(outputs))
    print(f"Spark defended {len(rows)} rows, as the defense itself does")


if __name__ == "__main__":
    main()
