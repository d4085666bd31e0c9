# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The interpreter for the virtual environment: python3.11 if it is there, else python3 (3.11 or newer). `make venv PYTHON=python3.12`
PYTHON ?=
TEST_PROCESSES ?= 2

# Nothing here needs an account or calls home. `WANDB_MODE=online HF_HUB_OFFLINE=0 make demo` turns the network on.
export WANDB_MODE ?= offline
export WANDB_SILENT ?= true
export WANDB_ERROR_REPORTING ?= false
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Threads that wait sleep instead of spinning: on a shared machine spinning ones hold up those that work.
export OMP_WAIT_POLICY ?= PASSIVE

# The demo: supervised fine-tuning, then PPO with token rewards from where that ended.
DEMO_DIR ?= runs/demo
DEMO_SFT ?= --config configs/game24/sft.yaml --trainer.default_root_dir $(DEMO_DIR)/sft
DEMO_PPO ?= --config configs/game24/ppo_token.yaml --trainer.max_epochs 100 --trainer.default_root_dir $(DEMO_DIR)/ppo --model.init_from $(DEMO_DIR)/sft/checkpoints/last.ckpt

.PHONY: help
help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

.PHONY: demo
demo: venv  ## set up, then train the tiny model by SFT and by PPO, and say where the report is
	$(BIN)/python train.py fit $(DEMO_SFT)
	$(BIN)/python train.py fit $(DEMO_PPO)
	@echo "The report: $(abspath $(DEMO_DIR)/ppo/report.html)"

# Without dynamo, since bitsandbytes hands functions to torch.compile as it is imported: two seconds of each process that a test starts.
.PHONY: test
test: lint  ## set up, then ruff, mypy and the whole test suite
	TORCHDYNAMO_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup

.PHONY: test-trl
test-trl:  ## the tests with TRL's own trainer, in a virtual environment of their own
	$(MAKE) venv VENV=$(VENV)-trl
	$(VENV)-trl/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[trl]'
	OMP_NUM_THREADS=1 $(VENV)-trl/bin/python -m pytest tests/verifiers/test_trl_reward.py tests/benchmarks/test_gpu_7b.py

.PHONY: lint
lint: venv  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: venv
venv: $(VENV)/.installed  ## make the virtual environment and install everything into it

# torch goes first and alone, so that the build for this machine is settled before anything else asks for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then if python3.11 -c '' 2>/dev/null; then python=python3.11; else python=python3; fi; fi; \
	"$$python" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] + " (" + sys.executable + "). Say which one to use: make PYTHON=/path/to/python3.11")'; \
	[ -x $(BIN)/pip ] || "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.PHONY: clean
clean:  ## remove the virtual environments and the caches (runs/ stays)
	rm -rf $(VENV) $(VENV)-trl build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
