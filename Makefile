# Everything a person runs. `make` alone lists the targets.
#
#   make demo                      the whole path on rendered videos, 14 minutes on two cores
#   make extract DATASET=agqa      stage one of another data set; says which files it wants where
#   make extract DATASET=agqa DATA_ROOT=/videos/agqa      its annotations and videos lie elsewhere
#   make demo SEED=2               other videos, their own store and runs
#   make test VENV=/opt/venv       use an environment that is already there

DATASET ?= demo
SEED    ?= 1
VENV    ?= .venv
ARGS    ?=
PYTHON  ?= python3

READY   := $(VENV)/.videodistill-ready
RUN     := $(VENV)/bin/videodistill
SELECT   = $(DATASET) --seed $(SEED) $(if $(DATA_ROOT),--data-root '$(DATA_ROOT)') $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo reproduce demo-encoder data extract train pretrain evaluate report \
        test test-slow check format bench bench-store bench-loader bench-step bench-scale bench-extract clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 15

$(READY): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(READY)  ## make the virtual environment with all that the project needs

demo: $(READY)  ## render, extract, train, evaluate and report the demo in one go
	$(RUN) demo --seed $(SEED) $(ARGS)

reproduce: $(READY)  ## measure the paper's claims on the demo, five seeds each (three hours; goes on where it was)
	$(RUN) extract demo
	$(RUN) extract demo-choices
	$(RUN) extract demo-captions
	$(RUN) reproduce $(ARGS)

demo-encoder: $(READY)  ## train the small CLIP that ships with the demo anew (about an hour)
	$(RUN) demo-encoder $(ARGS)

data: $(READY)  ## render the demo's videos and questions
	$(RUN) data make demo --seed $(SEED) $(ARGS)

extract: $(READY)  ## stage one: frozen CLIP over every clip of DATASET, into its feature store
	$(RUN) extract $(SELECT)

train: $(READY)  ## stage two: train VideoDistill and its baselines from the store of DATASET
	$(RUN) train $(SELECT)

pretrain: $(READY)  ## stage two on the captions of DATASET; ARGS='--start-from RUN' of train goes on from it
	$(RUN) pretrain $(SELECT)

evaluate: $(READY)  ## test every trained run of DATASET, write summary.json
	$(RUN) evaluate $(SELECT)

report: $(READY)  ## write report.html from the evaluated runs of DATASET
	$(RUN) report $(SELECT)

test: $(READY)  ## the default tests: no network, no GPU, under ten minutes on two cores
	$(VENV)/bin/python -m pytest

test-slow: $(READY)  ## the tests that take minutes each
	$(VENV)/bin/python -m pytest -m slow --timeout 1800

check: $(READY)  ## lint, format, types and import contracts, as in CI
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest -q tests/test_repo_shape.py

format: $(READY)  ## let ruff format and mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: bench-store bench-loader bench-step  ## the benchmarks that take minutes, into benchmarks/results/

bench-store: $(READY)  ## measure the store's readers against others, into benchmarks/results/
	$(VENV)/bin/python -m benchmarks.store_read $(ARGS)

bench-extract: $(READY)  ## measure extraction against its stages and others' loops (9 minutes)
	$(VENV)/bin/python -m pip install --quiet --editable '.[bench]'
	$(VENV)/bin/python -m benchmarks.extraction $(ARGS)

bench-loader: $(READY)  ## measure supplying batches, cold reads, and an epoch's cost with and without the cache
	$(VENV)/bin/python -m benchmarks.loader $(ARGS)
	$(VENV)/bin/python -m benchmarks.data_size
	$(VENV)/bin/python -m benchmarks.cold_reads
	$(VENV)/bin/python -m benchmarks.epoch_cost

bench-step: $(READY)  ## measure a training step against its parts, and Eq. 6 against a product with its mask
	$(VENV)/bin/python -m benchmarks.gather $(ARGS)
	$(VENV)/bin/python -m benchmarks.training_step $(ARGS)

bench-scale: $(READY)  ## measure a manifest of ten million clips (20 minutes, 5 GB of disk)
	$(VENV)/bin/python -m benchmarks.manifest_scale $(ARGS)

clean:  ## remove caches; data/, stores/ and runs/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
