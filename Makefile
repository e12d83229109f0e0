# make demo   build a real Dockerfile, serve the image, run it
# make test   everything CI runs
# make bench  our numbers beside the peers' that are installed
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
CACHE := .cache
COOPER := $(abspath $(TARGET)/release/cooper)
IMAGES := $(CACHE)/images/busybox.tar $(CACHE)/images/debian.tar

TEST_PATH = $(PATH):$(abspath $(CACHE))/tools/usr/bin:$(abspath $(CACHE))/tools/usr/sbin

.PHONY: build demo test can-test bench lint unit privileged deny packages-demo packages-test packages-bench clean

build: packages-build
	$(CARGO) build --release --locked -p cooper

demo: packages-demo build $(IMAGES)
	testdata/demo/demo.sh $(COOPER) $(abspath $(CACHE)/images) $(abspath $(CACHE)/demo)

test: packages-test can-test lint deny unit privileged

# Tests skip, saying why, where root or a real client is missing. Here they must not: this fails first.
can-test:
	@[ $$(id -u) = 0 ] || { echo 'make test needs root: namespaces, mounts and control groups are tested for real' >&2; exit 1; }
	@for tool in /bin/busybox docker docker-registry skopeo qemu-system-x86_64 python3 unshare useradd setpriv newuidmap; do \
		PATH="$(TEST_PATH)" command -v $$tool >/dev/null || { echo "make test needs $$tool" >&2; exit 1; }; done
	@unshare --user true 2>/dev/null || { echo 'make test needs user namespaces: see the sysctl user.max_user_namespaces' >&2; exit 1; }

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

# The advisory database needs a network that CI may not have: `cargo deny check advisories` by hand has it.
deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	cargo deny check bans licenses sources

unit:
	PATH="$(TEST_PATH)" $(CARGO) test --workspace --exclude cooper --locked
	$(CARGO) test --locked -p cooper --bins --test architecture

# The real kernel and the real clients; a part that cannot run here fails instead of being skipped.
privileged: build $(IMAGES)
	PATH="$(TEST_PATH)" COOPER_REQUIRE_PRIVILEGED=1 COOPER_BIN=$(COOPER) COOPER_IMAGES=$(abspath $(CACHE)/images) COOPER_TOOLS=$(abspath $(CACHE)/tools) \
		$(CARGO) test --locked -p cooper --test e2e
	testdata/vm/run.sh $(COOPER) $(CACHE)/images/busybox.tar $(abspath $(CACHE)/vm)

bench: packages-bench build $(IMAGES)
	bench/run.sh $(COOPER) $(abspath $(CACHE)/images)
	bench/build.py $(COOPER) $(abspath $(CACHE)/images)

$(CACHE)/images/%.tar: testdata/images/%.sh
	@mkdir -p $(@D)
	$< $(abspath $@)

# apt only when something is missing, so that a second run needs no network.
define need
	@missing=; for pair in $(1); do \
		if [[ $$pair == *:/* ]]; then [ -e "$${pair#*:}" ]; else command -v "$${pair#*:}" >/dev/null; fi || missing="$$missing $${pair%%:*}"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

packages-build:
	$(call need,gcc:gcc libc6-dev:/usr/include/stdlib.h)

packages-demo:
	$(call need,gcc:gcc libc6-dev:/usr/include/stdlib.h busybox-static:/bin/busybox mmdebstrap:mmdebstrap skopeo:skopeo curl:curl ca-certificates:/etc/ssl/certs/ca-certificates.crt)

packages-test: packages-demo
	$(call need,docker-registry:docker-registry python3:python3 uidmap:newuidmap passwd:useradd util-linux:setpriv qemu-system-x86:qemu-system-x86_64 cpio:cpio libdevmapper1.02.1:/lib/x86_64-linux-gnu/libdevmapper.so.1.02.1)
	testdata/tools.sh $(abspath $(CACHE)/tools)

packages-bench: packages-test
	$(call need,hyperfine:hyperfine)

clean:
	rm -rf $(CACHE) $(TARGET)
