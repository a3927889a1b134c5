"""The row operations in Triton, installed as `mipoison.kernels`: same names and numbered steps as the reference.

Importing this package loads no Triton: `mipoison.gpu` imports the operations' modules on the first call.
- `project`, `move`, `flip`, `words`: one operation each, its kernel and the function that launches it;
- `simplex`, `linf`, `l1`, `l2`: the projections of MATH §1–2 on a row in float64; `quick` the common case in float32;
- `rows`, `rounding`, `roots`: what they share;
- `launch`: how rows are spread over programs; `resources` and `warmup`: compiling ahead of time.
"""
