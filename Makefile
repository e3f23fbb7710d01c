# SPDX-License-Identifier: Apache-2.0
# Build of Tulle. `make help` lists the targets; `V=1` shows commands; BUILD=DIR builds elsewhere.
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

VERSION := $(shell cat VERSION)
BUILD   ?= build
FLAVOUR ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
Q := $(if $(V),,@)

# --- flavours: gcc release (default), clang, asan, tsan, cov ------------------------------------
CC_release := gcc
CC_clang   := clang
CC_asan    := clang
CC_tsan    := clang
CC_fuzz    := clang
CXX_release := g++
CXX_clang   := clang++
CXX_asan    := clang++
CXX_tsan    := clang++
CXX_fuzz    := clang++
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_tsan := -fsanitize=thread -fno-omit-frame-pointer
SAN_fuzz := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -DFUZZING
# No unwind tables: nothing throws. What debuggers use is stripped.
OPT_release := -O2 -D_FORTIFY_SOURCE=2 -fno-asynchronous-unwind-tables
OPT_clang := -O2 -D_FORTIFY_SOURCE=2
OPT_asan := -O1
OPT_tsan := -O1
OPT_fuzz := -O1
CC  := $(CC_$(FLAVOUR))
CXX := $(CXX_$(FLAVOUR))
SAN := $(SAN_$(FLAVOUR))
WERROR ?= -Werror
# Texts for people are cut at their buffer's end by design; gcc would call each one an error.
WARN_release := -Wno-format-truncation
WARN := -Wall -Wextra -Wshadow -Wvla -Wformat=2 $(WARN_$(FLAVOUR)) $(WERROR)
CWARN := -Wstrict-prototypes -Wmissing-prototypes
O := $(BUILD)/$(FLAVOUR)
GEN := $(BUILD)/gen
CPPFLAGS := -I. -I$(GEN) -I$(GEN)/proto -D_GNU_SOURCE -DTULLE_VERSION='"$(VERSION)"'
BASEFLAGS := $(OPT_$(FLAVOUR)) -g -fstack-protector-strong -fPIE -fno-plt -ffunction-sections -fdata-sections $(SAN)
CFLAGS := -std=gnu17 $(BASEFLAGS) $(WARN) $(CWARN)
CXXFLAGS := -std=gnu++17 -fno-exceptions -fno-rtti $(BASEFLAGS) $(WARN)
LDFLAGS := -pie -Wl,-z,relro,-z,now,-z,pack-relative-relocs -Wl,--gc-sections -Wl,--as-needed $(SAN)

# --- modules: one archive a folder; an entry names the folders it may look down on -----------------
# The linker enforces the layering: a test links with the archives named here and no others.
LOOKS_lib/base :=
LOOKS_lib/data := lib/base
LOOKS_lib/io   := lib/base
LOOKS_lib/tls  := lib/data lib/io lib/base
LOOKS_lib/http := lib/tls lib/data lib/io lib/base
LOOKS_lib/obs  := lib/data lib/base
LOOKS_lib/kube := lib/http lib/tls lib/obs lib/data lib/io lib/base
LOOKS_mesh/match    := lib/data lib/base
LOOKS_mesh/wire     := mesh/match lib/data lib/base
LOOKS_mesh/api      := lib/obs lib/data lib/base
LOOKS_mesh/index    := mesh/api lib/obs lib/data lib/base
LOOKS_mesh/compile  := mesh/index mesh/api mesh/wire mesh/match lib/obs lib/data lib/base
LOOKS_mesh/analyze  := mesh/compile mesh/index mesh/api mesh/wire mesh/match lib/obs lib/data lib/base
LOOKS_mesh/inject   := mesh/redirect mesh/api lib/obs lib/data lib/base
LOOKS_mesh/redirect := lib/data lib/base
MESH := mesh/analyze mesh/compile mesh/index mesh/inject mesh/api mesh/wire mesh/match mesh/redirect
LIB  := lib/kube lib/http lib/tls lib/obs lib/data lib/io lib/base
LOOKS_operator := $(MESH) $(LIB)
LOOKS_injector := mesh/inject mesh/redirect mesh/api lib/kube lib/http lib/tls lib/obs lib/data lib/io lib/base
LOOKS_proxy    := mesh/wire mesh/match mesh/redirect lib/http lib/tls lib/obs lib/data lib/io lib/base
LOOKS_cli      := $(MESH) $(LIB)
MODULES := $(LIB) $(MESH) operator injector proxy cli

pc = $(shell pkg-config --libs $(1) 2>/dev/null)
LIBS_lib/base := -lxxhash -pthread
LIBS_lib/data := $(call pc,jansson yaml-0.1)
LIBS_lib/io   :=
LIBS_lib/tls  := $(call pc,openssl)
LIBS_lib/http := $(call pc,libnghttp2)
LIBS_lib/obs  := -lm
LIBS_lib/kube := $(call pc,libcurl)
LIBS_mesh/wire := $(call pc,libprotobuf-c)
LIBS_injector := $(call pc,libmicrohttpd) -lgnutls
libs_of = $(sort $(foreach m,$(1) $(foreach n,$(1),$(LOOKS_$(n))),$(LIBS_$(m))))
archives_of = $(foreach m,$(1) $(sort $(foreach n,$(1),$(LOOKS_$(n)))),$(O)/$(m).a)
link = $(CC) $(LDFLAGS) -o $@ $(1) -Wl,--start-group $(2) -Wl,--end-group $(3) -ldl

# --- protobuf: generated at build from proto/ -----------------------------------------------------
PROTOS := $(sort $(shell find proto -name '*.proto' 2>/dev/null))
PBC := $(PROTOS:%.proto=$(GEN)/%.pb-c.c)
PBH := $(PBC:.c=.h)
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: %.proto
	@mkdir -p $(GEN)/proto
	$(Q)protoc-c -Iproto --c_out=$(GEN)/proto $<

# Kept: make takes files that only pattern rules name for intermediate ones.
.SECONDARY: $(PBC) $(PBH)

# Sources generated into $(GEN) by tools/ (support table, references) list themselves here.
-include tools/gen.mk

# --- objects and archives ---------------------------------------------------------------------------
# Programs keep main.c (and what belongs to one executable alone) out of their archive.
MAINS := $(wildcard operator/main.c injector/main.c cli/main.c proxy/main.c proxy/supervisor_main.c)
srcs_of = $(filter-out $(MAINS),$(sort $(wildcard $(1)/*.c $(1)/*/*.c $(1)/*.cc)))
define module_rules
SRCS_$(1) := $(call srcs_of,$(1))
OBJS_$(1) := $$(patsubst %,$(O)/%.o,$$(basename $$(SRCS_$(1)))) $$(GENOBJS_$(1))
$(O)/$(1).a: $$(OBJS_$(1))
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
GENOBJS_mesh/wire := $(patsubst $(BUILD)/%.c,$(O)/%.o,$(PBC))
$(foreach m,$(MODULES),$(eval $(call module_rules,$(m))))

say = @$(if $(V),:,printf '  %-7s %s\n' $(1) $(2))
$(O)/%.o: %.c | $(PBH) $(GENH)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(O)/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(O)/gen/%.o: $(GEN)/%.c | $(PBH) $(GENH)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu17 $(BASEFLAGS) -w -MMD -MP -c -o $@ $<

# --- programs -----------------------------------------------------------------------------------------
PROGRAMS := $(O)/bin/tulle-operator $(O)/bin/tulle-injector $(O)/bin/tulle-proxy $(O)/bin/tulle-proxy-data $(O)/bin/tulle
define program_rule
$(O)/bin/$(1): $(O)/$(2).o $$(call archives_of,$(3))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$(Q)$$(call link,$$<,$$(filter %.a,$$^),$$(call libs_of,$(3)))
endef
$(eval $(call program_rule,tulle-operator,operator/main,operator))
$(eval $(call program_rule,tulle-injector,injector/main,injector))
$(eval $(call program_rule,tulle-proxy-data,proxy/main,proxy))
$(eval $(call program_rule,tulle,cli/main,cli))
# The supervisor is tiny and static: it holds sockets and keys and parses no network bytes. Released, it is linked
# with musl: glibc's static library alone is ten times its size. (musl's own linker script cannot say -static-pie;
# its start-up code does not apply packed relative relocations.)
SUPERVISOR_SRCS := $(patsubst %,proxy/%.c,supervisor_main supervisor handover hook options trim) lib/io/sock.c \
	$(patsubst %,lib/base/%.c,clock err escape log mem slice)
MUSL := $(patsubst %-gnu,%-musl,$(shell gcc -dumpmachine))
ifeq ($(FLAVOUR),release)
SUPERVISOR_OBJS := $(SUPERVISOR_SRCS:%.c=$(O)/musl/%.o)
gcc_file = $(shell gcc -print-file-name=$(1))
$(O)/musl/%.o: %.c
	@mkdir -p $(@D)
	$(call say,MUSL,$<)
	$(Q)$(CC) -nostdinc -isystem /usr/include/$(MUSL) -isystem $(call gcc_file,include) -idirafter /usr/include -idirafter \
		/usr/include/$(MUSL:%-musl=%-gnu) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(O)/bin/tulle-proxy: $(SUPERVISOR_OBJS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter-out -pie %-relocs,$(LDFLAGS)) -static-pie -nostdlib -L/usr/lib/$(MUSL) -o $@ /usr/lib/$(MUSL)/rcrt1.o \
		/usr/lib/$(MUSL)/crti.o $(call gcc_file,crtbeginS.o) $^ -lc $(call gcc_file,libgcc.a) $(call gcc_file,crtendS.o) \
		/usr/lib/$(MUSL)/crtn.o
else
$(O)/bin/tulle-proxy: $(O)/proxy/supervisor_main.o $(O)/proxy.a $(O)/lib/base.a $(O)/lib/io.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter-out -pie,$(LDFLAGS)) $(if $(SAN),,-static-pie) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_lib/base)
endif

# RE2 is C++ and large: a shared object that the first regular expression loads (lib/base/re.h). C
# programs carry no C++ runtime of the sanitizers, so checks that need one are off in it.
# (UBSan's function check needs its C++ runtime, which a C program does not carry.)
RE2_SO := $(O)/bin/tulle-re2.so
$(RE2_SO): lib/base/re2/shim.cc lib/base/re2/shim.h
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) $(CPPFLAGS) $(filter-out -fPIE,$(CXXFLAGS)) -fPIC $(filter-out -pie,$(LDFLAGS)) $(if $(SAN),-fno-sanitize=function) -shared -o $@ $< $(call pc,re2)
TESTDATA += $(RE2_SO)
unit: export TULLE_LIBDIR := $(abspath $(O)/bin)

all: $(PROGRAMS) $(RE2_SO) ## build the four programs (the proxy as two executables)

install: all ## install under $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/lib/tulle
	install -m 755 $(RE2_SO) $(DESTDIR)$(PREFIX)/lib/tulle

deps: ## install the Debian packages that are missing, or print the command that would
	$(Q)tools/deps.sh

# --- tests ------------------------------------------------------------------------------------------
# A test in tests/unit/<folder>/ links with the archive of <folder> and what it looks down on.
# T=FILE narrows `unit`, `asan` to one test.
TESTS := $(sort $(shell find tests/unit -name 'test_*.c' 2>/dev/null))
test_bin = $(patsubst %.c,$(O)/%,$(1))
define test_rule
$(O)/$(1:.c=): $(O)/$(1:.c=.o) $$(call archives_of,$(2)) | $$(TESTDATA)
	$$(call say,LINK,$$@)
	$(Q)$$(call link,$$<,$$(filter %.a,$$^),$$(call libs_of,$(2)) $$(shell pkg-config --libs check))
endef
module_of_test = $(firstword $(foreach m,$(MODULES),$(if $(filter tests/unit/$(m)/%,$(1)),$(m))))
$(foreach t,$(TESTS),$(eval $(call test_rule,$(t),$(call module_of_test,$(t)))))

FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
# A target names its module in its first ten lines: /* module: lib/http */
fuzz_module = $(shell sed -n '1,10s/.*module: *\([a-z\/]*\).*/\1/p' tests/fuzz/$(1).c)
define fuzz_rules
$(O)/fuzz-replay/$(1): $(O)/tests/fuzz/$(1).o $(O)/tools/fuzz_replay.o $$(call archives_of,$(call fuzz_module,$(1)))
	@mkdir -p $$(@D)
	$(Q)$$(call link,$$(filter %.o,$$^),$$(filter %.a,$$^),$$(call libs_of,$(call fuzz_module,$(1))))
$(O)/fuzz/$(1): $(O)/tests/fuzz/$(1).o $$(call archives_of,$(call fuzz_module,$(1)))
	@mkdir -p $$(@D)
	$(Q)$$(call link,$$(filter %.o,$$^) -fsanitize=fuzzer,$$(filter %.a,$$^),$$(call libs_of,$(call fuzz_module,$(1))))
endef
$(foreach f,$(FUZZ_TARGETS),$(eval $(call fuzz_rules,$(f))))

ifdef T
UNIT_BINS := $(call test_bin,$(T))
REPLAY_BINS :=
else
UNIT_BINS := $(call test_bin,$(TESTS))
REPLAY_BINS := $(FUZZ_TARGETS:%=$(O)/fuzz-replay/%)
endif

unit: $(UNIT_BINS) $(REPLAY_BINS) ## unit and golden tests and corpus replay (T=tests/unit/.../test_x.c for one)
	$(Q)tools/run-tests.sh $(O) $(UNIT_BINS) $(REPLAY_BINS)

check: unit $(if $(wildcard tests/scenario/run.sh),scenario) ## the loop of every day: unit, golden, scenario, corpus replay; no root, no network

scenario: all ## scenario tests: the real proxy, virtual clock
	$(Q)tests/scenario/run.sh $(O) $(S)

interop: all ## real clients and servers through two sidecars: h2spec, grpc-go, curl, nginx, PostgreSQL, Redis ...
	$(Q)tests/interop/h2spec.sh $(O)
	$(Q)tests/interop/grpc.sh $(O)
	$(Q)tests/interop/apps.sh $(O)

asan check-asan: ## the same tests under ASan and UBSan
	$(Q)$(MAKE) FLAVOUR=asan unit
tsan check-tsan: ## the same tests under TSan
	$(Q)CK_FORK=no $(MAKE) FLAVOUR=tsan unit
clang: ## build everything with clang
	$(Q)$(MAKE) FLAVOUR=clang all

golden: ## rewrite the golden files; review the diff
	$(Q)GOLDEN_WRITE=1 $(MAKE) unit

fuzz: ## fuzz one target, or one after another: make fuzz [T=h1_request] SECS=60
	$(Q)$(MAKE) FLAVOUR=fuzz T= $(patsubst %,$(BUILD)/fuzz/fuzz/%,$(or $(T),$(FUZZ_TARGETS)))
	$(Q)tools/fuzz.sh $(BUILD)/fuzz $(or $(SECS),60) $(T)

cluster-up: ## bring the real test cluster up (idempotent)
	$(Q)tests/cluster/build.sh && tests/cluster/up.sh
cluster-down: ## tear the test cluster down
	$(Q)tests/cluster/down.sh
integration: all ## against a real API server
	$(Q)tests/integration/run.sh $(O)
e2e: all ## against the real cluster, with the images as built
	$(Q)tests/e2e/run.sh $(O)
mutations: all ## break one feature at a time: its scenario must turn red (E2E=1: its e2e test, too; a minute each)
	$(Q)tests/scenario/mutations.sh
	$(if $(E2E),$(Q)tests/e2e/mutations.sh)
BENCH := $(addprefix $(O)/bench/,load backend relay)
# Programs of benchmarks: bench/<name>.c with what the proxy looks down on.
$(O)/bench/%: bench/%.c $(call archives_of,proxy) | $(PBH)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(call libs_of,proxy) -ldl
bench: all $(BENCH) ## beside Envoy, HAProxy and nginx; writes docs/benchmarks.md (ROWS="http rate" PEERS=envoy QUICK=1 narrow it, unwritten)
	$(Q)bench/compare.py $(O) --rows "$(ROWS)" --peers "$(PEERS)" $(if $(QUICK),--quick) $(if $(NICE),--nice=$(NICE)) $(if $(ROWS)$(PEERS)$(QUICK),,--write)
memory: all $(O)/bench/fleet ## fails when a sidecar, a service, a connection takes a tenth more than it did, a program 3 %
	$(Q)bench/memory.py $(O) --use 300 --gate
	$(Q)bench/sidecars.py $(O) --gate
bench-fleet: all $(O)/bench/fleet ## what 2,000 sidecars cost the control plane (FLEET="--services 10000 --endpoints 100000")
	$(Q)eval "$$(TULLE_CLUSTER_DIR= tests/cluster/env.sh)"; bench/fleet.py $(O) $(FLEET)
demo: ## a real cluster, the mesh, an application, a canary under load (DEMO=local: without a cluster)
	$(Q)tools/demo.sh $(or $(DEMO),cluster)
demo-clean: ## undo what demo left behind
	$(Q)tools/demo.sh clean
test: ## everything: builds with gcc and clang, check, sanitizers, integration, e2e
	$(Q)tools/test.sh

manifests: ## render manifests/install.yaml from the charts
	$(Q)tools/manifests.sh
docs: ## write what is generated: docs/support.md, crds/, the charts' copies, docs/metrics.md
	$(Q)tools/crds.py
	$(Q)tools/metrics.py
graph: ## print the include graph between folders; fails on an arrow that points up
	$(Q)tools/graph.sh
lint: $(PBH) ## clang-tidy, cppcheck, shellcheck
	$(Q)GEN=$(GEN) tools/lint.sh
format: ## clang-format the tree
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format -i
clean: ## remove build products
	rm -rf $(BUILD)
help: ## this list
	@grep -hE '^[a-z][a-z -]*:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z -]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  %-22s %s\n", $$1, $$2}'

.PHONY: all install deps unit check scenario interop asan check-asan tsan check-tsan clang golden fuzz \
	cluster-up cluster-down integration e2e mutations bench bench-fleet memory demo demo-clean test manifests docs graph lint \
	format clean help

-include $(shell find $(O) -name '*.d' 2>/dev/null)
