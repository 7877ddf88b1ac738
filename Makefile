# Every target sets up what it needs, once, and says what it is doing. Paths are relative, so a checkout
# may live in a folder with spaces in its name.
.DEFAULT_GOAL := help
PY := .venv/bin/python
SHELL := bash
DEMO := .[embedded,demo]
DEV := .[embedded,demo,evals,hub,torch,dev]
# Python's compiled files are kept even where the environment says otherwise: without them every process that a test
# starts compiles the house anew, and pytest rewrites every test file at every run.
export PYTHONDONTWRITEBYTECODE :=

help:  ## what can be done here
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

# uv installs several times as quickly as pip. Where it fails, such as behind an index that only pip was told of, pip does it.
define install
	@$(PY) -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt setuptools wheel uv
	@UV_NATIVE_TLS=1 .venv/bin/uv pip install --quiet --python $(PY) -c constraints.txt --no-build-isolation -e $(1) || { \
	  echo "== uv failed, pip does it" && \
	  $(PY) -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt --no-build-isolation -e $(1); }
endef

.venv/.ready-demo: pyproject.toml constraints.txt
	@echo "== setting up .venv for running (once; about half a minute)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Watchword needs Python 3.11 or later: python3 is $$(python3 --version)"; exit 1; }
	@test -x $(PY) || python3 -m venv .venv
	$(call install,'$(DEMO)')
	@touch $@

.venv/.ready-dev: .venv/.ready-demo
	@echo "== setting up .venv for development (once; torch is large, about a minute)"
	$(call install,'$(DEV)')
	@touch $@

demo: .venv/.ready-demo  ## start everything on real clips and answer five questions (ONCE=1 ends there)
	@$(PY) -m watchword demo $(if $(ONCE),--once)

# Several tests at once; what fails there must pass alone, and is named either way.
define tests
	@$(PY) -m pytest -q $(1) $(2) || { echo "== what failed, again and alone" && \
	  $(PY) -m pytest -q $(2) --last-failed --last-failed-no-failures none; }
endef

test:  ## every test, on the real parts (one file: .venv/bin/pytest FILE)
	@$(MAKE) --no-print-directory -j 2 .venv/.ready-dev s3-server
	@HISTORIES=$${HISTORIES:-100} $(MAKE) --no-print-directory test-fast
	@echo "== the other tests (real servers, real models, real video), three files at once"
	$(call tests,-n 3 --dist loadfile --no-loadscope-reorder,--rest)

s3-server:
	@python3 -m tests.tools.versitygw

# `make test` tries as many random examples as ever; this target alone tries fewer.
test-fast: export HISTORIES ?= 40
# The tests share the cores: numeric libraries that start a thread a core on top of that mostly wait for each other.
test-fast: export OMP_NUM_THREADS := 1
test-fast: export OPENBLAS_NUM_THREADS := 1
test-fast: .venv/.ready-dev  ## the tests that need no server and no real model
	@echo "== tests without servers, three at once"
	$(call tests,-n 3,--fast)

check: .venv/.ready-dev  ## style, types and layout, as CI asks
	@echo "== ruff" && $(PY) -m ruff check . && $(PY) -m ruff format --check .
	@echo "== mypy --strict" && $(PY) -m mypy

load: .venv/.ready-dev  ## how many questions a second: Locust on the embedded stack
	@$(PY) -m loadtests.load

proto: .venv/.ready-dev  ## make the stubs again from the .proto files
	@echo "== stubs" && $(PY) -m tests.tools.make_stubs

clean:  ## remove the environment and the demo's data
	rm -rf .venv .watchword build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
.PHONY: help demo test test-fast check s3-server load proto clean
