# make          builds build/opald
# make run      installs what is missing, builds, serves on localhost:7002
# make demo     the server on a Kafka of its own, a subscriber and a publisher in one terminal
# make test     installs what the tests need, runs everything; last line "N passed, N failed"
# make test-kafka-cluster   every bad day of a Kafka cluster of three brokers; prints a table (half an hour; the worst four: `make test`)
# make test-backbones   100 clients, 10,000 events, every fault of every backbone at full length (12 minutes; part of `make test` at a small size)
# make coverage      lines that the unit tests run, by folder
# make mutation      breaks the product in one place at a time and asks the tests; SAMPLE=60
# make deps     installs what the build needs; FOR="lint bench" what these need
# make install  PREFIX=/usr/local DESTDIR=; make uninstall removes it
# make lint     layout, circles, clang-format, clang-tidy (minutes at first, then only what changed), cppcheck
# make bench    measures; prints a table (BENCH_QUICK=1: two minutes of it); bench-results puts it into tests/bench/RESULTS.md
# make bench-peers   beside nats-server and nchan; make bench-scale: curves over workers, topics, clients
# make bench-check   instructions per delivery against tests/bench/instructions.expected; bench-check-update writes it
# Variables: CC=gcc|clang (gcc 12, clang 14 or newer)  SAN=address|thread (objects and program then live in build/address, build/thread)
#            BUILD=folder  OPTIMIZE=-O2  WERROR=1 (a warning is an error)  V=1 (shows the commands)

CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
SAN      ?=
# A warning of a newer compiler does not stop a user's build. tests/run, make lint and CI set it.
WERROR   ?=
comma    := ,
BUILD    ?= build
OUT      := $(if $(SAN),$(BUILD)/$(SAN),$(BUILD))
OPTIMIZE ?= -O2
PREFIX   ?= /usr/local
VERSION  := 0.1.0

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wvla $(if $(WERROR),-Werror)
HARDEN   := -fstack-protector-strong -fPIE
ifeq ($(SAN),)
HARDEN   += -D_FORTIFY_SOURCE=2
endif
# Debian keeps libpq's headers in a folder of their own.
CPPFLAGS += -I. -isystem $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql) -D_GNU_SOURCE -DOPALD_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 -funsigned-char $(OPTIMIZE) -g -fno-omit-frame-pointer $(WARNINGS) $(HARDEN)
LDFLAGS  += -pie -Wl,-z,relro,-z,now
SANITIZE := $(if $(filter fuzz,$(SAN)),fuzzer-no-link$(comma)address$(comma)undefined,$(SAN))
ifeq ($(SAN),coverage)
CFLAGS   += --coverage
LDFLAGS  += --coverage -Wl,-u,__gcov_dump
else ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SANITIZE) $(if $(filter fuzz,$(SAN)),-fno-sanitize-recover=all)
LDFLAGS  += -fsanitize=$(SANITIZE)
endif
LIBS     := -lrdkafka -levent_core -luuid -lhttp_parser -lhiredis -lpq -lgit2 -lz -lpcre2-8 -larchive -lcurl -lcjson -lssl -lcrypto -lpthread -lm

ifeq ($(SAN),thread)
# librdkafka's threads, as ThreadSanitizer can know them
TSAN_THREADS := $(OUT)/obj/tests/stress/thread_sanitizer.o
LIBS     := $(TSAN_THREADS) $(LIBS)
$(OUT)/lib/shm/common.a: | $(TSAN_THREADS)
endif

# One archive per folder, in $(OUT)/lib. tests/layout.mk says what each folder may know; tests link with no more than that.
include tests/layout.mk
FOLDERS   := $(patsubst knows_%,%,$(filter knows_%,$(.VARIABLES)))
objects    = $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard $(addsuffix /*.c,$(1))))
archive    = $(patsubst %,$(OUT)/lib/%.a,$(1))
# the folders in $(1), and all that they may know
closure    = $(sort $(1) $(if $(strip $(1)),$(call closure,$(foreach folder,$(1),$(knows_$(folder))))))
folder_of  = $(patsubst %/,%,$(dir $(1)))
archives   = $(call archive,$(call closure,$(1)))
# archives of tests (lib/tests) stand before the product's, and only the tests' own objects take from them
# V=1 shows whole commands, otherwise one short line for each
run        = $(if $(V),,@echo '  $(1)' $@;)
link       = $(call run,link)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter $(OUT)/lib/tests/%,$^) -Wl,--end-group \
             -Wl,--start-group $(filter-out $(OUT)/lib/tests/%,$(filter %.a,$^)) -Wl,--end-group -Wl,--as-needed $(LIBS)
MAIN      := $(OUT)/obj/server/main.o

.DEFAULT_GOAL := all
.PHONY: all run demo test coverage mutation test-backbones test-kafka-cluster unit lint format clean deps install uninstall
all: $(OUT)/opald

$(OUT)/opald: $(call objects,$(FOLDERS))
	$(link)

define archive_rule
$(call archive,$(1)): $(filter-out $(MAIN),$(call objects,$(1)))
	@mkdir -p $$(@D)
	$$(call run,ar  )rm -f $$@; $$(AR) rcs $$@ $$^
endef
$(foreach folder,$(FOLDERS),$(eval $(call archive_rule,$(folder))))

# What everything is built with. When that changes, or at the first build, compiler and packages are checked and all is built again.
configuration := $(filter-out ccache,$(CC)) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LIBS)
ifneq ($(file <$(OUT)/configuration),$(configuration))
.PHONY: $(OUT)/configuration
endif
$(OUT)/configuration: export CONFIGURATION = $(configuration)
$(OUT)/configuration:
	@CC='$(CC)' tests/packages need build
	@$(CC) -fsyntax-only shm/common/compiler.c
	@mkdir -p $(@D)
	@printf '%s\n' "$$CONFIGURATION" >$@

$(OUT)/obj/%.o: %.c $(OUT)/configuration
	@mkdir -p $(@D)
	$(call run,cc  )$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# what it has inside
$(OUT)/obj/worker/api/http_docs.o: worker/api/openapi.json worker/api/docs.html

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)

# ---- unit tests: tests/unit/FOLDER/test_NAME.c, linked with FOLDER and what it may know. The other files of tests/unit/FOLDER are its
# harness, an archive of their own: tests of FOLDER, and of folders that may know it, link with it.
HARNESSES    := $(foreach folder,$(FOLDERS),$(if $(filter-out test_%,$(notdir $(wildcard tests/unit/$(folder)/*.c))),$(folder)))
harness       = $(patsubst %,$(OUT)/lib/tests/%.a,$(filter $(HARNESSES),$(call closure,$(1))))
UNIT_SOURCES := $(foreach folder,$(FOLDERS),$(wildcard tests/unit/$(folder)/test_*.c))
UNIT_TESTS   := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(UNIT_SOURCES))
unit-tests: $(UNIT_TESTS)
.PHONY: unit-tests
define harness_rule
$(OUT)/lib/tests/$(1).a: $(filter-out $(OUT)/obj/tests/unit/$(1)/test_%,$(call objects,tests/unit/$(1)))
	@mkdir -p $$(@D)
	$$(call run,ar  )rm -f $$@; $$(AR) rcs $$@ $$^
endef
$(foreach folder,$(HARNESSES),$(eval $(call harness_rule,$(folder))))
.SECONDEXPANSION:
# make keeps the objects of the tests
.SECONDARY:
$(OUT)/unit/%: $(OUT)/obj/tests/unit/%.o $$(call harness,$$(call folder_of,$$*)) $$(call archives,$$(call folder_of,$$*))
	@mkdir -p $(@D)
	$(link) -lcmocka

# ---- stress of shm/: threads, killed processes, mutations (a minute). build/stress/NAME; SAN=thread for the first two.
# ring_kill has its own build of shm/, in which every point between two stores is a call.
STRESS := $(addprefix $(OUT)/stress/,ring_threads uplink_threads sleep_litmus)
$(STRESS): $(OUT)/stress/%: $(OUT)/obj/tests/stress/%.o $(call archives,shm)
	@mkdir -p $(@D)
	$(link)
$(OUT)/stress/ring_kill: tests/stress/ring_kill.c $(wildcard tests/stress/kill_*.c tests/stress/*.h) $(wildcard shm/*.c shm/*.h) $(call archive,shm/common)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -DSHM_POINTS $(CFLAGS) $(LDFLAGS) -Wl,--as-needed -o $@ $(filter %.c %.a,$^) $(LIBS)
.PHONY: stress stress-programs
stress-programs: $(STRESS) $(OUT)/stress/ring_kill
stress: stress-programs
	$(OUT)/stress/ring_kill 12
	CC="$(CC)" tests/stress/mutations.sh
# ---- end of stress

# ---- for people
# Only these install packages: deps, run, demo, test and what else starts tests/run.
FOR ?= build run
deps:
	@CC='$(CC)' tests/packages install $(FOR)

# make in make: with all cores, but as many jobs as the caller said when he did
BUILD_ALL = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$$(nproc)) all

run: deps
	@$(BUILD_ALL)
	$(OUT)/opald run --host localhost --port 7002

demo:
	@CC='$(CC)' tests/packages install $(FOR) demo
	@$(BUILD_ALL)
	@deploy/demo/run $(OUT)/opald

# The unit names the program where PREFIX has put it.
INSTALLED_PROGRAM = $(PREFIX)/bin/opald
INSTALLED_UNIT    = $(PREFIX)/lib/systemd/system/opald.service
INSTALLED_DOC     = $(PREFIX)/share/doc/opald
install: all
	install -D -m 755 $(OUT)/opald $(DESTDIR)$(INSTALLED_PROGRAM)
	install -d $(DESTDIR)$(dir $(INSTALLED_UNIT))
	sed 's|/usr/local/bin/opald|$(INSTALLED_PROGRAM)|' deploy/opald.service >$(DESTDIR)$(INSTALLED_UNIT)
	chmod 644 $(DESTDIR)$(INSTALLED_UNIT)
	install -D -m 644 -t $(DESTDIR)$(INSTALLED_DOC) LICENSE deploy/opald.env.example
uninstall:
	rm -f $(DESTDIR)$(INSTALLED_PROGRAM) $(DESTDIR)$(INSTALLED_UNIT)
	rm -f $(DESTDIR)$(INSTALLED_DOC)/LICENSE $(DESTDIR)$(INSTALLED_DOC)/opald.env.example
	rmdir --ignore-fail-on-non-empty $(DESTDIR)$(INSTALLED_DOC)

LINT_SOURCES = $(shell git ls-files '*.c' '*.h')
format:
	clang-format -i $(LINT_SOURCES)
lint:
	@CC='$(CC)' tests/packages need build lint
	@WERROR=1 $(BUILD_ALL)
	tests/layout
	tests/circles $(OUT)/obj
	tests/lines
	clang-format --dry-run --Werror $(LINT_SOURCES)
	tests/tidy --cache $(OUT)/tidy --flags "$(subst ",\",$(CPPFLAGS))"
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,performance,portability --std=c11 -I. -D_GNU_SOURCE \
	    -D__GNUC__=12 '-D__attribute__(x)=' '-DcJSON_ArrayForEach(at,list)=while (((at) = (list)->child))' \
	    '-DTAILQ_FOREACH(at,list,link)=while (((at) = (list)->tqh_first))' \
	    --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches server shm broadcast worker

# ---- figures: build/bench/results.md. BENCH_QUICK=1 for a minute's worth of them.
BENCH_LOAD := $(OUT)/bench/load $(OUT)/bench/bare $(OUT)/bench/bare_feed
BENCH_RING := $(patsubst tests/bench/%.c,$(OUT)/bench/%,$(wildcard tests/bench/bench_ring.c))
$(OUT)/bench/load: $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard tests/bench/load*.c))
$(OUT)/bench/bundle_load: $(OUT)/obj/tests/bench/bundle_load.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^
$(OUT)/bench/bare: $(OUT)/obj/tests/bench/bare.o
$(OUT)/bench/bare_feed: $(OUT)/obj/tests/bench/bare_feed.o
$(BENCH_LOAD):
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -Wl,--as-needed -o $@ $^ -lrdkafka -lm
$(OUT)/bench/bench_ring: $(OUT)/obj/tests/bench/bench_ring.o $(call archives,shm)
	@mkdir -p $(@D)
	$(link)
.PHONY: bench-programs
bench-programs: $(BENCH_LOAD) $(BENCH_RING) $(OUT)/bench/bundle_load
# bench-results: the same, and its tables go into tests/bench/RESULTS.md. bench-peers: beside nats-server and nchan only. bench-scale: the curves only.
BENCH_GOALS := bench bench-results bench-peers bench-scale
.PHONY: $(BENCH_GOALS)
$(BENCH_GOALS):
	@CC='$(CC)' tests/packages need build run bench
	@tests/setup cache || echo "bench: no reference, no Kafka: measured without them"
	@$(BUILD_ALL) bench-programs
	@tests/bench/check $(OUT)/bench/load
	@tests/bench/run --opald $(OUT)/opald --programs $(OUT)/bench $(bench_$@)
	$(if $(bench_policy_$@),@tests/bench/policy --opald $(OUT)/opald --programs $(OUT)/bench $(bench_policy_$@))
bench_bench        = --out $(OUT)/bench
bench_bench-results = --out $(OUT)/bench --results --scale-rounds 3
bench_bench-peers  = --out $(OUT)/bench/peers --only peers
bench_bench-scale  = --out $(OUT)/bench/scale --only scale --scale-rounds 3
bench_policy_bench        = --out $(OUT)/bench
bench_policy_bench-results = --out $(OUT)/bench --write-results

# ---- the guard: instructions a delivery and an event, against tests/bench/instructions.expected. Callgrind counts them, so load and
# machine don't matter; the compiler and its options do.
.PHONY: bench-check bench-check-update
bench-check bench-check-update:
	$(if $(filter-out -O2,$(OPTIMIZE))$(SAN),$(error bench-check needs OPTIMIZE=-O2 and no SAN))
	@CC='$(CC)' tests/packages need build
	@command -v valgrind >/dev/null || { echo "bench-check needs valgrind: make deps FOR=bench"; exit 1; }
	@$(BUILD_ALL) $(OUT)/bench/load
	@tests/bench/instructions --check $(if $(filter %-update,$@),--update) --opald $(OUT)/opald --programs $(OUT)/bench --cc "$(CC)"

# ---- tests: tests/run sums everything up; the last line is "N passed, N failed"
test:
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' tests/run
unit:
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' tests/run unit
# Lines that the unit tests run, by folder. The build is one of its own (SAN=coverage).
coverage:
	@CC='$(CC)' tests/packages need build test
	@$(MAKE) --no-print-directory SAN=coverage OPTIMIZE=-O1 all unit-tests
	@tests/coverage --build $(BUILD)/coverage
# Breaks the product in one place at a time and asks the tests (tests/mutation). SAMPLE=60: so many of the mutants.
mutation:
	@CC='$(CC)' tests/packages need build test
	@tests/setup cache
	@tests/mutation/run --work $(BUILD)/mutation $(if $(SAMPLE),--sample $(SAMPLE),--results tests/mutation/RESULTS.md)
test-backbones:
	@rm -f $(OUT)/test-backbones.txt
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' \
	    OPALD_TEST_PROCESSES=1 OPALD_FLEET=full OPALD_FLEET_RESULTS='$(abspath $(OUT))/test-backbones.txt' tests/run integration tests/integration/test_backbone_faults.py; \
	    status=$$?; cat $(OUT)/test-backbones.txt; exit $$status
test-kafka-cluster:
	@rm -f $(OUT)/test-kafka-cluster.txt
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' \
	    OPALD_TEST_PROCESSES=1 OPALD_CLUSTER=full OPALD_CLUSTER_RESULTS='$(abspath $(OUT))/test-kafka-cluster.txt' \
	    tests/run integration tests/integration/test_kafka_cluster.py; \
	    status=$$?; cat $(OUT)/test-kafka-cluster.txt; exit $$status
# ---- end of tests

# ---- drivers: programs of the end-to-end tests that run one folder alone
DRIVERS := $(OUT)/tests/kafka_driver $(OUT)/tests/bundle_driver $(OUT)/tests/json_driver
$(OUT)/tests/kafka_driver: $(call archives,broadcast)
$(OUT)/tests/bundle_driver: $(call archives,server/policy/bundle)
$(OUT)/tests/json_driver: $(call archives,shm/common)
$(DRIVERS): $(OUT)/tests/%: $(OUT)/obj/tests/integration/%.o
	@mkdir -p $(@D)
	$(link)
drivers: $(DRIVERS)
.PHONY: drivers
# ---- end of drivers

# ---- fuzzers: tests/fuzz/fuzz_NAME.c with the folder that it names here. They are a build of their own (SAN=fuzz, by clang, in
# build/fuzz); tests/run runs them.
fuzz_folder_json         := shm/common
fuzz_folder_proxy        := worker/net
fuzz_folder_websocket    := worker/websocket
fuzz_folder_rpc          := worker/rpc
fuzz_folder_http         := worker/api worker/policy
fuzz_folder_token        := worker/jose
fuzz_folder_bundle       := server/policy/bundle
fuzz_folder_notification := broadcast/backend
FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(OUT)/%,$(wildcard tests/fuzz/fuzz_*.c))
ifeq ($(SAN),fuzz)
fuzz-programs: $(FUZZ_PROGRAMS)
$(FUZZ_PROGRAMS): $(OUT)/fuzz_%: $(OUT)/obj/tests/fuzz/fuzz_%.o $$(call archives,$$(fuzz_folder_$$*))
	$(link) -fsanitize=fuzzer
else
fuzz-programs:
	@$(MAKE) --no-print-directory SAN=fuzz CC=clang OPTIMIZE=-O1 fuzz-programs
endif
.PHONY: fuzz-programs
# ---- end of fuzzers

clean:
	rm -rf $(BUILD)
