"""A GPU's constants from measured rows: reading, fitting, scores and files of `simgpu calibrate`.

`kinds` maps a row to the model that predicts it (the adapters of `simgpu.lab.validation`), `tunable` says which
constants may move and how far, `fitting` moves them, `run` does it class by class with half of the rows held back,
`fragment` writes YAML, `report` prints the outcome.
"""
