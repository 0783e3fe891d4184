# Every target sets up what it needs from a bare Python 3.11 with pip: virtual environment, dependencies, Kafka's jars.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
JARS   := $(VENV)/.jars

.PHONY: help setup demo test check bench image clean
help:
	@echo "make demo    the product's story from end to end, in about a minute"
	@echo "make test    the whole test suite"
	@echo "make check   ruff and mypy"
	@echo "make bench   rates, CPU and memory; AEROSPIKE_HOSTS=host:port runs it on a real server"
	@echo "make clean   remove what the other targets made"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(JARS): $(READY) cdc/embedded/kafka.py
	$(BIN)/python -m cdc.embedded.kafka fetch
	@touch $@

setup: $(JARS)

demo: setup
	$(BIN)/aerospike-cdc demo

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
