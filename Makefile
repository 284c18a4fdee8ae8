# SPDX-License-Identifier: Apache-2.0
# The verbs people and continuous integration share. `make help` lists them.
#
# Only `deps`, `lab-deps`, `lab`, `up`, `install`, `nextest`, `vm-test`, `cloud-deps` and `cloud` write outside the tree (and
# CARGO_TARGET_DIR, if it is set): all but those of packages and `install` in ~/.cache/windlass, or $WINDLASS_CACHE, what
# machines and containers boot from, and the cloud.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Where rustup puts cargo; a fresh shell may not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
MUSL := x86_64-unknown-linux-musl
NEXTEST_PROFILE ?= default
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
CARGO_LOCKED := --locked

# Where `rpm` puts packages.
RPM_DIR ?= $(TARGET_DIR)/rpm
export RPM_RELEASE ?= 1
export RPM_KEY ?=

# Where `install` puts things. DESTDIR is for packages.
PREFIX ?= /usr
UNITS := $(PREFIX)/lib/systemd/system
MAN := $(PREFIX)/share/man/man1
CONTROLLER ?= $(TARGET_DIR)/release/windlass
AGENT ?= $(TARGET_DIR)/$(MUSL)/release/windlass-agent
INSTALL_PROGRAM := install -D -m 0755
INSTALL_FILE := install -D -m 0644

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- what is needed ---

.PHONY: deps deps-packages deps-rust deps-nextest
deps: deps-packages deps-rust deps-nextest ## Install what is missing: Debian packages (as root), Rust's musl target, cargo-nextest

# PROGRAM:PACKAGE. What is not there is installed.
define INSTALL_NEEDED
missing=; for need in $(1); do
  PATH=$$PATH:/usr/sbin:/sbin command -v $${need%%:*} >/dev/null || missing+=" $${need##*:}"
done
[[ -n $$missing ]] || exit 0
command -v apt-get >/dev/null || { echo "no apt-get here: install what corresponds to$$missing" >&2; exit 1; }
$(SUDO) apt-get update
$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing
endef

# systemd is here for systemd-analyze, which checks the units; systemd-nspawn boots the Debian that
# mmdebstrap makes, in which both programs are tested as they are installed.
NEEDED := cc:build-essential readelf:binutils musl-gcc:musl-tools systemd-analyze:systemd \
  systemd-nspawn:systemd-container mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils shellcheck:shellcheck
deps-packages:
	@$(call INSTALL_NEEDED,$(NEEDED))

NO_RUST := no Rust here: install it with rustup (https://rustup.rs) and run this again. Debian's own Rust is too old.
deps-rust:
	@command -v cargo rustup >/dev/null || ! apt-cache show rustup >/dev/null 2>&1 \
	  || $(SUDO) apt-get install -y --no-install-recommends rustup
	if command -v rustup >/dev/null; then
	  rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install
	  rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)
	fi
	command -v cargo >/dev/null || { echo "$(NO_RUST)" >&2; exit 1; }
	cargo metadata $(CARGO_LOCKED) --no-deps --format-version 1 >/dev/null

deps-nextest:
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

# --- building ---

# AWS-LC would gather entropy from the processor's jitter, 20 ms in every process that begins a handshake: each command,
# each agent. Without it the kernel and the processor's own generator remain, as in every other library.
.PHONY: build clean
build: export AWS_LC_SYS_NO_JITTER_ENTROPY := 1
build: ## Build for installing: the controller, and the agent as one static file
	cargo build $(CARGO_LOCKED) --release --package windlass-controller
	cargo build $(CARGO_LOCKED) --release --package windlass-agent --target $(MUSL)

# What the programs write about themselves, for installing.
.PHONY: controller-pages agent-pages
controller-pages:
	mkdir -p $(TARGET_DIR)/man/controller
	$(CONTROLLER) man $(TARGET_DIR)/man/controller
	for shell in bash zsh fish; do $(CONTROLLER) completion $$shell > $(TARGET_DIR)/man/windlass.$$shell; done

agent-pages:
	mkdir -p $(TARGET_DIR)/man/agent
	$(AGENT) man $(TARGET_DIR)/man/agent

REFERENCE := cargo run $(CARGO_LOCKED) --quiet --package windlass-controller --bin windlass -- reference
.PHONY: reference reference-check
reference: ## Write docs/cli.md, as the program describes itself
	$(REFERENCE) docs/cli.md

reference-check: ## See that docs/cli.md is what the program says
	$(REFERENCE) $(TARGET_DIR)/cli.md
	diff -u docs/cli.md $(TARGET_DIR)/cli.md || { echo "run make reference" >&2; exit 1; }

.PHONY: demo demo-down
demo: ## Start a controller and one agent on this machine, in target/demo, and look at them
	cargo build $(CARGO_LOCKED) --workspace --bins
	packaging/demo up

demo-down: ## End the demo and remove what it made
	packaging/demo down

clean: ## Remove what was built
	cargo clean

# --- checking ---

.PHONY: test fmt-check lint shellcheck doc static-check doctest nextest
test: deps fmt-check lint doc static-check doctest reference-check nextest ## Everything that must hold before a change is taken

fmt-check: ## Check the formatting
	cargo fmt --all --check

lint: shellcheck ## Check with clippy and shellcheck; a warning is an error
	cargo clippy $(CARGO_LOCKED) --workspace --all-targets -- -D warnings

# The script of the first boot has no first line that names a shell: cloud-init's unit does.
shellcheck:
	find .ci packaging tests/lab -type f -exec awk 'FNR == 1 && /^#!.*sh$$/ { print FILENAME } { nextfile }' {} + | xargs shellcheck
	shellcheck --shell=sh --severity=warning controller/src/cloud_init/first-boot.sh

doc: ## Build the documentation of the code, private items too; a broken link is an error
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc $(CARGO_LOCKED) --workspace --no-deps --document-private-items

# Built with the development profile: how it is linked does not depend on optimisation, and the release build takes minutes.
STATIC_AGENT := $(TARGET_DIR)/$(MUSL)/debug/windlass-agent
static-check: ## Prove that the agent is static: no interpreter, no shared library
	cargo build $(CARGO_LOCKED) --package windlass-agent --target $(MUSL)
	readelf --wide --program-headers --dynamic $(STATIC_AGENT) > $(STATIC_AGENT).elf
	if grep -E 'INTERP|\(NEEDED\)' $(STATIC_AGENT).elf; then echo "the agent is not static" >&2; exit 1; fi

doctest: ## Run the examples in the documentation
	cargo test $(CARGO_LOCKED) --workspace --doc --quiet

# One virtual machine comes last, with nothing beside it: .config/nextest.toml.
nextest: test-lab ## Run unit, integration and simulation tests; as root, because some boot a container
	cargo build $(CARGO_LOCKED) --workspace --bins
	cargo nextest run $(CARGO_LOCKED) --workspace --profile $(NEXTEST_PROFILE)

# `make vm-test VM=failures::` runs those whose names begin so.
VM ?=
.PHONY: vm-test vm-deps
# One test has Ansible do the same, over ssh; it installs that into a cache.
vm-deps:
	@$(call INSTALL_NEEDED,ssh:openssh-client ssh-keygen:openssh-client python3:python3-venv)

vm-test: test-lab vm-deps ## Run what only virtual machines show: three nodes, every way in which making them fails, kernels, a roll, power cuts (hours without KVM)
	cargo build $(CARGO_LOCKED) --workspace --bins
	cargo nextest run $(CARGO_LOCKED) --package windlass-tests --test vm --profile vm $(VM)

# `make soak SEEDS=1000 FROM=200`: as many of each kind, two hundred at a time, each in a process of its own.
SEEDS ?= 1000
FROM ?= 200
.PHONY: soak
soak: ## Simulate SEEDS courses of events of each kind beyond those of the tests, from seed FROM on
	broken=; for ((from = $(FROM); from < $(FROM) + $(SEEDS); from += 200)); do
	  WINDLASS_SIM_FROM=$$from cargo nextest run $(CARGO_LOCKED) --package windlass-tests --test sim --no-fail-fast \
	    -E 'test(/^(run_)?seeds_/)' || broken=1
	done
	[[ -z $$broken ]]

# `make fuzz FUZZ=wire FUZZ_SECONDS=600`. Without a sanitizer, so that the pinned toolchain will do.
FUZZ ?= wire
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: ## Fuzz the target FUZZ for FUZZ_SECONDS (needs cargo-fuzz)
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is not installed: cargo install --locked cargo-fuzz" >&2; exit 1; }
	cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none $(FUZZ) -- -max_total_time=$(FUZZ_SECONDS)

.PHONY: deny
deny: ## Check licences, sources and banned crates (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --workspace check bans licenses sources

# --- local machines ---

LAB_NEEDED := qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap fakeroot:fakeroot newuidmap:uidmap \
  mke2fs:e2fsprogs sfdisk:fdisk rpmbuild:rpm createrepo_c:createrepo-c gpg:gnupg python3:python3-minimal
.PHONY: lab lab-deps
lab-deps: ## Install what the lab is built with and runs on (Debian packages, as root)
	@$(call INSTALL_NEEDED,$(LAB_NEEDED))

# `make lab AGENT=… CONTROLLER=…` puts programs that are there into the repository; see `rpm`.
lab: lab-deps rpm ## Build what local machines boot from and install from, once, into ~/.cache/windlass/lab
	@RPM_RELEASE=$$(($(RPM_RELEASE) + 1)) packaging/rpm/build $(RPM_DIR)-next $(AGENT) ''
	@tests/lab/build $(RPM_DIR) $(RPM_DIR)-next

# What the tests boot from and install from: the same guest, and the programs as they are being worked on.
TEST_LAB := $(TARGET_DIR)/lab
TEST_AGENT := $(TEST_LAB)/windlass-agent
.PHONY: test-lab
test-lab: lab-deps static-check
	@mkdir -p $(TEST_LAB)
	strip -o $(TEST_AGENT) $(STATIC_AGENT)
	packaging/rpm/build $(TEST_LAB)/rpm $(TEST_AGENT) ''
	RPM_RELEASE=$$(($(RPM_RELEASE) + 1)) packaging/rpm/build $(TEST_LAB)/rpm-next $(TEST_AGENT) ''
	tests/lab/build $(TEST_LAB)/rpm $(TEST_LAB)/rpm-next $(TEST_LAB)

.PHONY: lab-clean
lab-clean: ## Remove parts of the lab that nothing needs any more (ALL=1: all that nothing uses now)
	@tests/lab/clean $(if $(ALL),all)

.PHONY: up down
up: deps lab ## Make three virtual machines here (examples/local.yaml): with all that is needed, from nothing to healthy
	@packaging/local up $(CONTROLLER)

down: ## Remove what `make up` made
	@packaging/local down $(CONTROLLER)

.PHONY: lab-check lab-check-deps
lab-check-deps:
	@$(call INSTALL_NEEDED,genisoimage:genisoimage)

lab-check: lab lab-check-deps ## Boot a guest and see that packages, signatures, upgrades and boot entries do as they should
	@tests/lab/check $(CONTROLLER)

# --- a cloud ---

# COMPUTE=libvirt: servers run. CLOUD_FRESH=1: from the seeded state. CLOUD_TOKEN_SECONDS, CLOUD_PATIENCE: docs/lab.md.
.PHONY: cloud cloud-down cloud-deps
cloud-deps: ## Install what the cloud is made of: OpenStack, databases (Debian packages, as root)
	@tests/lab/openstack/deps

cloud: cloud-deps ## Start an OpenStack on this machine for tests (as root), from ~/.cache/windlass/cloud once it is made
	@tests/lab/openstack/cloud up

# Those of one kind, with the servers that they need: `fake`, `faults`, or `guest`.
CLOUD_TESTS ?= fake
.PHONY: cloud-test
cloud-test: test-lab ## Run what only a real OpenStack shows (as root): CLOUD_TESTS=fake in minutes, =faults in an hour, =guest with a server that runs
	COMPUTE=$(if $(filter guest,$(CLOUD_TESTS)),libvirt,fake) $(MAKE) cloud
	$(if $(filter guest,$(CLOUD_TESTS)),tests/lab/openstack/guest-image $(TEST_LAB)/guest.qcow2)
	cargo build $(CARGO_LOCKED) --workspace --bins
	cargo nextest run $(CARGO_LOCKED) --package windlass-tests --test cloud --profile cloud $(if $(filter fake,$(CLOUD_TESTS)),fake:: import::,$(CLOUD_TESTS)::)

cloud-down: ## End it, and all of its processes and networks
	@tests/lab/openstack/cloud down

# --- measuring ---

BENCH := cargo run $(CARGO_LOCKED) --quiet --profile load --package windlass-tests --bin bench --
.PHONY: bench bench-quick
bench: build ## Measure speed and size beside Ansible, pyinfra, Salt and plain ssh (two hours; installs them into a cache)
	$(BENCH)

bench-quick: build ## Measure ours only (minutes)
	$(BENCH) --quick

# --- installing ---

.PHONY: install install-controller install-controller-manual install-agent
install: install-controller install-agent ## Install both programs below DESTDIR (after `make build`)

install-controller: install-controller-manual ## Install what the bastion needs
	$(INSTALL_PROGRAM) $(CONTROLLER) $(DESTDIR)$(PREFIX)/bin/windlass
	$(INSTALL_FILE) packaging/systemd/windlass-controller.service $(DESTDIR)$(UNITS)/windlass-controller.service
	$(INSTALL_FILE) packaging/systemd/windlass-controller.socket $(DESTDIR)$(UNITS)/windlass-controller.socket
	$(INSTALL_FILE) packaging/systemd/windlass-controller-join.socket $(DESTDIR)$(UNITS)/windlass-controller-join.socket
	$(INSTALL_FILE) packaging/systemd/windlass-controller-local.socket $(DESTDIR)$(UNITS)/windlass-controller-local.socket
	$(INSTALL_FILE) packaging/systemd-preset/85-windlass-controller.preset $(DESTDIR)$(UNITS)-preset/85-windlass-controller.preset
	$(INSTALL_FILE) packaging/sysusers.d/windlass.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/windlass.conf
	$(INSTALL_FILE) packaging/tmpfiles.d/windlass.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/windlass.conf
	$(INSTALL_FILE) packaging/firewalld/windlass.xml $(DESTDIR)$(PREFIX)/lib/firewalld/services/windlass.xml
	[[ -e $(DESTDIR)/etc/windlass/controller.toml ]] || $(INSTALL_FILE) packaging/config/controller.toml $(DESTDIR)/etc/windlass/controller.toml

install-controller-manual: controller-pages
	$(INSTALL_FILE) -t $(DESTDIR)$(MAN) $(TARGET_DIR)/man/controller/*.1
	$(INSTALL_FILE) $(TARGET_DIR)/man/windlass.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/windlass
	$(INSTALL_FILE) $(TARGET_DIR)/man/windlass.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_windlass
	$(INSTALL_FILE) $(TARGET_DIR)/man/windlass.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/windlass.fish

install-agent: agent-pages ## Install what a node needs
	$(INSTALL_PROGRAM) $(AGENT) $(DESTDIR)$(PREFIX)/bin/windlass-agent
	$(INSTALL_FILE) -t $(DESTDIR)$(MAN) $(TARGET_DIR)/man/agent/*.1
	$(INSTALL_FILE) packaging/systemd/windlass-agent.service $(DESTDIR)$(UNITS)/windlass-agent.service
	$(INSTALL_FILE) packaging/systemd/windlass-executor.service $(DESTDIR)$(UNITS)/windlass-executor.service
	$(INSTALL_FILE) packaging/systemd/windlass-executor.socket $(DESTDIR)$(UNITS)/windlass-executor.socket
	$(INSTALL_FILE) packaging/systemd/windlass-metadata.service $(DESTDIR)$(UNITS)/windlass-metadata.service
	$(INSTALL_FILE) packaging/sysusers.d/windlass-agent.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/windlass-agent.conf
	$(INSTALL_FILE) packaging/systemd-preset/85-windlass-agent.preset $(DESTDIR)$(UNITS)-preset/85-windlass-agent.preset
	[[ -e $(DESTDIR)/etc/windlass/agent.toml ]] || $(INSTALL_FILE) packaging/config/agent.toml $(DESTDIR)/etc/windlass/agent.toml

# `make rpm AGENT=… CONTROLLER=…` packs programs that are there; otherwise they are built for installing.
.PHONY: rpm rpm-deps
rpm-deps:
	@$(call INSTALL_NEEDED,rpmbuild:rpm)

rpm: rpm-deps $(if $(filter file,$(origin AGENT)),build) ## Pack both programs as RPMs (RPM_RELEASE, RPM_KEY to sign)
	@packaging/rpm/build $(RPM_DIR) $(AGENT) $(CONTROLLER)

.PHONY: rpm-check rpm-check-deps
rpm-check-deps:
	@$(call INSTALL_NEEDED,rpmlint:rpmlint)

rpm-check: rpm rpm-check-deps ## Check the RPMs with rpmlint
	@rpmlint --config packaging/rpm/rpmlint.toml $(RPM_DIR)/*.rpm
