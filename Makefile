# Every target sets itself up: on a bare Debian 12, `make test` is all there is to type.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV ?= .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
# another index to take torch from: the default one's build brings CUDA, and gigabytes, with it
TORCH_INDEX ?=

##@ Use
install: $(VENV)/.installed ## make .venv with everything pinned in requirements/

demo: install ## the most harmful samples of scikit-learn's digits, found by the real service, in half a minute
	@$(BIN)/python examples/digits_demo.py $(ARGS)

serve: install ## API and worker on http://127.0.0.1:8000 until Ctrl-C (settings: DIFFIN_…, see app/settings.py)
	@exec $(BIN)/diffin serve

##@ Develop
test: install servers ## the tests but for the slow ones (ARGS="-k name" picks some)
	@$(BIN)/pytest -m "not slow and not gpu" --numprocesses auto --maxprocesses 4 --dist loadscope $(ARGS)

test-slow: install servers ## the slow tests (a GPU's among them where there is one)
	@$(BIN)/pytest -m "slow or gpu" $(ARGS)

chaos: install servers ## 100 random faults against 50 jobs of a real service, with its tally (QUICK=1: 10 against 10)
	@$(BIN)/python -m tests.chaos.storm $(if $(QUICK),--quick) $(ARGS)

bench: install peers ## every benchmark, each closing with its bar lines (QUICK=1: on less)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file $(if $(QUICK),--quick); done

fuzz: install ## every reader of files by coverage-guided fuzzing, 60 s each (QUICK=1: 10 s; ARGS="--seconds 180 npz")
	@$(BIN)/python -m tests.hostile.fuzz $(if $(QUICK),--seconds 10) $(ARGS)

lint: install compose ## style, types, safety, layers, migrations, Dockerfile, docker-compose.yml, known vulnerabilities
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_migrations.py
	@$(BIN)/hadolint Dockerfile
	@docker-compose --env-file .env.example --profile gpu config --quiet
	@$(BIN)/python tools/audit.py --lenient

audit: install ## what is pinned, against known vulnerabilities; fails as well where their service cannot be asked
	@$(BIN)/python tools/audit.py

format: install ## put the code into the form that lint asks for
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: install ## pin anew what pyproject.toml asks for (UPGRADE=1: to the newest versions)
	@$(PIP) install uv
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra worker --extra recorder --extra otel --group demo --group torch-needs \
		--group build --group dev --output-file requirements/lock.txt
	@$(COMPILE) --constraint requirements/lock.txt --extra worker --group torch-needs --group build \
		--output-file requirements/server.txt
	@$(BIN)/uv pip compile benchmarks/rivals/requirements.in --override benchmarks/rivals/overrides.txt --quiet \
		--universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(if $(UPGRADE),--upgrade) \
		--output-file benchmarks/rivals/lock.txt

clean: ## remove what these targets made, but not a service's data (.diffin)
	rm -rf $(VENV) $(PEERS) demo dist .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install demo serve test test-slow fuzz chaos bench lint audit format lock clean help python peers servers compose

# ---------------------------------------------------------------- what the targets stand on
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --override requirements/overrides.txt --no-emit-package torch

# torch stays out of the hashed lock: its builds for CPU and CUDA share a version, not a hash. What it
# needs is in the lock, so its own index is asked for nothing but torch. The lock is whole, and what asks
# for torch in it must not fetch another one: hence --no-deps.
$(VENV)/.installed: requirements/lock.txt requirements/torch.txt pyproject.toml
	@$(MAKE) python
	@echo "installing into $(VENV): a few minutes the first time, to download what requirements/ pins;" \
		"most of it is torch (gigabytes with CUDA; TORCH_INDEX=... takes it from another index)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-deps --require-hashes --requirement requirements/lock.txt
	@$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --requirement requirements/torch.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The tools that benchmarks compare with, apart from everything of the product's. Their lock is whole but for
# torch and torchvision, which one of them asks for and none of what is run here needs: hence --no-deps.
peers: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/rivals/lock.txt requirements/torch.txt
	@$(MAKE) python
	@echo "installing into $(PEERS): a few minutes the first time, to download torch and the tools to compare with"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --quiet --quiet --disable-pip-version-check install \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --requirement requirements/torch.txt
	@$(PEERS)/bin/python -m pip --quiet --quiet --disable-pip-version-check install --no-deps --require-hashes \
		--requirement benchmarks/rivals/lock.txt
	@touch $@

python:
	@tools/need.sh python3 "command -v $(PYTHON)" python3-venv "$(PYTHON) -c 'import ensurepip, venv'"

servers:
	@tools/need.sh postgresql "ls /usr/lib/postgresql/*/bin/initdb || command -v initdb" \
		redis-server "command -v redis-server" curl "command -v curl" chromium "command -v chromium" \
		faketime "command -v faketime" prometheus "command -v promtool"

compose:
	@tools/need.sh docker-compose "command -v docker-compose"
