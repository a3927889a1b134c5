"""Run an experiment: `experiment` spreads its cells, `cell` runs one (seed, temperature), `store` keeps the results."""
