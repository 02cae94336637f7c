# Every recipe does one job, and CI calls them by these names. ARGS is handed on: make sweep-mnist ARGS="seed=1".
# PYTHON is the interpreter that .venv is made with: make setup PYTHON=python3.12.

PYTHON ?= python3
ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test test-slow coverage check demo ui sweep-mnist sweep-cifar bench lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv from requirements.lock, with the project in it (nothing to do when it is up to date)

# .locked is written last, so an environment whose making was interrupted is made again from nothing. The bytecode is compiled
# here, once, on every core: without it each process that imports TensorFlow would compile for ten seconds. Some packages hold
# templates that are not Python; compileall reports those, and that is no failure.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("sweep needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make setup PYTHON=python3.11" % v)'
	@echo "making $(VENV) from requirements.lock: about two minutes, 3.5 GB"
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	-@$(PY) -m compileall -qq -j 0 $(VENV)/lib
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test: setup ## the tests that take seconds, on every core
	$(PY) -m pytest -n auto --dist worksteal -m "not slow" --durations 20 $(ARGS)

test-slow: setup ## the tests that train networks, start processes, kill sweeps, draw inputs at random or build the wheel
	$(PY) -m pytest -n auto --dist worksteal -m slow --durations 20 $(ARGS)

# Tracing takes about half as long again until Python 3.14, where coverage asks the interpreter instead.
coverage: ## make test, and which lines and branches of the package it did not reach
	$(MAKE) test ARGS="--cov --cov-report=term:skip-covered $(ARGS)"

check: setup ## lint, format, types, layers
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) $(VENV)/bin/lint-imports --no-logo

demo: setup ## one run on the defaults, then an exact grid of four; works offline
	$(PY) -m sweep.main
	$(PY) -m sweep.main -m prune.sparsity=0.5,0.8 quant=ptq,qat

sweep-mnist: setup ## the MNIST search
	$(PY) -m sweep.main -m +experiment=mnist $(ARGS)

sweep-cifar: setup ## the CIFAR-10 search
	$(PY) -m sweep.main -m +experiment=cifar $(ARGS)

ui: setup ## MLflow's pages of all runs, on http://127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(PY) -m mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --artifacts-destination mlruns/artifacts \
		--host 127.0.0.1 --port 5000 --workers 1 $(ARGS)

bench: setup ## the speed targets, each as a ratio in one run: about half an hour, nothing else may run
	$(PY) bench/speed.py $(ARGS)
	$(PY) bench/ptq.py

lock: setup ## write requirements.lock again from pyproject.toml; make lock ARGS=--upgrade takes newer versions
	$(PY) -m uv pip compile --quiet --extra dev --python-version 3.11 --universal --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements.lock $(ARGS) pyproject.toml

clean: ## remove build products and tool caches; results (mlruns/) and .venv stay
	rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . \( -name .git -o -name $(VENV) -o -name mlruns \) -prune -o -name __pycache__ -type d -exec rm -rf {} +
