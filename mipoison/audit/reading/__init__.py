"""Read inputs and vectors, and tell every mistake before anything is trained.

- `read`: the reading; `options`: what it is told of the data.
- `arrays`, `tables`, `folders`: an npz, a CSV or Parquet, pictures; `stored`, `columns` and `images` are what
  these read with, and `found` is what each of them gives.
- `vectors`, `callables`: vectors from a file of their own, or from a model; `confidences` makes probabilities of them.
- `checks`: what inputs must be, and which rows are copies.
"""
