# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
UV_VERSION := 0.13.8
ready := .venv/.ready
browser := .venv/.browser

.PHONY: help
help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(ready)  ## The environment in .venv, nothing else

# uv installs the pinned environment in seconds where pip takes a minute; where uv finds
# no certificates of the system's, say, pip does it with its own. Compiled here, since a
# sandboxed kernel may not write what it compiles.
install = $(BIN)/uv pip install --quiet --compile-bytecode --system-certs --python $(BIN)/python $(1) \
	|| $(BIN)/pip install --quiet $(1)

$(ready): requirements.txt pyproject.toml scripts/python scripts/need
	scripts/need venv
	"$$(scripts/python)" -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(call install,-r requirements.txt)
	$(call install,--no-deps --editable .)
	scripts/need bwrap || true  # other systems can author; grading says it again
	$(BIN)/jaxgrader install
	$(BIN)/jaxgrader doctor || true
	touch $@

# A real browser, a real database server, a cluster's network: tests only.
$(browser): scripts/need | $(ready)
	scripts/need chromium
	scripts/need postgres
	scripts/need network
	touch $@

.PHONY: demo
demo: $(ready)  ## A term week of a small class, in a scratch copy of this course
	$(BIN)/python -m demo

.PHONY: test
test: lint $(browser)  ## Everything: lint, types, imports, unit, course, attacks, browser
	$(BIN)/python -m pytest tests/browser  # alone: its servers want the machine
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/browser $(ARGS)

.PHONY: attacks
attacks: $(ready)  ## The attacks on the sandbox alone, a part of make test
	$(BIN)/python -m pytest -n auto --dist loadfile tests/attacks $(ARGS)

.PHONY: accuracy
accuracy: $(ready)  ## Every variant on ten draws of the hidden inputs, half an hour
	$(BIN)/python -m tests.assignments.accuracy $(ARGS)

.PHONY: kills
kills: $(ready)  ## Kill a batch's processes a hundred times; nothing may be lost
	$(BIN)/python -m tests.kills $(ARGS)

.PHONY: fuzz
fuzz: $(ready)  ## Broken frames, guided by coverage (SECONDS_OF_FUZZ=60), and notebooks
	$(BIN)/python -W ignore -m tests.fuzz_notebooks $(or $(NOTEBOOKS_OF_FUZZ),10000)
	$(call install,-c requirements.txt --editable '.[fuzz]')
	$(BIN)/python -m tests.grading.fuzz_wire artifacts/fuzz -artifact_prefix=artifacts/ \
	  -max_total_time=$(or $(SECONDS_OF_FUZZ),60) -max_len=2000 -timeout=10 \
	  -rss_limit_mb=2048 -print_final_stats=1 $(ARGS)

.PHONY: bench
bench: $(ready)  ## Speed and size against stock nbgrader, as ratios; fails below a bar
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: lint
lint: $(ready)  ## Style, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: release
release: $(ready)  ## Regenerate release/ from source/ with nbgrader
	for folder in source/*/; do \
	  $(BIN)/nbgrader generate_assignment "$$(basename "$$folder")" --force; \
	done

.PHONY: screenshots
screenshots: $(browser)  ## The README's pictures, taken anew
	$(BIN)/python -m demo.screenshots

.PHONY: lab
lab: $(ready)  ## JupyterLab on this course, formgrader and Assignment List ready
	$(BIN)/jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) $(ARGS)

.PHONY: requirements
requirements: $(ready)  ## Pin the environment anew (requirements.txt)
	$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest \
	  --python-version 3.11 --extra test --no-emit-package jaxgrader \
	  --custom-compile-command "make requirements" -o requirements.txt pyproject.toml

.PHONY: clean
clean:  ## Remove the environment and what the tools left (never a gradebook)
	rm -rf .venv artifacts build .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
