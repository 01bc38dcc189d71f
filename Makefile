# PoolScope's commands. `make` alone lists them.

# The first of these that is Python 3.11 or later makes the environment; name another with `make PYTHON=...`.
PYTHON ?= python3.11 python3
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test test-long lint mutations bench kernels bench-gpu tune

help:  ## List the commands
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: .venv/run.stamp  ## Serve the page; HOST=..., PORT=... say where, ARGS=... gives further options
	$(VENV) app.py $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(ARGS)

test: .venv/test.stamp  ## Run the tests, the page's in Chromium; ARGS=... goes to pytest
	@chromium="$$($(VENV) scripts/chromium.py)" && CHROMIUM="$$chromium" $(VENV) -m pytest $(ARGS)

test-long: .venv/test.stamp  ## Run the tests that take minutes
	@chromium="$$($(VENV) scripts/chromium.py)" && CHROMIUM="$$chromium" $(VENV) -m pytest -m long $(ARGS)

lint: .venv/test.stamp  ## Check style with ruff and types with mypy
	$(VENV) -m ruff check .
	$(VENV) -m mypy

mutations: .venv/test.stamp  ## Break each kernel on purpose and expect its tests to go red
	$(VENV) -m scripts.mutations $(ARGS)

bench: .venv/test.stamp  ## Measure the networks and the page; results go to benchmarks/results/
	$(VENV) -m benchmarks.networks
	@chromium="$$($(VENV) scripts/chromium.py)" && CHROMIUM="$$chromium" $(VENV) -m benchmarks.page $(ARGS)

kernels: .venv/test.stamp  ## Compile all GPU kernels, without a GPU; results go to benchmarks/results/
	$(VENV) -m benchmarks.compile_kernels $(ARGS)

bench-gpu: .venv/test.stamp  ## Measure poolings and networks on this machine's GPU; results go to benchmarks/results/
	$(VENV) -m benchmarks.gpu_ops
	$(VENV) -m benchmarks.gpu_networks

tune: .venv/test.stamp  ## Find the kernels' best tiles for this machine's GPU, and keep them
	$(VENV) -m benchmarks.tune $(ARGS)

# The stamps are touched only after an install that succeeded, so an interrupted one starts again.
.venv/run.stamp: requirements.txt | .venv/bin/pip
	$(VENV) -m pip install -r requirements.txt
	@touch $@

.venv/test.stamp: requirements-dev.txt requirements.txt | .venv/bin/pip
	$(VENV) -m pip install -r requirements-dev.txt
	@touch .venv/run.stamp $@

.venv/bin/pip:
	@for python in $(PYTHON); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	        echo "$$python has no ensurepip, which makes environments: install it (Debian: apt-get install python3-venv)." >&2; \
	        exit 1; }; \
	    exec "$$python" -m venv .venv; \
	done; \
	echo "PoolScope needs Python 3.11 or later, found none under: $(PYTHON). Install it or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1
