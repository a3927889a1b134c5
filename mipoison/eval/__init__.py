"""Judge a defense by how well strong adversaries reconstruct inputs from what it serves.

From the command line::

    mipoison evaluate --preset demo --out results/demo
    mipoison report results/demo

From Python::

    from dataclasses import replace
    from pathlib import Path
    from mipoison.eval.experiment import run
    from mipoison.eval.presets import DEMO
    from mipoison.eval.report import write_report

    configuration = replace(DEMO, seeds=(100,), temperatures=(3.0,))
    run(configuration, Path("results/mine"), jobs=2)
    write_report(Path("results/mine"))

What lies where:

- `data`: the data sets, a file each, and who holds which rows. `architectures`, `targets`: the
  classifier that is defended, and its temperature.
- `methods`, `presets`, `configuration`: the defenses compared, and everything a run depends on.
  A new defense is a recipe in `methods.BUILDERS` and a `Method` in a preset.
- `outside`, `outside_target`: defenses and targets that are not ours. `preflight`: all of that is checked before any
  cell starts.
- `adversaries`: one file each; `adversaries.families` says who is A2 and who is A3.
- `attack`, `metrics`, `utility`: attack all systems side by side; measure privacy; measure cost.
- `averaging`, `simulation`, `worst_cases`: adversaries who ask again, or who know everything but the key.
- `stage`, `cell`, `store`, `experiment`: one seed's data and target; one (seed, temperature); where it is kept; all of
  them, each as it finishes, here or on a cluster.
- `options`, `signals`, `ticks`: what the command line takes, how it ends, what it shows meanwhile.
- `summary`, `figures`, `tables`, `page`, `report`: from numbers to the page.

Needs the extra: ``pip install 'mipoison[eval]'``. Nothing here is imported by `import mipoison`.
"""
