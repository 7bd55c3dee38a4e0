# `make demo` runs the whole loop offline; `make test` runs every test. Each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A torch process with a small model spends much of its time giving memory back and asking for it again.
FAST := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864

.PHONY: demo test install lint clean

demo: $(VENV)/.ready
	$(FAST) $(BIN)/python -m benchmarks.closed_loop --quick

# Two processes, each with whole files. The tests marked `vllm` need the CPU build of vLLM, in an environment of its
# own; where there is none, they say so.
test: $(VENV)/.ready
	-sh tests/install_vllm.sh $(PYTHON)
	$(FAST) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

install: $(VENV)/.ready

lint: $(VENV)/.ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/.ready: pyproject.toml
	@echo "Setting up $(VENV) (first time only: some minutes and about 2 GB)"
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-vllm runs build *.egg-info
