# Two commands do everything on a fresh machine with Python 3.11+:
#   make demo    the main job: table, figure, trace
#   make test    all checks (make changed: those of changed files; make quick: those of a minute;
#                make test-slow: the long ones; make fuzz: 10,000 odd inputs)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
QUICK := tests/engine tests/hardware tests/model tests/plan tests/analysis tests/test_documents.py tests/test_conditions.py
COUNT ?= 10000
SEED ?= 0

# compiled files are kept, those of tests too: the second run of pytest need not rewrite what it asserts
unexport PYTHONDONTWRITEBYTECODE

# tests of a file, and those that share predictions, run in one worker: what they share is made once
WORKERS := -n 2 --dist loadgroup
SINCE ?= HEAD

.PHONY: demo test changed quick test-slow fuzz bench bench-peers bench-search bench-serving lint format notebooks pages site show-site clean

demo: $(STAMP)
	$(BIN)/simgpu run experiments/tp2_scaling.yaml

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

# the tests that mirror what differs from the last commit (SINCE=main: from a branch), in seconds
changed: $(VENV)/.installed-test
	$(BIN)/python -m tests.changed --since $(SINCE)

# the folders that mirror the package: closed forms, laws, hardware, plans; no commands, no pictures
quick: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" $(QUICK)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(WORKERS) -m slow

# defects go to results/fuzz, each with the command that repeats it
fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED) --jobs 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# what a user waits for, appended to benchmarks/history.csv; then engine, kernels, scenarios
bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/felt.py
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/scenarios.py

bench-serving: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/serving.py

# beside a peer, in an environment of its own (850 MB)
bench-peers: $(VENV)/.installed-bench
	test -x $(VENV)/peers/bin/aiconfigurator || ($(PYTHON) -m venv $(VENV)/peers && $(VENV)/peers/bin/pip install --quiet "aiconfigurator == 0.12.0")
	$(BIN)/python benchmarks/peers.py --peer $(VENV)/peers/bin/aiconfigurator

bench-search: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/scenarios.py --large

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# after a change of the model: what the notebooks show is compared with what they say now
notebooks: $(VENV)/.installed-test
	$(BIN)/python notebooks/execute.py

# the same for what the pages print and draw
pages: $(VENV)/.installed-test
	$(BIN)/python docs/refresh.py

# the documentation as a site: open site/index.html; show-site serves it on this machine, with its search
site: $(VENV)/.installed-site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

show-site: site
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

# The environment is made again when the packaging changes. An interrupted install leaves no stamp and is repeated.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "simgpu needs Python 3.11 or newer: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): setup.cfg setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q simgpu  # a cold start is mostly imports
	touch $@

$(VENV)/.installed-test: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@

$(VENV)/.installed-bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

$(VENV)/.installed-site: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[site]"
	touch $@

clean:
	rm -rf $(VENV) build results site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
