# `make demo` shows ArdiQ at work, `make test` checks everything. Both need CPython 3.11 or newer and a Rust toolchain.

PYTHON ?= python3
TOOLS := .venv-tools
DEMO := .venv-demo

.PHONY: demo test clean requirements

demo: requirements
	test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@echo "Building the four packages; the Rust core takes a minute or two the first time."
	$(DEMO)/bin/python -m pip install --quiet --constraint constraints.txt \
		./packages/ardiq-core ./packages/ardiq-client ./packages/ardiq-worker './packages/ardiq-cli[dev]'
	$(DEMO)/bin/ardiq demo

test: $(TOOLS)/bin/nox
	$(TOOLS)/bin/nox

$(TOOLS)/bin/nox: constraints.txt | requirements
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --constraint constraints.txt 'nox[uv]'
	touch $@

requirements:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "CPython 3.11 or newer is needed; \`$(PYTHON)\` is not. Name another: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "\`$(PYTHON) -m venv\` does not work here; on Debian: apt-get install python3-venv"; exit 1; }
	@cargo --version >/dev/null 2>&1 || \
		{ echo "A Rust toolchain is needed: https://rustup.rs"; exit 1; }

clean:
	rm -rf $(TOOLS) $(DEMO) .nox dist site target
