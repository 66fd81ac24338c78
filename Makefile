# make          builds build/opald
# make run      installs what is missing, builds, serves on 127.0.0.1:7002
# make demo     the server on a Kafka of its own, a subscriber and a publisher in one terminal
# make test     installs what the tests need, runs everything; last line "N passed, N failed"
# make test-backbones   100 clients, 10,000 events, every fault of every backbone at full length (12 minutes; part of `make test` at a small size)
# make lint     clang-format, clang-tidy, cppcheck
# make bench    measures; prints a table (BENCH_QUICK=1: two minutes of it); bench-readme puts it into the README
# make bench-peers   beside nats-server and nchan; make bench-scale: curves over workers, topics, clients
# make bench-check   instructions per delivery against tests/bench/instructions.expected; bench-check-update writes it
# Variables: CC=gcc|clang  SAN=address|thread (objects and program then live in build/address, build/thread)
#            BUILD=folder  OPTIMIZE=-O2

CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
SAN      ?=
BUILD    ?= build
OUT      := $(if $(SAN),$(BUILD)/$(SAN),$(BUILD))
OPTIMIZE ?= -O2
VERSION  := 0.1.0
# "installed" marks that the packages were looked for in this tree
PACKAGES_BUILD := gcc libc6-dev pkg-config librdkafka-dev libevent-dev uuid-dev libhttp-parser-dev libssl-dev libhiredis-dev libpq-dev libgit2-dev zlib1g-dev libpcre2-dev libarchive-dev libcurl4-openssl-dev git

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
HARDEN   := -fstack-protector-strong -fPIE
ifeq ($(SAN),)
HARDEN   += -D_FORTIFY_SOURCE=2
endif
# Debian keeps libpq's headers in a folder of their own.
CPPFLAGS += -I. -isystem $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql) -D_GNU_SOURCE -DOPALD_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 $(OPTIMIZE) -g -fno-omit-frame-pointer $(WARNINGS) $(HARDEN)
LDFLAGS  += -pie -Wl,-z,relro,-z,now
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN)
LDFLAGS  += -fsanitize=$(SAN)
endif
LIBS     := -lrdkafka -levent_core -levent_extra -levent_openssl -luuid -lhttp_parser -lhiredis -lpq -lgit2 -lz -lpcre2-8 -larchive -lcurl -lssl -lcrypto -lpthread -lm

ifeq ($(SAN),thread)
# librdkafka's threads, as ThreadSanitizer can know them
TSAN_THREADS := $(OUT)/obj/tests/stress/thread_sanitizer.o
LIBS     := $(TSAN_THREADS) $(LIBS)
$(OUT)/lib/common.a: | $(TSAN_THREADS)
endif

# One archive a folder: a unit test links only what its folder may know.
sources   = $(wildcard $(addsuffix /*.c,$(1)))
objects   = $(patsubst %.c,$(OUT)/obj/%.o,$(call sources,$(1)))
COMMON   := $(OUT)/lib/common.a
JOSE     := $(OUT)/lib/jose.a
SHM      := $(OUT)/lib/shm.a
BROADCAST := $(OUT)/lib/broadcast.a
WORKER   := $(OUT)/lib/worker.a
POLICY   := $(OUT)/lib/policy.a
SERVER   := $(OUT)/lib/server.a
MAIN     := $(OUT)/obj/server/main.o

.DEFAULT_GOAL := all
.PHONY: all run demo test test-backbones unit lint format clean deps install
all: $(OUT)/opald

$(OUT)/opald: $(MAIN) $(SERVER) $(POLICY) $(WORKER) $(BROADCAST) $(SHM) $(JOSE) $(COMMON)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(COMMON): $(call objects,shm/common)
$(JOSE): $(call objects,worker/jose)
$(SHM): $(call objects,shm shm/link)
$(BROADCAST): $(call objects,broadcast broadcast/kafka broadcast/net broadcast/postgres broadcast/redis broadcast/relay)
$(WORKER): $(call objects,worker worker/api worker/auth worker/client worker/fanout worker/http worker/net worker/policy worker/rpc worker/topics worker/websocket)
$(POLICY): $(call objects,server/policy server/policy/bundle server/policy/source)
$(SERVER): $(filter-out $(MAIN),$(call objects,server server/command server/master server/options server/router server/statistics))
$(COMMON) $(JOSE) $(SHM) $(BROADCAST) $(WORKER) $(POLICY) $(SERVER):
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(OUT)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# what it has inside
$(OUT)/obj/worker/api/http_docs.o: worker/api/openapi.json worker/api/docs.html

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)

# ---- unit tests: tests/unit/FOLDER/test_NAME.c, linked with FOLDER and what it may know
UNIT_TESTS := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(wildcard tests/unit/*/test_*.c))
unit-tests: $(UNIT_TESTS)
.PHONY: unit-tests
.SECONDEXPANSION:
libs_common    := $(COMMON)
libs_jose      := $(JOSE) $(COMMON)
libs_shm       := $(SHM) $(COMMON)
libs_broadcast := $(BROADCAST) $(SHM) $(COMMON)
libs_worker    := $(WORKER) $(POLICY) $(BROADCAST) $(SHM) $(JOSE) $(COMMON)
libs_policy    := $(POLICY) $(WORKER) $(SHM) $(JOSE) $(COMMON)
libs_server    := $(SERVER) $(POLICY) $(WORKER) $(BROADCAST) $(SHM) $(JOSE) $(COMMON)
$(OUT)/unit/%: $(OUT)/obj/tests/unit/%.o $$(libs_$$(firstword $$(subst /, ,$$*)))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

# ---- stress of shm/: threads, killed processes, mutations (a minute). build/stress/NAME; SAN=thread for the first two.
# ring_kill has its own build of shm/, in which every point between two stores is a call.
STRESS := $(addprefix $(OUT)/stress/,ring_threads uplink_threads sleep_litmus)
$(STRESS): $(OUT)/stress/%: $(OUT)/obj/tests/stress/%.o $(SHM) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS)
$(OUT)/stress/ring_kill: tests/stress/ring_kill.c $(wildcard tests/stress/kill_*.c tests/stress/*.h) $(wildcard shm/*.c shm/*.h) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -DSHM_POINTS $(CFLAGS) $(LDFLAGS) -Wl,--as-needed -o $@ $(filter %.c %.a,$^) $(LIBS)
.PHONY: stress stress-programs
stress-programs: $(STRESS) $(OUT)/stress/ring_kill
stress: stress-programs
	$(OUT)/stress/ring_kill 12
	CC="$(CC)" tests/stress/mutations.sh
# ---- end of stress

# ---- for people
# Installs the Debian packages that are missing (as root, or by sudo).
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
define install_missing
	@missing=$$(for package in $(1); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then echo "installing: "$$missing; \
	    $(SUDO) apt-get update -q && \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi
endef
deps:
	$(call install_missing,$(PACKAGES_BUILD))

run: deps
	@$(MAKE) --no-print-directory all
	$(OUT)/opald run --host 127.0.0.1 --port 7002

demo: deps
	$(call install_missing,kcat python3 python3-websockets)
	@$(MAKE) --no-print-directory all
	@deploy/demo/run $(OUT)/opald

install: all
	install -D -m 755 $(OUT)/opald $(DESTDIR)/usr/local/bin/opald
	install -D -m 644 deploy/opald.service $(DESTDIR)/etc/systemd/system/opald.service

LINT_SOURCES = $(shell git ls-files '*.c' '*.h')
format:
	clang-format -i $(LINT_SOURCES)
lint:
	$(call install_missing,clang-format clang-tidy cppcheck)
	clang-format --dry-run --Werror $(LINT_SOURCES)
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,performance,portability --std=c11 -I. -D_GNU_SOURCE \
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
$(OUT)/bench/bench_ring: $(OUT)/obj/tests/bench/bench_ring.o $(SHM) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
.PHONY: bench-programs
bench-programs: $(BENCH_LOAD) $(BENCH_RING) $(OUT)/bench/bundle_load
# bench-readme: the same, and its tables go into the README. bench-peers: beside nats-server and nchan only. bench-scale: the curves only.
BENCH_GOALS := bench bench-readme bench-peers bench-scale
.PHONY: $(BENCH_GOALS)
$(BENCH_GOALS): deps
	$(call install_missing,python3 valgrind nats-server nginx-light libnginx-mod-nchan)
	@PACKAGES_BUILD="$(PACKAGES_BUILD)" tests/setup || echo "bench: no reference, no Kafka: measured without them"
	@$(MAKE) --no-print-directory all bench-programs
	@tests/bench/check $(OUT)/bench/load
	@tests/bench/run --opald $(OUT)/opald --programs $(OUT)/bench $(bench_$@)
	$(if $(bench_policy_$@),@tests/bench/policy --opald $(OUT)/opald --programs $(OUT)/bench $(bench_policy_$@))
bench_bench        = --out $(OUT)/bench
bench_bench-readme = --out $(OUT)/bench --readme --scale-rounds 3
bench_bench-peers  = --out $(OUT)/bench/peers --only peers
bench_bench-scale  = --out $(OUT)/bench/scale --only scale --scale-rounds 3
bench_policy_bench        = --out $(OUT)/bench
bench_policy_bench-readme = --out $(OUT)/bench --write-readme

# ---- the guard: instructions a delivery and an event, against tests/bench/instructions.expected. Callgrind counts them, so load and
# machine don't matter; the compiler and its options do.
.PHONY: bench-check bench-check-update
bench-check bench-check-update: deps
	$(if $(filter-out -O2,$(OPTIMIZE))$(SAN),$(error bench-check needs OPTIMIZE=-O2 and no SAN))
	$(call install_missing,python3 valgrind)
	@$(MAKE) --no-print-directory all $(OUT)/bench/load
	@tests/bench/instructions --check $(if $(filter %-update,$@),--update) --opald $(OUT)/opald --programs $(OUT)/bench --cc "$(CC)"

# ---- tests: tests/run sums everything up; the last line is "N passed, N failed"
test:
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' PACKAGES_BUILD='$(PACKAGES_BUILD)' tests/run
unit:
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' PACKAGES_BUILD='$(PACKAGES_BUILD)' tests/run unit
test-backbones:
	@rm -f $(OUT)/test-backbones.txt
	@CC='$(CC)' SAN='$(SAN)' BUILD='$(BUILD)' OUT='$(OUT)' MAKE='$(MAKE)' PACKAGES_BUILD='$(PACKAGES_BUILD)' \
	    OPALD_TEST_PROCESSES=1 OPALD_FLEET=full OPALD_FLEET_RESULTS='$(abspath $(OUT))/test-backbones.txt' tests/run integration tests/integration/test_backbone_faults.py; \
	    status=$$?; cat $(OUT)/test-backbones.txt; exit $$status
# ---- end of tests

# ---- the backbone's driver for tests/integration/test_kafka_backend.py
$(OUT)/tests/kafka_driver: $(OUT)/obj/tests/integration/kafka_driver.o $(BROADCAST) $(SHM) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
# ---- end of the backbone's driver

# ---- the bundle builder's driver for tests/integration/test_bundle_differential.py
$(OUT)/tests/bundle_driver: $(OUT)/obj/tests/integration/bundle_driver.o $(POLICY) $(COMMON)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
# ---- end of the bundle builder's driver

# ---- fuzzers: tests/fuzz/fuzz_NAME.c with the sources it names here; clang, with sanitizers of their own (tests/run runs them)
fuzz_sources_json := $(wildcard server/common/*.c)
fuzz_sources_proxy := worker/net/proxy_header.c $(wildcard server/common/*.c)
fuzz_sources_websocket := worker/websocket/websocket_frame.c worker/websocket/websocket_utf8.c $(wildcard server/common/*.c)
fuzz_sources_rpc := worker/rpc/rpc_message.c worker/rpc/rpc_number.c worker/rpc/rpc_topics.c worker/rpc/rpc_stock_reply.c $(wildcard server/common/*.c)
fuzz_sources_http := $(filter-out worker/api/http_metrics.c,$(wildcard worker/http_*.c worker/http/forwarded.c worker/data_*.c worker/model*.c worker/topic_*.c)) shm/common/python_text.c \
    worker/api/callback_report.c worker/policy/webhook_params.c worker/policy/webhook_payload.c worker/policy/webhook_post.c worker/rpc/rpc_number.c worker/net/output_queue.c worker/net/tls.c worker/net/tls_context.c worker/policy/bundle_get.c worker/policy/bundle_cache.c worker/policy/policy_client.c \
    shm/link/policy_socket.c $(wildcard worker/auth*.c worker/token_*.c server/jose/*.c server/common/*.c)
fuzz_sources_token := $(wildcard server/jose/*.c server/common/*.c)
fuzz_sources_bundle := $(addprefix server/policy/,bundle_diff.c bundle_key.c bundle_path.c bundle_text.c ignore_glob.c child_environment.c) $(wildcard server/common/*.c)
fuzz_sources_notification := broadcast/notification.c $(wildcard server/common/*.c)
FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
$(FUZZ_PROGRAMS): $(BUILD)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $$(fuzz_sources_$$*)
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    -Wl,--as-needed -o $@ $^ $(LIBS)
fuzz-programs: $(FUZZ_PROGRAMS)
.PHONY: fuzz-programs
# ---- end of fuzzers

clean:
	rm -rf $(BUILD)
