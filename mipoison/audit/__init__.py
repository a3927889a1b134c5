"""Measure what your own confidence vectors leak: `mipoison audit`.

- `evidence`: inputs and vectors, as they are read from a file, a folder or a callable.
- `read`: the reading, and every mistake told before anything is trained; `options`: what it is told of the data.
- `arrays`, `tables`, `folders`: an npz, a CSV or Parquet, pictures; `stored`, `columns` and `images` are what
  these read with, and `found` is what each of them gives.
- `vectors`, `callables`: vectors from a file of their own, or from a model; `confidences` makes probabilities of them.
- `checks`: what inputs must be, and which rows are copies.
- `measure`: who holds which rows, what adversaries make of vectors under each defense, and how long that takes.
- `report`: verdict, recommendation, page and JSON.
- `command`: the command line, from reading to the files that are written.
"""
