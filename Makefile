# edgepe: two commands do everything on a fresh machine with Python 3.11+ and make.
.DEFAULT_GOAL := help
.PHONY: help demo test dev lint fix wheel bench clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .constraints.txt

help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9.-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch first and only as pinned: a looser request pulls several GB of CUDA packages.
# seglearn ships the recordings of the demo; without its dependencies, for only its data file is read.
$(VENV)/.demo: pyproject.toml .constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"edgepe: the host needs Python 3.11 or newer, got {v[0]}.{v[1]}; next: make PYTHON=python3.11 demo")'
	@echo "making $(VENV) (some minutes the first time)" >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[torch,fleet]'
	$(PIP) --no-deps seglearn
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --editable '.[dev]'
# The real packages whose layers edgepe takes; without their dependencies, which are torch's whole vision stack.
	$(PIP) --no-deps bayesian-torch blitz-bayesian-pytorch torchbnn
	@touch $@

dev: $(VENV)/.dev ## make the environment for working on edgepe

demo: $(VENV)/.demo ## the whole story on real data: train, build, run, watch, update
	@$(BIN)/edgepe demo $(ARGS)

test: $(VENV)/.dev ## run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The agent alone on the oldest Python it promises; JetPack 6 has 3.10.
PYTHON310 ?= $(firstword $(shell python3.10 -c "import sys; print(sys.executable)" 2>/dev/null) $(wildcard $(HOME)/.pyenv/versions/3.10*/bin/python3.10))
.PHONY: test-agent-3.10
test-agent-3.10: ## the agent's tests on Python 3.10, where that interpreter exists
ifeq ($(PYTHON310),)
	@echo "no python3.10 on this machine: the agent's tests ran on $$($(PYTHON) --version) alone" >&2
else
	$(PYTHON310) -m venv .venv-3.10
	.venv-3.10/bin/python -m pip install --quiet --disable-pip-version-check --constraint .constraints.txt \
	  --editable '.[agent-ort,agent-tflite]' hypothesis onnx pytest pytest-timeout
	.venv-3.10/bin/python -m pytest tests/unit/device_agent tests/property/device_agent tests/golden/test_wire_bytes.py $(ARGS)
endif

lint: $(VENV)/.dev ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy edgepe device_agent tests
	$(BIN)/mypy --python-version 3.10 device_agent
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.dev ## build the wheel and try it bare in an empty environment
	$(BIN)/python -m pytest tests/integration/test_wheel.py $(ARGS)

.PHONY: emulator
emulator: $(VENV)/.demo ## fetch what runs Arm programs here, for edgepe verify --emulate and its tests
	$(BIN)/python -m edgepe.verify.emulator $(ARGS)

bench: $(VENV)/.dev ## measure, and write tables and JSON beside them
	$(BIN)/python -m tests.bench

.PHONY: peers bench-compile
peers: $(VENV)/.dev ## make the rivals' own environments, pinned (about 3 GB)
	$(BIN)/python -m tests.bench.compile.environments

# Pillow only decodes the photographs that the benchmark trains on.
bench-compile: peers ## our int8 artifacts beside the rivals', on nets trained here
	$(PIP) pillow==13.0.0
	$(BIN)/python -m tests.bench.compile $(ARGS)

clean: ## remove the environment and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
