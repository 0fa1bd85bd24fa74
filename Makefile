# SPDX-License-Identifier: Apache-2.0
# Kagami: `make` builds, `make test` tests, `sudo make demo` shows it at work, `make help` lists the rest.
#
# The arrows between the parts are drawn here. Each part is compiled with only the include roots in its list below: a farm of
# links in $(BUILD)/include/PART, through which "format/wire.h" is found by those who may use it and by nobody else.
VERSION := 0.1.0

arrows-common/base   := base
arrows-common/format := base format
arrows-common/rpo    := base rpo
arrows-common/link   := base format rpo link
arrows-replicator    := base format rpo link replicator
arrows-receiver      := base format rpo link receiver
arrows-tools         := base format rpo link tools
arrows-tests         := base format rpo link replicator receiver tools tests

folder-base := common/base
folder-format := common/format
folder-rpo := common/rpo
folder-link := common/link
folder-replicator := replicator
folder-receiver := receiver
folder-tools := tools
folder-tests := tests

BUILD  ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
PACKAGES := liburing openssl zlib libzstd liblz4 libxxhash uuid jansson libmicrohttpd libcurl

parts := common/base common/format common/rpo common/link replicator receiver tools tests
libs  := base format rpo link replicator receiver
programs := kagami-replicator kagami-receiver kagami
bench-programs := kagami-load

# --- flags ---

CC := gcc
OPTIMIZE := -O2
# gcc does not take (void) for an answer to an ignored result; clang does, and looks for the same. Among the checks that
# sanitizers put in, gcc sees dangers that are not there: its warnings are the plain build's matter.
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(findstring clang,$(CC)),,-Wno-unused-result) \
	$(if $(SANITIZE),$(if $(findstring clang,$(CC)),-Werror,-w),-Werror)
HARDEN   := -D_FORTIFY_SOURCE=2 -fstack-protector-strong
SANITIZE :=
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -DKAGAMI_VERSION='"$(VERSION)"' $(OPTIMIZE) -g $(WARNINGS) -fPIE -pthread \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined,$(HARDEN)) \
	$(PACKAGE_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)
# Asked once, and only when something is compiled: `make test` gets here before pkg-config may be installed.
PACKAGE_CFLAGS = $(eval PACKAGE_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES)))$(PACKAGE_CFLAGS)
PACKAGE_LIBS   = $(eval PACKAGE_LIBS := $$(shell pkg-config --libs $(PACKAGES)) -lm)$(PACKAGE_LIBS)

# Root compiles as the owner of the tree, so that `sudo make demo` leaves nothing behind that a plain `make` cannot replace.
AS_OWNER := $(shell [ "$$(id -u)" = 0 ] && uid=$$(stat -c %u .) && [ $$uid != 0 ] && \
	as="setpriv --reuid=$$uid --regid=$$(stat -c %g .) --clear-groups" && $$as test -w . 2>/dev/null && echo $$as)
MAKE_AS_OWNER = +@$(AS_OWNER) $(MAKE) --no-print-directory
MAKEFLAGS += --no-builtin-rules $(if $(MAKELEVEL:0=),,-j$(shell nproc))
.DELETE_ON_ERROR:
.SECONDARY:

# --- what users call ---

all: packages
	$(MAKE_AS_OWNER) programs

test: setup
	$(MAKE_AS_OWNER) programs unit-tests
	+@$(MAKE) --no-print-directory test-seam
	+@$(MAKE) --no-print-directory test-docs
	@BUILD=$(BUILD) tests/run

test-unit: setup
	$(MAKE_AS_OWNER) unit-tests
	@BUILD=$(BUILD) tests/run unit

test-e2e: setup
	$(MAKE_AS_OWNER) programs
	@BUILD=$(BUILD) tests/run e2e

# The agent killed under verifying load, often: about half an hour.
test-kill: setup
	$(MAKE_AS_OWNER) programs
	@BUILD=$(BUILD) KILL_ROUNDS=200 E2E_SECONDS=7200 tests/run e2e test-guest-survives-kill9

# The same tests with the address, leak and undefined behaviour sanitizers in all of the code. What enumerates or draws seeds takes five to forty times as long
# there, as every large buffer is a mapping of its own: it does so with a part of what `make test` looks at, through the same code. MARKED=1: of the scripts only those that say so, and not the longest unit tests.
# By clang, so that one build shows that it takes all of the code, too; and the fuzzers' inputs are run, which is how it is seen that what was found once is mended.
FEWER := KAGAMI_CRASH_THINNED=10 KAGAMI_SIM_SEEDS=10
test-asan: setup-dev
	$(MAKE_AS_OWNER) BUILD=$(BUILD)/asan CC=clang OPTIMIZE=-O1 SANITIZE=address,undefined programs unit-tests fuzzers
	@tests/fuzz/run $(BUILD)/asan 0
	@BUILD=$(BUILD)/asan UNIT_SECONDS=600 WITHOUT_WAITS=1 $(FEWER) tests/run

test-clang: setup-dev
	$(MAKE_AS_OWNER) BUILD=$(BUILD)/clang CC=clang programs unit-tests

# What `make bench` and `make test-mutants` apply still fits the code.
test-patches: setup
	$(MAKE_AS_OWNER) -s $(BUILD)/include
	@tests/mutants/check $(BUILD)/include $(CC) $(ALL_CFLAGS) -w -fsyntax-only

# The crash tests, deeper: each scenario up to so many states. Prints the states of each and of all, and the distinct disks among them, and fails
# below a million of the state file or of the store. Two programs at a time; some minutes.
CRASH_STATES ?= 200000
STORE_CRASH_STATES ?= 10000
store-crash-tests := retain_crash recovery_crash store_crash rollback_crash tests_crash failover_crash head_crash scrub_crash copies_crash overlays_crash seed
test-crash: setup
	$(MAKE_AS_OWNER) unit-tests
	@BUILD=$(BUILD) tests/crash 'state file' $(CRASH_STATES) 1000000 state_crash
	@BUILD=$(BUILD) tests/crash store $(STORE_CRASH_STATES) 1000000 $(store-crash-tests)

# The core makes no system call of its own: only what tests/seam.allow lists.
test-seam: setup
	$(MAKE_AS_OWNER) unit-tests
	@tests/check-seam.sh $(BUILD)

# What docs/invariants.md names is there, every id that is cited leads to what defines it, and docs/files.md has every file.
test-docs: setup
	@tests/check_invariants.py
	@tools/file_list.py --check

# Recorded sessions, of a delta and of a survey, cut at every byte of them, either way: some minutes. CUT_STEP=n tries one byte in n.
CUT_STEP ?= 1
test-cuts: setup
	$(MAKE_AS_OWNER) unit-tests
	@TMPDIR=$${TMPDIR:-/dev/shm} KAGAMI_CUT_STEP=$(CUT_STEP) $(BUILD)/tests/unit/test_cuts # no sync of a real disk: it is not what is tested
	@KAGAMI_CUT_STEP=$(CUT_STEP) $(BUILD)/tests/unit/test_window

# Random sequences of what happens to a store, against a model of it: so many seeds. SEED=n replays one.
MODEL_SEEDS ?= 1000
test-model: setup
	$(MAKE_AS_OWNER) unit-tests
	@KAGAMI_MODEL_SEEDS=$(MODEL_SEEDS) $(BUILD)/tests/unit/test_store_model

# Both programs over simulated disks, network and clock, with all that can happen to them: so many seeds, on every processor. SEED=n replays one.
SIM_SEEDS ?= 2000
test-sim: setup
	$(MAKE_AS_OWNER) $(BUILD)/tests/unit/test_simulation
	@tests/sim-seeds.sh $(BUILD)/tests/unit/test_simulation $(SIM_SEEDS)

# The store on real ext4, xfs and btrfs: crash states replayed from a log of every write and flush, and failing devices. As root.
test-fs: setup
	$(MAKE_AS_OWNER) fs-programs
	@BUILD=$(BUILD) tests/fs/run

# Small wrong changes, each of which a unit test must notice.
test-mutants: setup
	@BUILD=$(BUILD) tests/mutants/run

fuzz: setup-dev
	$(MAKE_AS_OWNER) BUILD=$(BUILD)/fuzz CC=clang OPTIMIZE=-O1 SANITIZE=fuzzer-no-link,address,undefined fuzzers
	@tests/fuzz/run $(BUILD)/fuzz $(FUZZ_SECONDS)

demo: setup
	$(MAKE_AS_OWNER) programs
	@BUILD=$(BUILD) tools/demo.sh

demo-rpo: setup
	$(MAKE_AS_OWNER) programs
	@BUILD=$(BUILD) tools/demo-rpo.sh

bench: setup-bench
	$(MAKE_AS_OWNER) programs bench-store
	@BUILD=$(BUILD) tools/bench.sh
	@BUILD=$(BUILD) tools/bench-store.sh
	@BUILD=$(BUILD) tools/bench-sync.sh

lint: setup-dev
	$(MAKE_AS_OWNER) --keep-going clang-tidy
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --suppressions-list=tests/cppcheck.known \
		--error-exitcode=1 -j$(shell nproc) -D_GNU_SOURCE --include=tests/cppcheck.h \
		-I common -I . $(filter-out tests/%,$(sources))

format: setup-dev
	@clang-format -i $(sources) $(wildcard $(sources:.c=.h))

setup:
	@tools/setup --ensure

setup-bench:
	@tools/setup --ensure bench

setup-dev:
	@tools/setup --ensure dev

packages:
	@pkg-config --exists $(PACKAGES) 2>/dev/null || \
		{ echo 'make: a development package is missing; to install what is needed: sudo tools/setup' >&2; exit 1; }

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(programs:%=$(BUILD)/bin/%) $(DESTDIR)$(PREFIX)/bin
	for unit in tools/systemd/*.service; do \
		sed 's|@bindir@|$(PREFIX)/bin|' $$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} || exit 1; done
	install -m 644 tools/bash-completion/kagami $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -d $(DESTDIR)$(PREFIX)/share/kagami/hooks
	install -m 644 tools/grafana-dashboard.json tools/prometheus-alerts.yml $(DESTDIR)$(PREFIX)/share/kagami
	install -m 755 tools/hooks/* $(DESTDIR)$(PREFIX)/share/kagami/hooks
	for page in docs/man/*.[18]; do \
		install -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} || exit 1; done

clean:
	rm -rf $(BUILD)

help:
	@printf '%-18s %s\n' all 'build the three programs into $(BUILD)/bin' \
		test 'build, then all tests' test-unit 'unit tests only' test-e2e 'the daemons with the tools of QEMU and libnbd' \
		test-kill 'the agent killed under load, 200 times' test-asan 'all tests, by clang and with sanitizers' test-clang 'compile everything with clang' \
		test-crash 'the crash enumerations, a million states and more' \
		test-cuts 'sessions cut at every byte of them' \
		test-model 'random sequences against a model of the store, MODEL_SEEDS (1000) of them' \
		test-sim 'both programs in a simulated world, SIM_SEEDS (2000) runs of it' \
		test-mutants 'prove that the tests fail when the code is wrong' \
		'sudo make test-fs' 'crashes and failing devices on real ext4, xfs and btrfs' \
		test-seam 'prove that the core makes no system call of its own' \
		test-patches 'prove that the mutants still apply and compile' \
		test-docs 'prove that docs/invariants.md and docs/files.md name what is there' \
		fuzz 'each fuzzer for FUZZ_SECONDS (60)' 'sudo make demo' 'the main job on real files, in two minutes' \
		demo-rpo 'an RPO of one second under load, for DEMO_SECONDS (600)' \
		bench 'measure, against the tools others use' lint 'clang-tidy and cppcheck' format 'clang-format' \
		install 'to DESTDIR and PREFIX (/usr/local)' clean 'remove $(BUILD)'

.PHONY: all test test-unit test-e2e test-kill test-asan test-clang test-crash test-mutants test-model test-sim test-cuts test-seam test-docs test-patches test-fs fuzz demo demo-rpo bench lint format setup setup-bench setup-dev packages \
	install clean help programs unit-tests fs-programs bench-store fuzzers clang-tidy force

# --- how it is built ---

sources = $(wildcard $(foreach p,$(parts) tests/unit tests/lib tests/sim tests/world tests/fs tests/bench tests/fuzz,$p/*.c))
objects-of = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $1))
part-of = $(firstword $(foreach p,$(parts),$(if $(filter $p/%,$1),$p)))
lib-files = $(libs:%=$(BUILD)/lib/libkagami-%.a)
common-libs = $(BUILD)/lib/libkagami-link.a $(BUILD)/lib/libkagami-rpo.a $(BUILD)/lib/libkagami-format.a $(BUILD)/lib/libkagami-base.a

clang-tidy: $(sources:%.c=$(BUILD)/lint/%)
programs: $(programs:%=$(BUILD)/bin/%) $(bench-programs:%=$(BUILD)/bin/%) $(BUILD)/tests/ask
unit-tests: $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
bench-store: $(BUILD)/tests/bench/bench_store
fs-programs: $(patsubst tests/fs/%.c,$(BUILD)/tests/fs/%,$(wildcard tests/fs/*.c))
fuzzers: $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

$(BUILD)/bin/kagami-replicator: $(BUILD)/obj/replicator/main.o $(BUILD)/lib/libkagami-replicator.a $(common-libs)
$(BUILD)/bin/kagami-receiver: $(BUILD)/obj/receiver/main.o $(BUILD)/lib/libkagami-receiver.a $(common-libs)
$(BUILD)/bin/kagami: $(filter-out $(BUILD)/obj/tools/bench_% $(BUILD)/obj/tools/demo_% $(BUILD)/obj/tools/load%,$(call objects-of,tools/*.c)) $(common-libs)
$(BUILD)/bin/kagami: OTHER_LIBS := -larchive
$(BUILD)/bin/kagami-load: $(call objects-of,tools/load*.c tools/parse.c) $(common-libs)
$(BUILD)/bin/%: $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) $(OTHER_LIBS)

test-support := $(call objects-of,tests/lib/*.c tests/sim/*.c tools/parse.c tools/show.c tools/progress.c tools/load_figures.c \
	tools/text.c tools/plot.c tools/watch_frame.c tools/redact.c tools/hopeless.c tools/events_merge.c tools/plain.c tools/arguments.c tools/output.c tools/said.c)
test-libs := $(BUILD)/lib/libkagami-replicator.a $(BUILD)/lib/libkagami-receiver.a $(common-libs)
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(test-support) $(test-libs)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS) -lcmocka
# The simulated world has functions of its own in the place of some of the programs': it comes first, and what is in it is not taken again.
$(BUILD)/tests/unit/test_simulation: $(BUILD)/obj/tests/unit/test_simulation.o $(call objects-of,tests/world/*.c tests/sim/*.c) \
		$(BUILD)/obj/tests/lib/twin.o $(BUILD)/obj/tests/lib/layers.o $(test-libs)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS) -lcmocka
$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(test-support) $(test-libs)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS) -lcmocka
$(BUILD)/tests/fs/%: $(BUILD)/obj/tests/fs/%.o $(test-support) $(test-libs)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS) -lcmocka
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(test-support) $(test-libs)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(PACKAGE_LIBS) -lcmocka

# What the scripts ask the daemons with: never sanitized, and with as few libraries as can be.
$(BUILD)/tests/ask: tests/e2e/ask.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) -std=c17 -D_GNU_SOURCE -O2 -g $(WARNINGS) -o $@ $< -ljansson

define library
$(BUILD)/lib/libkagami-$1.a: $(filter-out %/main.o,$(call objects-of,$(folder-$1)/*.c))
endef
$(foreach l,$(libs),$(eval $(call library,$l)))
$(BUILD)/lib/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(BUILD)/include
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(ALL_CFLAGS) -iquote $(BUILD)/include/$(call part-of,$<) -MMD -MP -c -o $@ $<

$(BUILD)/obj/common/link/web_assets.o: $(wildcard common/web/*)

$(BUILD)/lint/%: %.c .clang-tidy $(BUILD)/flags | $(BUILD)/include
	@mkdir -p $(@D)
	@echo "  tidy $<"
	@clang-tidy --quiet $< -- $(ALL_CFLAGS) -iquote $(BUILD)/include/$(call part-of,$<) 2>/dev/null
	@touch $@

$(BUILD)/include: Makefile
	@rm -rf $@
	@$(foreach p,$(parts),mkdir -p $@/$p$(foreach a,$(arrows-$p), && ln -sr $(folder-$a) $@/$p/$a);)

# Everything is compiled anew when the flags change.
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)' > $@

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
