"""Predictions against measurements: what `simgpu validate` reads, predicts, scores and prints.

`sources` has a module for each published table: its citation, columns, and how a row becomes a call of a model.
`adapters` is what tables of one kind share. An adapter turns the rows of a table (`tables`, `cells`) into `batches`
that one call of a model predicts. `run` predicts and counts, `score` condenses, `report`, `steps` and `pages` say it,
`residuals` makes the small table behind the error bars.
"""
