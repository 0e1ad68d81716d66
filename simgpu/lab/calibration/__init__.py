"""A GPU's constants from measured rows: reading, fitting, scores and files of `simgpu calibrate`.

`kinds` maps a row to the model that predicts it (the adapters of `simgpu.lab.validation`), `tunable` says which
constants may move and how far, `fitting` moves them, `rows` says which rows count, `run` fits class by class with half
of them held back, `outcome` holds the result, `fragment` writes YAML, `report` prints.
"""
