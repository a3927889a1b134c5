"""Judge a defense by how well strong adversaries reconstruct inputs from what it serves.

From the command line::

    mipoison evaluate --preset demo --out results/demo
    mipoison report results/demo

From Python::

    from dataclasses import replace
    from pathlib import Path
    from mipoison.eval.presets import DEMO
    from mipoison.eval.report.report import write_report
    from mipoison.eval.run.experiment import run

    configuration = replace(DEMO, seeds=(100,), temperatures=(3.0,))
    run(configuration, Path("results/mine"), jobs=2)
    write_report(Path("results/mine"))

An experiment reads from top to bottom, and each folder imports only those below it:

- `cli`, `options`, `presets`, `configuration`: what a run is asked for, completely.
- `run`: `experiment` runs each (seed, temperature) by `cell`, `store` keeps what is finished, `preflight` checks all of
  it before a cell starts.
- `report`: HTML, Markdown and pictures from results.json; `glossary` has every term.
- `scores`: numbers from reconstructions and vectors, their summary over seeds.
- `adversaries`: what inverts the vectors; `attack` lets all of them attack all defenses side by side.
- `targets`: the classifiers that are defended.
- `data`: the data sets, and who holds which rows.
- `methods`, `strengths`: the defenses compared. A new one is a recipe in `methods.BUILDERS` and a `Method` in a preset.
- `metrics`, `outside`, `scalars`: errors and gains; code that is not ours; numbers and seeds.

Needs the extra: ``pip install 'mipoison[eval]'``. Nothing here is imported by `import mipoison`.
"""
