# Two commands do everything: `make table` (the main job on the embedded data) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: table test test-killed test-slurm test-minkowski rehearsal lint benchmark benchmark-gpu docs lock schema

table: $(VENV)/installed
	snakemake --cores all --quiet rules host reason -- results/table_main.csv results/report.html
	@clip2scene show
	@clip2scene reference || true

test: $(VENV)/installed
	pytest

# SIGKILL at 30 random moments of the smallest workflow: the same table, byte for byte.
test-killed: $(VENV)/installed
	CLIP2SCENE_KILLS=30 pytest tests/workflow/test_killed.py -s

# On a real Slurm, which it starts on this machine, as root (Debian: apt install slurm-wlm): see docs/slurm.md.
test-slurm: $(VENV)/slurm
	CLIP2SCENE_SLURM=1 pytest tests/workflow/test_slurm.py -s

# Live against MinkowskiEngine, which is compiled first (4 to 15 minutes; a C++ compiler, OpenBLAS' headers, Python 3.11).
test-minkowski: $(VENV)/minkowski
	pytest -m minkowski

# Every stage of config/paper.yaml at full width for a step, on the real keyframe and the real scan of ../shared/data.
# Says so and skips where these are not there.
rehearsal: $(VENV)/installed
	CLIP2SCENE_REHEARSAL=1 pytest tests/planning/test_rehearsal.py -s

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

benchmark: $(VENV)/installed
	pytest tests/benchmarks --benchmark-only

# Layers and training steps on an NVIDIA GPU, beside spconv and spconv-triton where pip finds them; under ten minutes.
benchmark-gpu: $(VENV)/installed
	@if ls /dev/nvidia[0-9]* > /dev/null 2>&1; then pip install --quiet spconv-cu126 spconv-triton || true; fi
	@python tests/benchmarks/gpu.py benchmark-gpu.json

# The pages of docs/, into docs/_build/html; a broken link is an error.
docs: $(VENV)/installed
	python docs/columns.py
	sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

# The environment, from the lock file; made again when the lock file changes.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/slurm: $(VENV)/installed profiles/slurm/requirements.txt
	$(BIN)/pip install --quiet --no-deps -r profiles/slurm/requirements.txt
	touch $@

# Built for the CPU. It finds no torch in an isolated build, and no BLAS by today's distutils.
$(VENV)/minkowski: $(VENV)/installed
	$(BIN)/pip install --quiet ninja "setuptools<81"
	CUDA_VISIBLE_DEVICES= SETUPTOOLS_USE_DISTUTILS=stdlib \
	  $(BIN)/pip install --no-build-isolation --no-deps MinkowskiEngine==0.5.4
	touch $@

# For maintainers: pins every dependency with its hashes (needs uv).
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra test --extra docs \
	  --no-header pyproject.toml -o requirements.lock

schema: $(VENV)/installed
	clip2scene schema config/schema.json
