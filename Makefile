# Two commands: `make demo` and `make test`. Both need Python 3.11 or newer and make, and set up the rest by themselves.
#
#   make demo              a cluster on this machine, jobs of several kinds, and it stays up to play with
#   make demo ARGS=--exit  the same, and it ends by itself: exit status 0 only if every job ended as expected
#   make test              every check: format, lint, types, layers, settings, documentation, tests on real servers
#                          (choose tests with ARGS, as in: make test ARGS=tests/unit)
#   make oldest            the quick tests with the oldest versions of the dependencies that pyproject.toml allows: ARGS chooses
#   make schema            migrations/schema.sql, the schema that all migrations together make: after a new migration
#   make docs              the documentation as a site, in site/: open site/index.html
#   make chaos             the whole fault catalogue, about half an hour (SEED=1 SCENARIO=1,6 MINUTES=2 SHARDS=3 choose)
#   make mutants           taskd with one protection off each: what the catalogue must catch (MUTANT=no-dedupe chooses)
#   make bench             taskd and its peers side by side on this machine, and with ten million finished jobs: 24 minutes
#                          and 4 GB of disk (QUICK=1: one pass of taskd alone, under 3 minutes; LARGE=0: not those jobs)
#   make soak              a cluster under half of its maximum load, with worker restarts: does anything grow? 30 minutes,
#                          or MINUTES=10; SEED=7 chooses the same restarts again
#   make clean             removes the virtual environment and the caches; the data of `taskd dev` in .taskd stay

VENV := .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := $(VENV)/bin
# pip, which shows the names of packages and no addresses.
INSTALL := $(BIN)/python -I src/taskd/dev/installing.py

.DEFAULT_GOAL := help
.PHONY: help demo test oldest schema docs chaos mutants bench soak clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/ready-to-run
	@$(BIN)/python -m taskd.dev.demo $(ARGS)

# Says at each start that its next major version will be another program.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

test: $(VENV)/ready-to-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# The example file is made from the settings, so it must be the same text.
	$(BIN)/python -m taskd.settings | diff -u taskd.toml.example -
	@# A warning is an error: a dead link, a page that is in no menu.
	$(MKDOCS) build --strict --quiet
	@# Most tests wait most of the time, so three processes take a third of it, on two cores too. Each has servers of its own.
	@# Files in the order of their names: those that take longest come first.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

OLDEST := $(addprefix tests/,unit/test_api_submit.py unit/test_cli_parsing.py unit/test_clients.py unit/test_log.py unit/test_monitoring.py \
	unit/test_settings.py unit/test_sink.py unit/test_tracing.py integration/test_api_http.py integration/test_coordination_registry.py \
	integration/test_store.py integration/test_submit_in.py integration/test_transport.py) \
	'tests/e2e/test_broken_logs.py::test_a_cluster_without_a_log_works_and_ends_in_good_order[full]'
# Lower bounds that nobody tries are wrong sooner or later. Warnings are errors here, too.
oldest: .venv-oldest/ready
	@.venv-oldest/bin/python -m pytest -p no:cacheprovider $(or $(ARGS),$(OLDEST))

# By way of another file: a failure leaves the old one.
schema: $(VENV)/ready-to-run
	@$(BIN)/python -m taskd.dev.schema > migrations/schema.sql.new && mv migrations/schema.sql.new migrations/schema.sql

docs: $(VENV)/ready-to-test
	@$(MKDOCS) build --strict --quiet
	@echo "open site/index.html"

chaos: $(VENV)/ready-to-test
	@$(BIN)/python -m tests.chaos

mutants: $(VENV)/ready-to-test
	@$(BIN)/python -m tests.chaos.mutants

bench: $(VENV)/ready-to-test $(if $(filter-out 0,$(QUICK)),,.venv-bench/ready)
	@$(BIN)/python -m bench

soak: $(VENV)/ready-to-test
	@$(BIN)/python -m tests.soak

clean:
	rm -rf $(VENV) .venv-oldest site .venv-bench bench/peers/node/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A stamp is newer than pyproject.toml once everything is installed: the second run installs nothing.
$(VENV)/ready-to-run: pyproject.toml | $(VENV)/bin/python
	@echo "installing taskd and its three servers into $(VENV) (once)"
	@$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/ready-to-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing taskd, its three servers and the checks into $(VENV) (once)"
	@$(INSTALL) -e '.[dev,test]'
	@touch $@ $(VENV)/ready-to-run

# uv is the installer that can take the lowest version of each direct dependency.
.venv-oldest/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "taskd needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "installing the oldest dependencies into .venv-oldest (once)"
	@$(PYTHON) -m venv --clear .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev,test]'
	@touch $@

# Each peer has an environment of its own: their dependencies do not agree. Those of Node.js are measured where npm is.
.venv-bench/ready: $(wildcard bench/peers/requirements/*.txt) bench/peers/node/package.json
	@echo "installing the peers into .venv-bench (once)"
	@for file in $(wildcard bench/peers/requirements/*.txt); do \
		home=.venv-bench/$$(basename $$file .txt) && $(PYTHON) -m venv $$home && \
		$$home/bin/python -m pip install --quiet --disable-pip-version-check -r $$file || exit 1; done
	@if command -v npm >/dev/null; then cd bench/peers/node && npm install --silent --no-audit --no-fund; fi
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "taskd needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment could be made (on Debian: apt install python3-venv)"; exit 1; }
