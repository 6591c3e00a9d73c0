# Each target does its own set-up: a virtual environment in .venv, made again when pyproject.toml or the lock changes.
#   make run     three nodes on loopback with an account to try; Ctrl-C stops them
#                [RUN_DIR=run] where they are kept, [BASE_PORT=20000] their first port when they are made
#   make test    every test (installs the mail programs and name servers that the tests use, through apt-get, where missing)
#                [TEST_WORKERS=] processes at a time, [TEST_ARGS=] for pytest
#   make schemathesis  the admin API of a node examined for [SECONDS=600] by what it says of itself, with [SEEDS="1 2 3"]
#   make million a mailbox of a million messages, and clients that ask for all of it and read nothing; prints times and memory
#   make mbsync  ten thousand messages kept alike in both directions through leaders that are killed
#   make tls     sslyze against every port, the admin API's and those between nodes too; testssl.sh against three
#   make check   ruff, mypy --strict, import direction
#   make bench   the log, SMTP, connections and IMAP; results/*.json
#   make simulate  cells in simulated time under faults: [SEEDS=1..5000] one cell a seed, [JOBS=] processes at a time
#   make chaos   every scenario on real processes: [SEEDS="1 2 3"], [DURATION=] seconds of faults each; results/chaos
#   make soak    half an hour of mail under one fault after another: nothing lost, memory flat; results/soak
PYTHON ?= $(shell scripts/which-python)
SEEDS ?= 1 2 3 4 5 6 7 8 9 10
JOBS ?=
DURATION ?=
RUN_DIR ?= run
BASE_PORT ?=
TEST_ARGS ?=
TEST_WORKERS ?= 4

# tests wait more than they work; a file stays whole, and those that take longest come first, as they are collected;
# a test that hangs ends the run; one that fails is tried once more, and the summary names it (RERUN): real processes on a
# machine that others use, too
export PYTHONDONTWRITEBYTECODE := # some machines set it: then each of hundreds of processes would compile all modules
SPREAD = --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --reruns 1 -raR

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.PHONY: help setup run test schemathesis million mbsync tls check bench simulate chaos soak clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mailraft needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

setup: $(STAMP)

run: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/run-cluster "$(RUN_DIR)" "$(BASE_PORT)"

# sslyze asks for an older cryptography than the program has, and works with ours
SCANNER = install --quiet --disable-pip-version-check --no-deps sslyze==6.3.1 nassl==5.4.0 tls-parser==2.0.2

test: $(STAMP)
	scripts/debian-packages
	$(BIN)/python -m pip $(SCANNER) || echo "sslyze could not be installed: its tests are skipped"
	scripts/npm-packages $(VENV)/npm
	NODE_PATH="$(CURDIR)/$(VENV)/npm/node_modules" $(BIN)/python -m pytest $(SPREAD) $(TEST_ARGS)

schemathesis: SECONDS = 600
schemathesis: SEEDS = 1 2 3
schemathesis: $(STAMP)
	MAILRAFT_SCHEMATHESIS_S=$(SECONDS) MAILRAFT_SCHEMATHESIS_SEEDS="$(SEEDS)" $(BIN)/python -m pytest -s tests/nodes/http/test_schemathesis.py $(TEST_ARGS)

million: $(STAMP)
	MAILRAFT_MESSAGES=1000000 $(BIN)/python -m pytest -s tests/nodes/imap/test_million.py $(TEST_ARGS)

mbsync: $(STAMP)
	scripts/debian-packages
	MBSYNC_MESSAGES=10000 $(BIN)/python -m pytest -s tests/acceptance/test_two_way_sync.py $(TEST_ARGS)

tls: $(STAMP)
	scripts/debian-packages
	$(BIN)/python -m pip $(SCANNER)
	TESTSSL=1 $(BIN)/python -m pytest tests/nodes/tls/test_tls_scan.py $(TEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_imports.py

bench: $(STAMP)
	scripts/debian-packages
	@mkdir -p results
	$(BIN)/mailraft bench log --json > results/log.json
	$(BIN)/mailraft bench smtp --peer postfix --json > results/smtp.json
	$(BIN)/mailraft bench connections --json > results/connections.json
	$(BIN)/mailraft bench imap --peer dovecot --json > results/imap.json
	@echo "results/log.json, smtp.json, connections.json and imap.json; against an earlier run: mailraft bench compare OLD NEW"

simulate: SEEDS = 1..5000
simulate: $(STAMP)
	$(BIN)/mailraft chaos simulate --seeds $(SEEDS) $(if $(JOBS),--jobs $(JOBS))

comma := ,
space := $(subst ,, )
chaos: SEEDS = 1 2 3
chaos: $(STAMP)
	$(BIN)/mailraft chaos run all --seeds $(subst $(space),$(comma),$(strip $(SEEDS))) --report results/chaos \
		$(if $(DURATION),--duration $(DURATION))

soak: $(STAMP)
	$(BIN)/mailraft chaos run soak --seed $(firstword $(SEEDS)) --report results/soak \
		$(if $(DURATION),--duration $(DURATION))

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
