"""Many scenarios: planned from an experiment file, run over a pool of workers, kept in a store.

`planning` makes tasks, `work` runs them (in a worker), `running` hands tasks out and keeps what comes back, `store` and
`identity` say where and under which key, `results` reads them again, `command` is what the command line and the Python
API call.
"""
