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
# iproute2 makes networks on which machines are tested as separate hosts, if the tests run as root.
APT_TEST := $(APT_DEMO) systemd gnome-keyring iproute2 curl
# The page is tested in a browser. Ubuntu's package of Chromium is a stub for a snap: there, another one has to be there.
APT_TEST += $(shell command -v chromium chromium-browser google-chrome >/dev/null || echo chromium)
# Three leaves are hashed at once by what a C compiler builds; whoever has none gets all but that.
APT_BUILD := gcc libc6-dev python3-dev
APT_TEST += $(APT_BUILD)
APT_BENCH := nginx-light curl aria2 openssl
# A file system that can share blocks, on an image in a file: the import is measured on one where root may mount it.
APT_BENCH += $(shell [ "$$(id -u)" != 0 ] || echo btrfs-progs)
# Any Node from 18 on will do for PouchDB and tus-js-client, which the servers are tested against; axe-core comes with them.
APT_TEST += $(shell command -v node >/dev/null && command -v npm >/dev/null || echo nodejs npm)

.PHONY: help demo test lint format unit docs bench soak clean

help:
	@echo "make demo    import, upload, drop and download a file, on loopback (FILE=path for one of yours)"
	@echo "make test    everything that CI checks"
	@echo "make lint    formatting, lint, types, import contracts"
	@echo "make format  mend formatting and what lint can mend"
	@echo "make docs    the pages that are made from the code"
	@echo "make bench   measure, beside other tools (QUICK=1 for a first look)"
	@echo "make soak    the random tests, for longer"
	@echo "make install, make uninstall   into PREFIX=/usr/local, or wherever you say; make deb makes a Debian package"

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

.PHONY: apt-demo apt-test apt-bench
apt-demo:
	$(call apt_install,$(APT_DEMO))

apt-test:
	$(call apt_install,$(APT_TEST))

apt-bench:
	$(call apt_install,$(APT_BENCH))

# The virtual environment sits on Debian's own python, because python3-dbus and python3-gi are built for that one.
$(BIN)/python: | apt-demo
	/usr/bin/python3 -m venv --system-site-packages $(VENV)

$(VENV)/.demo: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: setup.py pyproject.toml dmedia_transfer/_lanes.c | $(BIN)/python apt-test
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

JAVASCRIPT := tests/javascript/node_modules/.installed
$(JAVASCRIPT): tests/javascript/package.json tests/javascript/package-lock.json | apt-test
	cd tests/javascript && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
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

test: lint $(JAVASCRIPT)
	$(BIN)/python -m pytest -n 4 --dist worksteal tests

unit: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/unit

docs: $(VENV)/.test
	$(BIN)/python docs/make_dbus.py
	$(BIN)/python -m dmedia_transfer.web.markdown > docs/rest.md

soak: $(VENV)/.test $(JAVASCRIPT)
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest --timeout 3600 tests

# What we are measured beside, apart from what we are: awscli and AWS' C runtime change boto3 where it finds them.
$(VENV)/.bench: $(VENV)/.test benchmarks/peers.txt benchmarks/crt.txt
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	/usr/bin/python3 -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip install --quiet --requirement benchmarks/peers.txt
	/usr/bin/python3 -m venv $(VENV)/crt
	$(VENV)/crt/bin/python -m pip install --quiet --requirement benchmarks/crt.txt
	@touch $@

bench: $(VENV)/.bench | apt-bench
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) tests/javascript/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Installing: a virtual environment of its own in PREFIX/lib/dmedia-transfer, the program in PREFIX/bin, and in
# PREFIX/share what D-Bus, systemd, the shells and readers look for. PREFIX=$HOME/.local needs no root. DESTDIR is for
# those who make packages; DEPENDENCIES=no for those who have all that it imports where this Python finds it.
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
DEPENDENCIES ?= yes
# Another pip than one that is made just for this, and what it is told when it builds our wheel.
PIP ?=
WHEEL_FLAGS ?=
BUILD ?= build
APT_RUN := python3-venv python3-dbus python3-gi dbus
LIB = $(PREFIX)/lib/dmedia-transfer
INSTALLED = $(DESTDIR)$(LIB)
VERSION = $(shell sed -n 's/^ *version="\(.*\)",/\1/p' setup.py)
SOURCES := setup.py pyproject.toml README.md CHANGELOG.md LICENSE dmedia_transfer data systemd docs examples
# What Debian brings is not built here. The environment is opened for it afterwards, so that pip takes nothing else from
# there, which a package could not rely on elsewhere.
FROM_DEBIAN := dbus-python PyGObject
# The fewest rights that a user can have, for who installs as root.
AS_USER := $(shell [ "$$(id -u)" != 0 ] || echo setpriv --reuid=65534 --regid=65534 --clear-groups)

.PHONY: apt-run apt-build install uninstall deb
apt-run:
	$(call apt_install,$(APT_RUN))

apt-build:
	$(call apt_install,$(APT_BUILD))

install: | $(if $(DESTDIR),,apt-run)
	@echo "installing into $(DESTDIR)$(PREFIX)"
	@rm -rf '$(INSTALLED)'
	@$(PYTHON) -m venv --without-pip '$(INSTALLED)'
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; mkdir "$$work/source"; cp -r $(SOURCES) "$$work/source"; \
		pip='$(PIP)'; [ -n "$$pip" ] || { $(PYTHON) -m venv "$$work/pip"; pip="$$work/pip/bin/python -m pip"; }; \
		$$pip wheel --quiet --no-deps $(WHEEL_FLAGS) --wheel-dir "$$work" "$$work/source"; \
		pip="$$pip --python $(INSTALLED)/bin/python install --quiet --no-compile"; \
		$$pip --no-deps "$$work"/*.whl; \
		[ '$(DEPENDENCIES)' = no ] || { '$(INSTALLED)/bin/python' -c "import importlib.metadata as m; \
			print(*(r for r in m.requires('dmedia-transfer') if 'extra ==' not in r \
			and not r.startswith(tuple('$(FROM_DEBIAN)'.split()))), sep='\n')" > "$$work/requirements"; \
			mv '$(INSTALLED)/share' "$$work/share"; \
			$$pip --no-warn-conflicts --requirement "$$work/requirements"; \
			rm -rf '$(INSTALLED)/share'; mv "$$work/share" '$(INSTALLED)/share'; }
	@cp dmedia_transfer/cli/sandbox.py '$(INSTALLED)'
	@cd '$(INSTALLED)/share' && find . -type f -printf 'share/%P\n' > ../installed-files
	@echo bin/dmedia-transfer >> '$(INSTALLED)/installed-files'
	@while read -r file; do [ ! -f "$(INSTALLED)/$$file" ] || [ "$${file#share}" = "$$file" ] || { \
		install -D -m 644 "$(INSTALLED)/$$file" "$(DESTDIR)$(PREFIX)/$$file"; \
		sed -i 's|/usr/bin/dmedia-transfer|$(PREFIX)/bin/dmedia-transfer|; s|///usr/share/|//$(PREFIX)/share/|' \
			"$(DESTDIR)$(PREFIX)/$$file"; }; done < '$(INSTALLED)/installed-files'
	@rm -r '$(INSTALLED)/share'
	@find '$(INSTALLED)/bin' -mindepth 1 ! -name 'python*' ! -name dmedia-transfer -delete
	@rm -rf '$(INSTALLED)/include' '$(INSTALLED)'/lib/python3*/site-packages/*.dist-info/direct_url.json
	@sed -i 's|^include-system.*|include-system-site-packages = true|; /^command/d' '$(INSTALLED)/pyvenv.cfg'
	@sed -i '1s|^#!$(DESTDIR)/|#!/|' '$(INSTALLED)/bin/dmedia-transfer'
	@$(PYTHON) -m compileall -q $(if $(DESTDIR),-s '$(DESTDIR)' -p /) '$(INSTALLED)/lib'
	@mkdir -p '$(DESTDIR)$(PREFIX)/bin'
	@ln -sf ../lib/dmedia-transfer/bin/dmedia-transfer '$(DESTDIR)$(PREFIX)/bin/dmedia-transfer'
	@[ -n '$(DESTDIR)' ] || $(AS_USER) $(PYTHON) - < dmedia_transfer/cli/sandbox.py || { \
		echo "users have no namespaces here: without that part of the unit's sandbox"; \
		rm '$(PREFIX)/share/systemd/user/dmedia-transfer.service.d/50-namespaces.conf'; }
	@[ -n '$(DESTDIR)' ] || echo "done; now: systemctl --user daemon-reload && systemctl --user enable --now dmedia-transfer"

# Takes away all that `install` has put there, also folders that are empty then. What the daemon has stored for a user
# stays, in ~/.config/dmedia-transfer and ~/.local/state/dmedia-transfer.
uninstall:
	@[ -f '$(INSTALLED)/installed-files' ] || { echo "$(DESTDIR)$(PREFIX) has no dmedia-transfer that was installed by make"; exit 1; }
	@cd '$(DESTDIR)$(PREFIX)' && while read -r file; do rm -f "$$file"; \
		rmdir -p --ignore-fail-on-non-empty "$${file%/*}" 2>/dev/null || true; done < lib/dmedia-transfer/installed-files
	@cd '$(DESTDIR)$(PREFIX)' && rm -rf lib/dmedia-transfer && { rmdir --ignore-fail-on-non-empty lib || true; }
	@echo "gone from $(DESTDIR)$(PREFIX); a daemon that runs ends with its session, or now: systemctl --user stop dmedia-transfer"

TREE = $(abspath $(BUILD))/deb
ARCHITECTURE = $(shell dpkg --print-architecture)
DEB = $(BUILD)/dmedia-transfer_$(VERSION)_$(ARCHITECTURE).deb

deb: | apt-run apt-build
	@rm -rf '$(TREE)'
	@$(MAKE) --no-print-directory install DESTDIR='$(TREE)' PREFIX=/usr
	@rm '$(TREE)/usr/lib/dmedia-transfer/installed-files'
	@find '$(TREE)' -type d -exec chmod 755 {} +
	@mkdir '$(TREE)/DEBIAN'
	@install -m 755 data/debian/postinst data/debian/prerm data/debian/postrm '$(TREE)/DEBIAN'
	@cp data/debian/copyright '$(TREE)/usr/share/doc/dmedia-transfer/'
	@sed "s/@VERSION@/$(VERSION)/; s/@ARCHITECTURE@/$(ARCHITECTURE)/; \
		s/@KILOBYTES@/$$(du -sk '$(TREE)/usr' | cut -f1)/; \
		$$($(PYTHON) -c 'import sys; x, y = sys.version_info[:2]; print(f"s/@PYTHON@/{x}.{y}~/; s/@NEXT_PYTHON@/{x}.{y + 1}~/")')" \
		data/debian/control > '$(TREE)/DEBIAN/control'
	@cd '$(TREE)' && find usr -type f -print0 | xargs -0 md5sum > DEBIAN/md5sums
	@dpkg-deb --root-owner-group -Zxz -z1 --build '$(TREE)' '$(DEB)' > /dev/null
	@rm -rf '$(TREE)'
	@echo "$(DEB) is for Python $$($(PYTHON) -c 'import platform; print(platform.python_version())') on $(ARCHITECTURE): sudo apt install ./$(DEB)"
