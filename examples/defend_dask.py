"""Defend Parquet files with Dask: workers get the path of the defense, and load it once each."""

import os
import secrets
import tempfile

import dask.dataframe as dd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from dask.distributed import Client, LocalCluster

import mipoison as mp
from mipoison.defenses import LaplaceNoise
from mipoison.integrations.arrow import defend


def main() -> None:
    """Defends random vectors on a cluster of two workers, started here."""
    # Workers started here inherit the key. On a cluster of yours each node has it from a secret store.
    os.environ["MIPOISON_KEY"] = secrets.token_hex(32)
    defense = LaplaceNoise(scale=0.05, key=mp.Key.from_env("MIPOISON_KEY"))
    outputs = torch.rand(2000, 10).softmax(1)
    vectors = pa.FixedSizeListArray.from_arrays(outputs.view(-1).numpy(), 10)
    table = pa.table({"id": pa.array(range(2000)), "p": vectors})

    with tempfile.TemporaryDirectory() as folder:
        for part in range(4):
            pq.write_table(table[500 * part : 500 * part + 500], f"{folder}/{part}.parquet")
        defense.save(f"{folder}/defense.safetensors")
        deferred = mp.Deferred(f"{folder}/defense.safetensors", key_env="MIPOISON_KEY")
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
        ):
            # (Dask makes texts of vectors that are Python objects; those of Arrow it leaves as they are.)
            frame = dd.read_parquet(f"{folder}/*.parquet", dtype_backend="pyarrow")
            answers = frame.map_partitions(defend, deferred, meta=frame._meta)
            found = answers.compute().sort_values("id")  # or answers.to_parquet(…)

    assert torch.equal(torch.tensor(found["p"].tolist()), defense(outputs))
    print(f"Dask defended {len(found)} rows, as the defense itself does")


if __name__ == "__main__":
    main()
