# `make demo` runs the main job, `make test` the tests. Each makes what it needs; a second call sets up nothing again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

OLDEST := .venv-oldest
OLDEST_STAMP := $(OLDEST)/.installed
OLDEST_TESTS := tests/test_oldest_versions.py tests/trainers/test_training.py tests/trainers/test_saving.py \
	tests/trainers/test_resuming.py tests/models/test_feature_hook.py tests/models/test_adapter_folders.py \
	tests/data/test_table_files.py tests/data/test_streaming.py tests/objectives/test_deepjdot.py tests/cli/test_finetune.py
OLDEST_IMAGE_TESTS := tests/data/test_image_encoder.py tests/test_images_training.py

export PYTHONDONTWRITEBYTECODE :=  # compiled once, not by each process that the tests start

.PHONY: demo test test-slow test-oldest check docs dist clean

demo: $(STAMP)  # accelerate's launcher gives a process one thread unless it is told
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$($(BIN)/python -c "from hftransfer.cpu_threads import cores; print(cores())")} \
	$(BIN)/accelerate launch --config_file recipes/accelerate/one_process.yaml recipes/adapt.py --config recipes/configs/adapt_sample.yaml

test: $(STAMP)  # two files at a time, in the order of tests/conftest.py: module fixtures stay with their file
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-oldest: $(OLDEST_STAMP)  # the core with the oldest supported versions; images ask for a newer transformers, laid over the rest
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)
	PYTHONPATH=$(CURDIR)/$(OLDEST)/images $(OLDEST)/bin/python -m pytest $(OLDEST_IMAGE_TESTS)

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
	rm -rf $(VENV) $(OLDEST) build dist site runs *.egg-info

# One environment with exact versions, remade when the pins or the project's own needs change.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[test]"
	touch $(STAMP)

$(OLDEST_STAMP): pyproject.toml constraints-oldest.txt constraints-oldest-images.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt torch setuptools
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --no-build-isolation \
		--editable ".[plots,search,transport]" pillow pytest pytest-timeout
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(OLDEST)/images \
		--requirement constraints-oldest-images.txt
	touch $(OLDEST_STAMP)
