"""Many scenarios: planned from an experiment file, run over processes or a Dask cluster, kept in a store.

`planning` makes tasks, `work` runs them (in a worker), `processes` and `dask_pool` are pools of workers, `running`
hands tasks out and keeps what comes back, `command` is what the command line and the Python API call, `report` what
they show and write.
"""
