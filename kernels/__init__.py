"""The row operations in Triton, installed as `mipoison.kernels`: same names and numbered steps as the reference.

No operation has a kernel yet. Until one has, tensors on a GPU are served by the reference, and
`mipoison.backends()` says so.
"""
