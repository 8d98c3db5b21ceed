# Every target makes and fills the virtual environment when it is missing, or when pyproject.toml or
# constraints.txt changed.
VENV ?= .venv
PYTHON ?= python3
SCALE ?=
DEMO_ARGS ?=
BENCH_ARGS ?= --minutes 30
# One process for each core: more keep these busier, and journeys of several programs then run out
# of time. Files are shared out in order, and a file's tests stay together. nproc itself gives
# OMP_NUM_THREADS where that is set.
WORKERS ?= $(shell cores=$$(env -u OMP_NUM_THREADS nproc); echo $$((cores < 4 ? cores : 4)))
PYTEST_ARGS ?= --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder --durations=25
# The gate is the same in every run: these tests, in this order, with these examples.
GATE := -m "not full and not quarantined" --randomly-seed=1
BIN := $(VENV)/bin
SHOT_TESTS := pages approval rollouts_page review_page alerts_page
comma := ,
EXTRAS_TEST := all,test$(if $(SCALE),$(comma)test-scale)
export OMP_NUM_THREADS ?= 1

.PHONY: demo test full check docs reference bench unit all-tests protos constraints screenshots clean

demo: $(VENV)/.installed-all
	$(BIN)/lineside demo $(DEMO_ARGS)

test: check docs unit

# The benchmarks come last, so that nothing runs beside them.
full: check docs all-tests
	$(MAKE) bench

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src tests docs examples benchmarks README.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python tools/shape.py

# Spark's tests are over before Java's second compiler pays: with the first alone they take 3/5.
unit all-tests: export JAVA_TOOL_OPTIONS ?= -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(GATE)

# Every test, with a new order and new examples; the seed is printed and kept in the result.
all-tests: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS) --hypothesis-profile=full --result=benchmarks/results/full.json

docs: $(VENV)/.installed-test
	$(BIN)/python tools/shape.py --prose
	$(BIN)/mkdocs build --strict

# The parts of reference pages that come from the code again; make docs compares them.
reference: $(VENV)/.installed-test
	$(BIN)/python tools/manual.py

# The stubs of every protocol again; a test compares them with those that are checked in.
protos: $(VENV)/.installed-test
	$(BIN)/python tools/protos.py

# The versions that an installation takes, of every extra, Python and platform. Those that are there
# stay where pyproject.toml allows them; UPGRADE=--upgrade takes the newest.
constraints: $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-annotate --no-header --quiet $(UPGRADE) --output-file constraints.txt

# The pictures of pages in the documentation again, by the browser tests and the tutorials.
screenshots: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=0 $(SHOT_TESTS:%=tests/browser/test_%.py) \
	  tests/journeys/test_tutorials.py --screenshots docs/images \
	  -k "are_quiet or is_quiet or audits_are_blind or covered or what_it_shows or lies_under_it"

# Results again, those measured longest ago first, and the table of benchmarks/README.md.
bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/renew.py $(BENCH_ARGS)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-all: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all]"
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS_TEST)]"
	touch $@ $(VENV)/.installed-all

clean:
	rm -rf $(VENV) site build dist
