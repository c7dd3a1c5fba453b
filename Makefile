# Two commands do everything: `make table` (the main job on the embedded data) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: table test test-killed test-minkowski lint benchmark docs lock schema

table: $(VENV)/installed
	snakemake --cores all results/table_main.csv results/report.html
	@clip2scene reference || true
	@echo "The report, for a browser: results/report.html"

test: $(VENV)/installed
	pytest

# SIGKILL at 30 random moments of the smallest workflow: the same table, byte for byte.
test-killed: $(VENV)/installed
	CLIP2SCENE_KILLS=30 pytest tests/workflow/test_killed.py -s

# Live against MinkowskiEngine, which is compiled first (4 to 15 minutes; a C++ compiler, OpenBLAS' headers, Python 3.11).
test-minkowski: $(VENV)/minkowski
	pytest -m minkowski

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

benchmark: $(VENV)/installed
	pytest tests/benchmarks --benchmark-only

# The pages of docs/, into docs/_build/html; a broken link is an error.
docs: $(VENV)/docs
	python docs/columns.py
	sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

# The environment, from the lock file; made again when the lock file changes.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install --quiet --no-build-isolation -e ".[docs]"
	touch $@

# Built for the CPU. It finds no torch in an isolated build, and no BLAS by today's distutils.
$(VENV)/minkowski: $(VENV)/installed
	$(BIN)/pip install --quiet ninja "setuptools<81"
	CUDA_VISIBLE_DEVICES= SETUPTOOLS_USE_DISTUTILS=stdlib \
	  $(BIN)/pip install --no-build-isolation --no-deps MinkowskiEngine==0.5.4
	touch $@

# For maintainers: pins every dependency with its hashes (needs uv).
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra test --no-header \
	  pyproject.toml -o requirements.lock

schema: $(VENV)/installed
	clip2scene schema config/schema.json
