"""Measure what your own confidence vectors leak: `mipoison audit`.

- `evidence`: inputs and vectors, as they are read from a file, a folder or a callable.
"""
