"""Defend a data set with Ray Data: workers get the path of the defense, and load it once each."""

import os
import secrets
import tempfile

import pyarrow as pa
import ray
import torch

import mipoison as mp
from mipoison.defenses import LaplaceNoise
from mipoison.integrations.arrow import defend


def main() -> None:
    """Defends random vectors on a cluster of two workers, started here."""
    # Workers started here inherit the key. On a cluster of yours each node has it from a secret store. Never pass it
    # in `runtime_env`, which Ray stores and shows.
    os.environ["MIPOISON_KEY"] = secrets.token_hex(32)
    defense = LaplaceNoise(scale=0.05, key=mp.Key.from_env("MIPOISON_KEY"))
    outputs = torch.rand(2000, 10).softmax(1)
    vectors = pa.FixedSizeListArray.from_arrays(outputs.view(-1).numpy(), 10)
    table = pa.table({"id": pa.array(range(2000)), "p": vectors})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder:
        defense.save(f"{folder}/defense.safetensors")
        deferred = mp.Deferred(f"{folder}/defense.safetensors", key_env="MIPOISON_KEY")
        answers = (
            ray.data.from_arrow(table)  # or ray.data.read_parquet(…)
            .repartition(4)
            .map_batches(defend, fn_args=(deferred,), batch_format="pyarrow", batch_size=500)
        )
        rows = sorted(answers.take_all(), key=lambda row: row["id"])  # or answers.write_parquet(…)
    ray.shutdown()

    found = torch.tensor([row["p"] for row in rows])
    assert torch.equal(found, defense(outputs))
    print(f"Ray defended {len(rows)} rows, as the defense itself does")


if __name__ == "__main__":
    main()
