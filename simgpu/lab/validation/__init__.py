"""Predictions against measurements: what `simgpu validate` reads, predicts, scores and prints.

A folder of tables (`tables`) is taken apart by one adapter for each kind of table (`adapters`, listed in `sources`);
an adapter turns rows into batches that one call of a model predicts. `run` predicts and counts, `score` condenses,
`report` and `page` say it, `residuals` makes the small table behind the error bars.
"""
