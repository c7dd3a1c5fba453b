# Two commands do everything: `make table` (the main job on the embedded data) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: table test lint benchmark lock schema

table: $(VENV)/installed
	snakemake --cores all results/table_main.csv

test: $(VENV)/installed
	pytest

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

benchmark: $(VENV)/installed
	pytest tests/benchmarks --benchmark-only

# The environment, from the lock file; made again when the lock file changes.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# For maintainers: pins every dependency with its hashes (needs uv).
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --all-extras --no-header \
	  pyproject.toml -o requirements.lock

schema: $(VENV)/installed
	clip2scene schema config/schema.json
