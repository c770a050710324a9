# Two commands do everything on a fresh Debian or Ubuntu machine: `make run` and `make test`.
HARMGYM := .venv/bin/harmgym
PYTEST := .venv/bin/python -m pytest
NAME ?= reference-$(shell date +%Y%m%d-%H%M%S)
export PYTHON

.PHONY: help setup image snapshots run test test-fast check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

setup:  ## install what is missing (apt, .venv); fast when nothing is
	@.ci/setup

image: setup  ## build the disk image of the desktop
	@$(HARMGYM) image build debian-12

snapshots: image  ## boot it once and freeze the desktop and every harm state
	@$(HARMGYM) snapshot build

run: snapshots  ## recover every harm state with the reference agent; table and report
	@$(HARMGYM) run --agent reference --task all --episodes 1 --out runs/$(NAME)

test: setup  ## every test, on real virtual machines too
	@$(HARMGYM) image build debian-12
	@$(PYTEST) $(ARGS)

test-fast: setup  ## the tests that need no virtual machine
	@$(PYTEST) -m "not vm" $(ARGS)

check: setup  ## ruff, format, mypy --strict
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy --strict

format: setup  ## put the code into the project's format
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean:  ## stop stale machines, remove caches of the tools (not images, snapshots or runs)
	@-$(HARMGYM) gc
	rm -rf .mypy_cache .ruff_cache .pytest_cache
