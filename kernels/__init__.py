"""The row operations in Triton, installed as `mipoison.kernels`: same names and numbered steps as the reference.

Importing this package loads no Triton: `mipoison.gpu` imports the operations' modules on the first call.
- `project`, `move`, `flip`, `words`, `quantize`: one operation each, its kernel and the function that launches it;
- `network`: `recover` and `pull`, on small networks; `perturb`: projected steps along their gradient;
- `layers`: those networks on a program's rows; `aim` and `advance`: the two halves of a step of `perturb`;
- `project_float32`: the common case of `project` in float32; `project_float64`: every other row, in float64;
- `simplex`, `linf`, `l1`, `l2`: the projections of the mathematics page, sections 1, 3, 2 and 5, on a row in float64;
- `rows`, `rounding`, `roots`: what they share;
- `launch`: how rows are spread over programs; `resources` and `warmup`: compiling ahead of time.
"""
