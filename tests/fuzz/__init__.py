"""Inputs that nobody would write by hand, for every door of simgpu, and a judge of what comes back.

    python -m tests.fuzz --count 10000 --seed 0 --jobs 2

draws that many inputs from a seed. Each begins as a valid example (an experiment, a specification of the catalogue, a
`config.json`, a log, a table, a store, a call of the Python API) and is then damaged: keys deleted, doubled, renamed;
numbers huge, tiny, negative, NaN; other types, other units, deep nesting, broken bytes. Worker processes run them
through the command line (in the process) or the API, and `trial.judge` counts what came of each:

- **answered**: exit code 0, and every number of the answer finite and possible; or the same of some rows, and exit
  code 2 with a line that says which others cannot run;
- **refused**: exit code 2, one line that begins with `simgpu:` (or click's usage of the command), nothing on stdout,
  no file written; of the API an `InputError` of one line;
- a **defect**: a traceback, another exit code, a message of several lines or of none, more than 20 s, more than 2 GB,
  a file that a refused command left behind, an impossible number.

An input depends on the seed and its number alone. Defects are kept in a folder each, with the files, the message and
the command that repeats them. `inputs.py` says what is drawn, `mutations.py` how it is damaged, `trial.py` how it is
run and judged, `workers.py` how many run at once. A small share runs in `make test` (`tests/test_fuzz.py`).
"""
