# Each target makes .venv when it is missing, installs the package into it, and does its work there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: reproduce test test-slow lint bench gpu report docs clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   run the main reproduction on embedded data and show its page"
	@echo "make test        run the tests that take less than half a second, nine of ten"
	@echo "make test-slow   run the others"
	@echo "make lint        ruff and mypy"
	@echo "make bench       speed, as ratios measured within one process"
	@echo "make gpu         tests, speed and cells of a paper on a CUDA card, in four minutes"
	@echo "make docs        build the documentation, docs/_build/html/index.html"
	@echo "make report      rebuild the HTML pages and the generated parts of the README files"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $(STAMP)

reproduce: $(STAMP)
	$(BIN)/lightning-regs reproduce zhang2017 --scale quick --open

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" --durations 5 --durations-min 2

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	LIGHTNING_REGS_BENCH_WRITE=1 $(BIN)/python -m pytest tests/benchmarks --override-ini addopts= -s -q

gpu: $(STAMP)
	$(BIN)/python tests/benchmarks/gpu.py --device $(or $(DEVICE),cuda)

report: $(STAMP)
	$(BIN)/lightning-regs report --cards
	$(BIN)/python tests/core/test_architecture.py
	$(BIN)/python tests/generated.py

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	$(BIN)/lightning-regs report --page docs/_build/html/results

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache
