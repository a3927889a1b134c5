"""Measure what your own confidence vectors leak: `mipoison audit`.

- `evidence`: inputs and vectors, as they are read from a file, a folder or a callable.
- `reading`: reads them, and tells every mistake before anything is trained.
- `measure`: who holds which rows, what adversaries make of vectors under each defense, and how long that takes.
- `report`: verdict, recommendation, page and JSON.
- `command`: the command line, from reading to the files that are written.
"""
