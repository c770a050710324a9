# Two commands do everything on a fresh Debian or Ubuntu machine: `make run` and `make test`.
HARMGYM := .venv/bin/harmgym
PYTEST := .venv/bin/python -m pytest
NAME ?= reference-$(shell date +%Y%m%d-%H%M%S)
SEED ?= 0
export PYTHON

.PHONY: help setup setup-test image snapshots run validate attack test test-fast check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

setup:  ## install what a run needs (apt, .venv); fast when nothing is missing
	@.ci/setup

setup-test: setup  ## install what the tests need besides: torch, trl, Chromium, ...
	@.ci/setup test

image: setup  ## build the disk image of the desktop
	@$(HARMGYM) image build debian-12

snapshots: image  ## boot it once and freeze the desktop and every harm state
	@$(HARMGYM) snapshot build

run: snapshots  ## recover every harm state with the reference agent; table and report
	@$(HARMGYM) run --agent reference --task all --episodes 1 --out runs/$(NAME)

validate: snapshots  ## every plan of every harm state, and a sample of attacks on each (SEED=0)
	@$(HARMGYM) tasks validate all
	@$(HARMGYM) tasks attack all --sample 4 --seed $(SEED)

attack: snapshots  ## every attack on every harm state; goes on where it was cut off; writes docs/validity.md
	@$(HARMGYM) tasks attack all --jobs 2 --out docs/attacks.jsonl; status=$$?; $(HARMGYM) tasks validity; exit $$status

# The image is built while pip installs torch: each keeps one core busy, and pip replaces nothing that
# the builder uses, because both steps of set-up install the same pinned versions.
test:  ## every test, on real virtual machines too
	@$(MAKE) --no-print-directory -j2 image setup-test
	@$(PYTEST) $(ARGS)

test-fast: setup-test  ## the tests that need no virtual machine
	@$(PYTEST) -m "not vm" $(ARGS)

check: setup-test  ## ruff, format, mypy --strict
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy --strict

format: setup-test  ## put the code into the project's format
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean:  ## stop stale machines, remove caches of the tools (not images, snapshots or runs)
	@-$(HARMGYM) gc
	rm -rf .mypy_cache .ruff_cache .pytest_cache
