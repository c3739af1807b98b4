# Unit tests: tests/unit/LAYER-NAME.c, linked with the libraries of its layer only. TAP on stdout.
unit_isolate := $(patsubst tests/unit/%.c,$B/unit/%,$(wildcard tests/unit/isolate-*.c))
unit_images  := $(patsubst tests/unit/%.c,$B/unit/%,$(wildcard tests/unit/images-*.c))
unit_fcgi    := $(patsubst tests/unit/%.c,$B/unit/%,$(wildcard tests/unit/fcgi-*.c))
units = $(unit_isolate) $(unit_images) $(unit_fcgi)

$(unit_isolate): $B/unit/%: $B/tests/unit/%.o $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp)
$(unit_images): $B/unit/%: $B/tests/unit/%.o $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp $(PKGS_image))
$(unit_fcgi): $B/unit/%: $B/tests/unit/%.o $(LF) $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))

# What runs inside a hostile root: static, because the root may hold nothing else.
$B/root-probe: tests/unit/root-probe.c
	@mkdir -p $(@D)
	$(INIT_CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -Os -static -s -o $@ $<
$B/unit/fcgi-exec-paths $B/unit/fcgi-roots $B/unit/fcgi-race: | $B/root-probe
# Plants hostile roots for tests/cli.
$B/rootctl: $B/tests/cli/rootctl.o $(LM) $(LI)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp)
# The keeper's side of one container, for tests/cli/container.py.
$B/boxctl: $B/tests/cli/boxctl.o $(LI)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp)
# Programs that tests run inside sandboxes.
$B/attack-%: tests/attacks/%.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -O2 -pthread -o $@ $<
$B/attack-sum: tests/attacks/sum.c tests/attacks/sum_kernel.c tests/attacks/sum.h
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -O2 -pthread -o $@ $(filter %.c,$^)
$B/unit/fcgi-watch: | $B/attack-sum
$B/unit/fcgi-index: | $B/libexec/index

# Fuzz targets: tests/fuzz/LAYER-NAME.c with LLVMFuzzerTestOneInput, always built by clang with
# libFuzzer, ASan and UBSan, over objects of their own. Corpus: tests/fuzz/corpus/LAYER-NAME/.
FB      := build-fuzz
FUZZ_S  ?= 30
fuzzers := $(patsubst tests/fuzz/%.c,$(FB)/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_F   = -O1 -gline-tables-only -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
fuzzers: $(fuzzers)
$(FB)/fuzz/%: tests/fuzz/%.c $(LI)
	@mkdir -p $(@D)
	@$(MAKE) --no-print-directory B=$(FB) CC=clang CFLAGS="$(FUZZ_F)" HARDEN=-fPIE \
	  $(FB)/libisolate.a $(FB)/libimages.a $(FB)/libfcgi-app.a
	clang $(STD) $(WARN) -Wno-missing-prototypes $(PC_CFLAGS) -O1 -g -fPIE -pie \
	  -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $< \
	  $(FB)/libfcgi-app.a $(FB)/libimages.a $(FB)/libisolate.a -lfcgi -lm \
	  $(call libs,libseccomp $(PKGS_image) $(PKGS_fcgi))
.PHONY: fuzzers

# How many test programs run at once.
PROVE_JOBS ?= 2
units: $(units)
# The longest first, that nobody waits for them at the end.
long_units = $(filter %/fcgi-watch %/fcgi-roots,$(units))
# unit_without: those that somebody else runs.
check-unit: $(units)
	prove $(PROVE_FLAGS) -j$(PROVE_JOBS) -e '' $(filter-out $(unit_without),$(long_units) $(filter-out $(long_units),$(units)))
.PHONY: units check-unit

# Drives the tree server for tests/cli and tests/bench.
$B/treectl: $B/tests/cli/treectl.o $(LF) $(LM) $(LI)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))

# Talks to the engine broker for tests/cli/engine.py.
$B/enginectl: $B/tests/cli/enginectl.o $(LF) $(LM) $(LI)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))

# Attack programs: one static binary, which runs inside any root.
# sum*.c are a program of their own, which the tests of the watchdog start.
atk_src = $(filter-out tests/attacks/sum%,$(wildcard tests/attacks/*.c))
$B/atk: $(atk_src) tests/attacks/atk.h GNUmakefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -Itests/attacks $(WARN) -O1 -static -o $@ $(atk_src)

# The attacks, in the normal build and in one whose mechanisms can be switched off.
mutation-programs:
	$(MAKE) MUTATION=1 B=$B-mutation CFLAGS=-O1 $(addprefix $B-mutation/,cgibox cgibox.fcgi libexec/image atk)
check-attacks: all $B/atk mutation-programs
	CGIBOX_BUILD=$(abspath $B) CGIBOX_MUTATION_BUILD=$(abspath $B-mutation) \
	  prove $(PROVE_FLAGS) $(wildcard tests/attacks/*.t)
.PHONY: check-attacks mutation-programs

# All programs that the tests run, made before tests that run side by side.
test-programs: $(programs) units bench-programs $(addprefix $B/,treectl rootctl root-probe enginectl boxctl atk attack-sum)
.PHONY: test-programs

# What `make check` runs: no network, no root, and of web servers what webservers.py finds installed.
# cgroup.t needs a delegated cgroup v2, which the guest of tests/vm has; here by `make check-cgroup`.
# A build with sanitizers is not measured (bench.t).
# Root makes what these need (namespaces with a second host, a Debian by mmdebstrap): `make check-root`.
root_tests := tests/cli/container.py tests/cli/registry-memory.t tests/cli/make-images.t tests/cli/registry-addresses.py tests/cli/pasta.py tests/cli/root-emulation.t tests/cli/images-real.t tests/cli/engine.py
# bench.t takes a minute or more: ALL=1.
cli_tests := $(filter-out tests/cli/cgroup.t $(if $(ALL),$(if $(SAN),tests/cli/bench.t),tests/cli/bench.t) $(root_tests),$(wildcard tests/cli/*.sh tests/cli/*.t tests/cli/*.py))
long_cli := $(addprefix tests/cli/,patch-property.py hostile-roots.py image-verbs.t workspace.py)
check-includes:
	scripts/check-includes
check-docs:
	CC=$(CC) scripts/check-docs
check-openapi: $B/cgibox.fcgi
	scripts/check-openapi $<
	scripts/check-routes $<
check-cli: $(programs) bench-programs $B/treectl $B/rootctl $B/root-probe $B/atk
	@$(if $(cli_tests),B=$(abspath $B) CGIBOX=$(abspath $B)/cgibox CGIBOX_BUILD=$(abspath $B) \
	  prove $(PROVE_FLAGS) -j$(PROVE_JOBS) $(filter $(long_cli),$(cli_tests)) $(filter-out $(long_cli),$(cli_tests)),:)
check-cgroup: $(programs)
	B=$(abspath $B) CGIBOX=$(abspath $B)/cgibox CGIBOX_BUILD=$(abspath $B) prove $(PROVE_FLAGS) tests/cli/cgroup.t
check-root: $(programs) $B/treectl $B/enginectl $B/boxctl $B/atk
	B=$(abspath $B) CGIBOX=$(abspath $B)/cgibox CGIBOX_BUILD=$(abspath $B) prove $(PROVE_FLAGS) -j$(PROVE_JOBS) $(root_tests)
.PHONY: check-cgroup check-root
check: all check-includes check-docs check-openapi check-unit check-cli
.PHONY: check check-includes check-docs check-openapi check-cli

# Each fuzz target for FUZZ_S seconds from its committed corpus, two at a time. The libraries once and
# in parallel before the targets, which would each make them.
fuzz-libs:
	@$(MAKE) --no-print-directory B=$(FB) CC=clang CFLAGS="$(FUZZ_F)" HARDEN=-fPIE \
	  $(FB)/libisolate.a $(FB)/libimages.a $(FB)/libfcgi-app.a
$(fuzzers): | fuzz-libs
fuzz: fuzzers
	FB=$(FB) FUZZ_S=$(FUZZ_S) prove -j2 -e scripts/fuzz $(notdir $(fuzzers))
.PHONY: fuzz fuzz-libs

# tests/bench: what things cost, against peers (scripts/deps bench installs them). The programs that
# measure lie beside libexec/bench, which `cgibox bench` executes. Python decides and reports.
#	make bench [QUICK=1] [BENCH_PASSES=7] [BENCH="launch http ..."]	writes docs/bench.md unless QUICK
#	cgibox bench --help
bench_names    = launch bare park body unpack load plain.fcgi true tree warm
bench_programs = $(addprefix $B/libexec/bench-,$(bench_names))
bench_box      = $B/tests/bench/box.o
JANSSON       := $(shell $(PKG_CONFIG) --exists jansson 2>/dev/null && echo yes)
$B/tests/bench/body.o: STD += $(if $(JANSSON),-DWITH_JANSSON)
$B/libexec/bench-launch: $B/tests/bench/launch.o $B/tests/bench/bare.o $(bench_box) $(LI)
$B/libexec/bench-park: $B/tests/bench/park.o $(bench_box) $(LI)
$B/libexec/bench-load: $B/tests/bench/load.o
$B/libexec/bench-launch $B/libexec/bench-park $B/libexec/bench-load:
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp)
# json-c, which has names in common with jansson, is not in it.
$B/libexec/bench-body: $B/tests/bench/body.o $(LF) $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,$(if $(JANSSON),jansson))
$B/libexec/bench-unpack: $B/tests/bench/unpack.o $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ $(call libs,libseccomp $(PKGS_image))
# Our front without a sandbox: backend_plain.o comes before the library that holds the real one.
$B/libexec/bench-plain.fcgi: $B/fcgi/main.o $B/tests/bench/backend_plain.o $B/tests/bench/bare.o $(LF) $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))
# Interpreters that wait, without HTTP.
$B/libexec/bench-warm: $B/tests/bench/warm.o $(LF) $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))
# Programs that no libc starts slowly: a `true`, and the least that pid 1 can be.
$B/libexec/bench-true: tests/bench/true.c
$B/libexec/bench-bare: tests/bench/bare_init.c
$B/libexec/bench-true $B/libexec/bench-bare:
	@mkdir -p $(@D)
	$(INIT_CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -Os -static -s -o $@ $<
$B/libexec/bench-tree: $B/treectl
	@mkdir -p $(@D)
	cp $< $@
$B/libexec/bench: tests/tests.mk
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nCGIBOX_BENCH_BUILD=%s exec /usr/bin/python3 -B %s "$$@"\n' '$(abspath $B)' \
	  '$(abspath tests/bench/main.py)' >$@
	@chmod 755 $@
bench-programs: $(programs) $(bench_programs) $B/libexec/bench
bench: bench-programs
	$B/cgibox bench $(if $(QUICK),--quick,--write docs/bench.md) \
	  $(if $(BENCH_PASSES),--passes $(BENCH_PASSES)) $(BENCH)
# Pulling an image, beside skopeo and umoci: slow, and needs a registry.
bench-pull: all
	CGIBOX_BUILD=$(abspath $B) tests/bench/pull.py
.PHONY: bench bench-programs bench-pull
# What forks of a session cost, without HTTP.
$B/libexec/bench-fork: $B/tests/bench/fork.o $(LF) $(LM) $(LI)
	@mkdir -p $(@D)
	$(CC) $(SANF) $(LDHARD) $(LDFLAGS) -o $@ $^ -lfcgi -lm $(call libs,libseccomp $(PKGS_fcgi))
bench-fork: all $B/libexec/bench-fork
	CGIBOX_BUILD=$(abspath $B) tests/bench/fork.py
.PHONY: bench-fork

lint_c  := $(wildcard isolate/*.[ch] images/*.[ch] fcgi/*.[ch] fcgi/dialects/*.[ch] \
             tests/unit/*.[ch] tests/fuzz/*.c tests/attacks/*.[ch] tests/bench/*.[ch])
lint_sh := scripts/serve scripts/quickstart scripts/test scripts/deps scripts/fuzz \
             scripts/check-includes scripts/check-docs scripts/make-images scripts/lighttpd-error.cgi .ci/run \
             tests/http/run $(wildcard tests/vm/run tests/vm/build-guest tests/vm/pack tests/vm/inside.sh tests/vm/core.sh \
             tests/vm/guest/customize tests/vm/guest/init tests/vm/guest/command tests/vm/guest/finish)
lint: check-includes check-docs
	clang-format --dry-run -Werror $(lint_c)
	cppcheck -q --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr \
	  --suppress=missingIncludeSystem --suppress=resourceLeak --suppress=memleak --suppress=unknownMacro --suppress=uninitvar --suppress=ctuuninitvar --suppress=normalCheckLevelMaxBranches -I. isolate images fcgi
	clang-tidy --quiet $(filter %.c,$(filter-out tests/%,$(lint_c))) -- $(STD) $(PC_CFLAGS)
	shellcheck $(lint_sh)
	mandoc -Tlint -W warning docs/*.[158]
	cd scripts/python && mypy --strict --cache-dir=/dev/null cgibox
	codespell -q 3 -L nd,fo,te,ot,alse,passt README.md docs sandbox.conf isolate images fcgi scripts tests/http
.PHONY: lint

# For scripts: make -s print-B
print-%:
	@echo '$($*)'

# How soon the watchdog acts: tests/bench/watch.sh.
bench-watch: $(programs) $B/unit/fcgi-watch $B/attack-sum
	CGIBOX_BUILD=$(abspath $B) tests/bench/watch.sh
.PHONY: bench-watch
