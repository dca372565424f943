# Holdfast for developers. Every target sets up .venv first, once.
#   make quickstart   a small study on the embedded model, then where its report is
#   make test         the test suite
#   make check        ruff and mypy
#   make bench        measurements: ratios against named peers, and what the embedded model can do
#   make pocket       train the embedded model and its twin again, from scratch: an hour and a half on two cores
# Another interpreter or index: make test PYTHON=python3.12 PIP_ARGS='...'

PYTHON ?= python3
PIP_ARGS ?=
POCKET ?= tools.pocket.pretrain
BIN := .venv/bin
READY := .venv/ready

.PHONY: quickstart test check bench pocket

quickstart: $(READY)
	$(BIN)/holdfast run +study=quickstart

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

pocket: $(READY)
	$(BIN)/python -m $(POCKET)

# The stamp is written last, so an interrupted set-up is done again.
$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) --editable '.[dev]'
	@touch $@
