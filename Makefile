# Each target works on a fresh clone by itself: it makes .venv and installs the lock file there first, once.
# `make test PYTHON=python3.12` takes another Python, `make install TORCH_INDEX=URL` torch from another index.
# `make fuzz MINUTES=5` tries generated inputs for five minutes.
PYTHON ?= python3
TORCH_INDEX ?=
MINUTES ?= 60

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.PRECIOUS: .environments/%/.installed
.PHONY: install demo test test-models test-all fuzz lint bench lock clean

install: $(INSTALLED)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  came=$$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo "not there"); \
	  echo "adapts needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$came." \
	       "Name another: make $(or $(firstword $(MAKECMDGOALS)),install) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first, so that TORCH_INDEX serves torch alone; the lock then finds it there.
$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(addprefix --index-url ,$(TORCH_INDEX)) "$$(grep -oE '^torch==[0-9.]+' requirements.lock)"
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)
	$(BIN)/adapts forecast greensboro --prediction-length 24 --output run/ --overwrite

# Two workers of one thread each: what a test computes is too small to share out.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# Frozen models whose packages conflict with ours: each environment is a folder before .venv, filled without what its
# packages require, which .venv has. NAME_TESTS selects the tests that it enables.
MODELS := granite moirai moirai-1 moment tirex tirex-2
granite_TESTS := ttm or patchtst_fm or patchtst-fm or flowstate
moirai_TESTS := moirai2 or moirai-2
moirai-1_TESTS := moirai1 or moirai-1
moment_TESTS := moment
tirex_TESTS := tirex and not tirex2 and not tirex-2
tirex-2_TESTS := tirex2 or tirex-2

# The whole: also what the suite leaves out for its time, and frozen models in environments of their own.
test-all: test test-models
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

test-models: $(MODELS:%=test-models-%)

test-models-%: .environments/%/.installed
	OMP_NUM_THREADS=1 PYTHONPATH=.environments/$* $(BIN)/python -m pytest tests/test_foundation_*.py -k "$($*_TESTS)"

.environments/%/.installed: adapts/registry.py | $(INSTALLED)
	rm -rf .environments/$*
	$(BIN)/python -m pip install --no-deps --target .environments/$* \
	  $$($(BIN)/python -c "from adapts.registry import ENVIRONMENTS; print(ENVIRONMENTS['$*'])")
	@touch $@

# Other inputs each day: the seeds begin at its date. What fails is run again alone by its seed.
fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m generated --minutes $(MINUTES) --start $$(date +%Y%m%d0000)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Every card of datasets/ where ADAPTS_DATA names the folder of their files, and what ships with pvlib where it does not.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.main_job.run $(if $(ADAPTS_DATA),,greensboro)
	$(BIN)/python -m benchmarks.main_job.table
	$(BIN)/python -m benchmarks.coupled.run $(if $(ADAPTS_DATA),,greensboro)
	$(BIN)/python -m benchmarks.coupled.table scores --readme
	$(if $(ADAPTS_DATA),$(BIN)/python benchmarks/foundation/zero_shot.py --output run/zero_shot.csv)

# One resolution for every Python and platform. What torch needs for a graphics card is left to pip: it differs by index.
lock: $(BIN)/python
	$(BIN)/python -m pip install uv
	{ echo '# Made by `make lock` from pyproject.toml: what `make install` installs, on Python 3.11 to 3.13.'; \
	  echo 'torch==2.13.0' | $(BIN)/uv pip compile pyproject.toml --extra dev --universal \
	    --no-annotate --no-header --quiet --constraint - | grep -vE '^(nvidia|cuda|triton)-?'; } > requirements.new
	mv requirements.new requirements.lock

clean:
	rm -rf $(VENV) .environments run build dist .mypy_cache .pytest_cache .ruff_cache lightning_logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
