# `make demo` runs the main job, `make test` the tests. Each makes what it needs; a second call sets up nothing again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check docs dist clean

demo: $(STAMP)  # accelerate's launcher gives a process one thread unless it is told
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$($(BIN)/python -c "from hftransfer.threads import cores; print(cores())")} \
	$(BIN)/accelerate launch --config_file recipes/accelerate/one_process.yaml recipes/finetune.py --config recipes/configs/news_to_medical.yaml

test: $(STAMP)  # two files at a time: tests are single-threaded, and module fixtures stay with their file
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sphinx-build -b html -W --keep-going -q docs site

docs: $(STAMP)
	$(BIN)/sphinx-build -b html -W --keep-going docs site

dist: $(STAMP)  # sdist and wheel into dist/, their metadata checked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[release]"
	rm -rf dist build
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist site runs *.egg-info

# One environment with exact versions, remade when the pins or the project's own needs change.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[test]"
	touch $(STAMP)
