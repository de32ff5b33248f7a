# Every target sets up .venv by itself; when nothing changed since, that takes a moment.
#   PYTHON       the starting Python; its torch, torchvision and detectron2 are used where it has them
#   DETECTRON2   folder, wheel or URL of detectron2, for a Python without it

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python

# What changes how numbers are rounded: threads, and instruction sets of PyTorch and of oneDNN.
# First all that the machine has.
ROUNDINGS := ONEDNN_MAX_CPU_ISA=DEFAULT OMP_NUM_THREADS=1 OMP_NUM_THREADS=4 \
	ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 \
	ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_MAX_CPU_ISA=AVX2

.PHONY: help demo app test test-extras soak lint docs portability setup clean

help:
	@echo "make demo    train configs/demo/shapes_R18.yaml, a small VFNet, on drawn shapes"
	@echo "make app     a page in the browser that detects with what make demo trained"
	@echo "make test    run all tests"
	@echo "make test-extras    install all extras, run the tests that need them"
	@echo "make soak    kill runs and damage files by the hundred: about an hour"
	@echo "make lint    check format, style and types"
	@echo "make docs    build the documentation as a site"
	@echo "make portability    run the tests of parity as other processors round"
	@echo "make setup   make .venv ready, which all others do first"
	@echo "make clean   remove .venv and caches"

demo: setup
	$(VENV_PYTHON) demo/shapes.py

# Asks a package index only where Gradio is missing, so that it starts without a network too.
app: setup
	@$(VENV_PYTHON) -c "import gradio" 2> /dev/null || \
		$(VENV_PYTHON) -m pip install --quiet --no-build-isolation --editable ".[web]"
	$(VENV_PYTHON) demo/app.py

# On networks as small as the tests' a second thread waits more than it computes; a second process
# does not.
test: setup
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest tests -n auto --dist loadfile

# A browser that does not answer fails its test instead of holding up all others.
test-extras: setup
	$(VENV_PYTHON) -m pip install --quiet --no-build-isolation --editable ".[export,sahi,timm,wandb,web,test-extras]"
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest tests -m extra --timeout 600

# The figures of docs/reliability.md.
soak: setup
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest tests -m soak --soak -n auto --dist load

lint: setup
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m mypy

# A warning, such as a link to nothing or a key without a description, fails it.
docs: setup
	$(VENV_PYTHON) -m pip install --quiet --no-build-isolation --editable ".[docs]"
	$(VENV_PYTHON) -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs
	@echo "The documentation: build/docs/index.html"

portability: setup
	@set -e; for setting in $(ROUNDINGS); do \
		echo "== $$setting"; env $$setting $(VENV_PYTHON) -m pytest tests -q -m parity; \
	done

setup:
	@$(PYTHON) tools/dev/bootstrap.py

# What set-up and the tools made; results of runs (output/) stay.
clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
