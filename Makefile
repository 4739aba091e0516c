# `make demo` and `make test` need nothing but Python 3.10 to 3.13; both make .venv on their first run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
JOBS ?= 2

.PHONY: demo web test test-all test-fast test-processors lint docs benchmark paper clean

demo: $(VENV)/installed
	$(BIN)/ctsam3d demo --output demo
	@echo "The same in a browser: make web"

web: $(VENV)/installed
	$(BIN)/ctsam3d web

# All tests but the long ones.
test: lint
	$(BIN)/pytest -m "not slow"

# What is long too: fuzzing by the thousand, endurance. For the night and before a release.
test-all: lint
	$(BIN)/pytest

# What needs no browser, no server, no bundled model and no real CT. Further options of pytest: OPTIONS="-k clicks".
test-fast: lint
	$(BIN)/pytest -n auto -m "not (web or server or model or data or gpu or slow)" $(OPTIONS)

# All tests as on four other processors, four times as long; one of them: .venv/bin/python -m Testing.processors NAME=VALUE
test-processors: $(VENV)/installed
	$(BIN)/python -m Testing.processors

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation's pages, in site/; any warning is an error.
docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

benchmark: $(VENV)/installed
	$(BIN)/python -m Testing.benchmarks.interaction

# Every table and figure from nothing, on synthetic data; on real ones by make paper DATA="flare22=FOLDER btcv=FOLDER".
# PAPER takes further options of training.paper. What was stopped goes on.
paper: $(VENV)/installed
	$(BIN)/python -m training.paper --output paper --jobs $(JOBS) $(foreach pair,$(DATA),--data $(pair)) $(PAPER)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo paper build site *.egg-info
