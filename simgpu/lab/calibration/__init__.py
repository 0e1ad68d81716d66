"""A GPU's constants from measured rows: what `simgpu calibrate` reads, fits, scores and writes.

`kinds` tells what a row measures and which model predicts it (the adapters of `simgpu.lab.validation`), `tunable`
which constants may move and how far, `fitting` moves them, `run` does it class by class with half of the rows held
back, `fragment` writes YAML, `report` says what happened.
"""
