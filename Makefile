# `make demo` and `make test` need Python >= 3.10, make and git; each makes its own virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test test-all lint docs package clean

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Both stages of the method on built-in scenes, then the test of fold 0's novel classes with 1 and with 5 shots.
demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/lightning fit --config lightning_configs/demo/pretrain.yaml --run $(DEMO)/pretrain
	$(BIN)/lightning fit --config lightning_configs/demo/qgnet.yaml --run $(DEMO)/qgnet
	for shots in 1 5; do \
	  $(BIN)/lightning test --config lightning_configs/demo/qgnet.yaml --data.shots $$shots \
	    --ckpt_path $(DEMO)/qgnet/checkpoints/last.ckpt --run $(DEMO)/$$shots-shot || exit 1; \
	done
	$(BIN)/qgnet report --classes $(DEMO)
	@echo "Look at $(DEMO)/1-shot/contact_sheet.png and $(DEMO)/5-shot/contact_sheet.png"

# At most four at once: some tests start processes of their own, each with a copy of torch (about 1 GB).
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(PYTEST) -m "not slow"

# What takes long, too: processes that are killed, whole trainings, the page in a browser.
test-all: .venv/installed
	$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site in docs/_build/html: pages, API, and the notebook, which is run. A warning is an error.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

# Wheel and sdist in dist/, checked, and installed into an empty environment elsewhere, where the commands run.
package: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	.ci/try_wheel $(BIN)/python dist/*.whl

clean:
	rm -rf .venv $(DEMO) docs/_build dist build
