# Two commands matter: `make demo` shows the main job, `make test` checks everything that CI checks.
# Each sets up what it needs on a fresh Debian or Ubuntu machine.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV ?= .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# python3-dbus and python3-gi come from Debian: dbus-python and PyGObject need compilers and headers from PyPI.
# python3-cairo is not used: the metadata of python3-gi names it, and pip would build it.
APT_DEMO := python3-venv python3-dbus python3-gi python3-cairo dbus
APT_TEST := $(APT_DEMO) systemd gnome-keyring
# Any Node from 18 on will do for PouchDB, which the built-in server is tested against.
APT_TEST += $(shell command -v node >/dev/null && command -v npm >/dev/null || echo nodejs npm)

.PHONY: help demo test lint format unit docs bench soak clean

help:
	@echo "make demo    import, upload, drop and download a file, on loopback (FILE=path for one of yours)"
	@echo "make test    everything that CI checks"
	@echo "make lint    formatting, lint, types, import contracts"
	@echo "make format  mend formatting and what lint can mend"
	@echo "make docs    the pages that are made from the code"
	@echo "make bench   measure, beside other tools"
	@echo "make soak    the random tests, for longer"

# Installs those of the packages $(1) that are missing, and says so.
define apt_install
	@missing=""; for package in $(1); do \
		dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing from Debian:$$missing"; \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; \
	fi
endef

.PHONY: apt-demo apt-test
apt-demo:
	$(call apt_install,$(APT_DEMO))

apt-test:
	$(call apt_install,$(APT_TEST))

# The virtual environment sits on Debian's own python, because python3-dbus and python3-gi are built for that one.
$(BIN)/python: | apt-demo
	/usr/bin/python3 -m venv --system-site-packages $(VENV)

$(VENV)/.demo: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: setup.py pyproject.toml | $(BIN)/python apt-test
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

POUCHDB := tests/pouchdb/node_modules/.installed
$(POUCHDB): tests/pouchdb/package.json tests/pouchdb/package-lock.json | apt-test
	cd tests/pouchdb && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/dmedia-transfer demo $(if $(FILE),--file '$(FILE)')

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint $(POUCHDB)
	$(BIN)/python -m pytest -n 2 --dist loadscope tests

unit: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/unit

docs: $(VENV)/.test
	$(BIN)/python docs/make_dbus.py

soak: $(VENV)/.test $(POUCHDB)
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest --timeout 3600 tests

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) tests/pouchdb/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
