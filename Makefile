# Every target makes and fills the virtual environment when it is missing or pyproject.toml changed.
VENV ?= .venv
PYTHON ?= python3
SCALE ?=
DEMO_ARGS ?=
# Files of tests are shared out among the cores; a file's tests stay together.
PYTEST_ARGS ?= --numprocesses=logical --maxprocesses=4 --dist=loadfile
BIN := $(VENV)/bin
SHOT_TESTS := pages approval rollouts_page review_page alerts_page
comma := ,
EXTRAS_TEST := all,test$(if $(SCALE),$(comma)test-scale)
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check docs bench unit protos screenshots clean

demo: $(VENV)/.installed-all
	$(BIN)/lineside demo $(DEMO_ARGS)

test: check docs unit

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src tests docs examples benchmarks README.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python tools/shape.py

unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

docs: $(VENV)/.installed-test
	$(BIN)/mkdocs build --strict --quiet

# The stubs of every protocol again; a test compares them with those that are checked in.
protos: $(VENV)/.installed-test
	$(BIN)/python tools/protos.py

# The pictures of pages in the documentation again, by the browser tests.
screenshots: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=0 $(SHOT_TESTS:%=tests/browser/test_%.py) \
	  -k "are_quiet or is_quiet or audits_are_blind or covered" --screenshots docs/images

bench: $(VENV)/.installed-test
	for file in benchmarks/[a-z]*.py; do \
	  case $$file in */measure.py) ;; *) echo "== $$file"; $(BIN)/python $$file || exit 1;; esac; done

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-all: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable ".[all]"
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable ".[$(EXTRAS_TEST)]"
	touch $@ $(VENV)/.installed-all

clean:
	rm -rf $(VENV) site build dist
