# Every target sets up what it needs from a bare Python 3.11 with pip: virtual environment, dependencies, Kafka's jars.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
JARS   := $(VENV)/.jars
STORES := $(VENV)/.stores
# Tests wait more than they work, so more run at a time than there are cores. On a server named in AEROSPIKE_HOSTS they
# share its namespaces, and run one after the other.
WORKERS ?= $(if $(AEROSPIKE_HOSTS),0,3)
AZURITE  := azurite@3.35.0
FAKE_GCS := github.com/fsouza/fake-gcs-server@v1.56.1

.PHONY: help setup demo test check model bench image clean
help:
	@echo "make demo    the product's story from end to end, in about a minute"
	@echo "make test    the whole test suite"
	@echo "make check   ruff and mypy"
	@echo "make model   10,000 random programs, and 100 in real time: nothing exact may be wrong (CDC_MODEL_EXAMPLES=n: so many)"
	@echo "make bench   rates, CPU and memory; AEROSPIKE_HOSTS=host:port runs it on a real server, PARTS='…' some of it"
	@echo "make clean   remove what the other targets made"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(JARS): $(READY) cdc/embedded/kafka.py
	$(BIN)/python -m cdc.embedded.kafka fetch
	@touch $@

# Servers that speak the clouds' protocols, for tests; where npm or go is missing their tests are skipped (in CI they fail).
$(STORES): $(READY) Makefile
	@if command -v npm >/dev/null; then npm install --silent --no-fund --no-audit --prefix $(VENV)/azurite $(AZURITE); fi
	@if command -v go >/dev/null; then GOBIN=$(abspath $(BIN)) go install $(FAKE_GCS); fi
	@touch $@

setup: $(JARS)

demo: setup
	$(BIN)/aerospike-cdc demo

test: setup $(STORES)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

model: setup
	CDC_MODEL_EXAMPLES=$${CDC_MODEL_EXAMPLES:-10000} $(BIN)/python -m pytest tests/model

bench: setup
	$(BIN)/python -m tests.bench $(PARTS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
