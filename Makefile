# `make help` prints the targets. Those that need Debian packages install the missing ones (tools/prepare), and build first.

CONFIGURATION ?= release
SWIFT_BUILD = swift build -c $(CONFIGURATION)
BINARY = .build/$(CONFIGURATION)/ipt-trace
VARIANT ?=
FILTER ?=

# Tests that wait for answers: they run apart from those that keep the processor busy.
TIMED_TESTS = HTTPServerTests|ServedAnalysisTests|DropReasonLiveTests|LiveViewTests
# Tests that keep the machine busy with what reasons of drops and answers in time would be lost in: by themselves.
LOUD_TESTS = AbuseTests
# Tests that fill the machine with networks for a minute, or look at what has to be read within a second: apart from the others.
LONG_TESTS = WhyGalleryTests|AttributionTests|RuleTraceTroubleTests|RuleTraceLiveTests|DropReasonAccuracyTests

.PHONY: help all build demo test bench bench-live bench-instructions bench-load bench-overload bench-probes bench-traces bench-reasons
.PHONY: bench-install bench-readers bench-captures accuracy dashboards soak fuzz fixtures golden lint format install clean

all: build

help: ## Print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-20s %s\n", $$1, $$2 }'

build: ## Build the program (CONFIGURATION=debug for a debug build)
	@sh tools/prepare build
	$(SWIFT_BUILD) --product ipt-trace

demo: ## Trace a ping through a small network in namespaces of its own (VARIANT=forward-drop: the host drops it)
	@sh tools/prepare demo
	@$(SWIFT_BUILD) --product ipt-trace
	@$(BINARY) lab run ping $(if $(VARIANT),--variant $(VARIANT))

test: ## Check the format, build, run all tests; FILTER=Name runs the tests whose identifiers match, without the format check
	@sh tools/prepare test
ifeq ($(FILTER),)
	@$(MAKE) --no-print-directory lint
	$(SWIFT_BUILD) --build-tests
	swift test -c $(CONFIGURATION) --skip-build --skip '$(TIMED_TESTS)|$(LONG_TESTS)|$(LOUD_TESTS)'
	swift test -c $(CONFIGURATION) --skip-build --filter '$(TIMED_TESTS)'
	swift test -c $(CONFIGURATION) --skip-build --filter '$(LONG_TESTS)'
	swift test -c $(CONFIGURATION) --skip-build --filter '$(LOUD_TESTS)'
else
	$(SWIFT_BUILD) --build-tests
	swift test -c $(CONFIGURATION) --skip-build --filter '$(FILTER)'
endif

bench: ## Measure the event path: nanoseconds and allocations per event
	@sh tools/prepare build
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@.build/$(CONFIGURATION)/EventPathBenchmark

bench-live: ## Measure the event path with a million live journeys, memory per journey, and copies of one packet
	@sh tools/prepare build
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@.build/$(CONFIGURATION)/EventPathBenchmark memory
	@.build/$(CONFIGURATION)/EventPathBenchmark live
	@.build/$(CONFIGURATION)/EventPathBenchmark copies

# 2 % above the count that the budget was set by (docs/performance.md).
INSTRUCTION_BUDGET ?= 1770

bench-instructions: ## Count the event path's instructions per event (callgrind) and compare them with the budget
	@sh tools/prepare instructions
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@sh tools/count-instructions .build/$(CONFIGURATION)/EventPathBenchmark $(INSTRUCTION_BUDGET)

LOAD_BENCHMARK = .build/$(CONFIGURATION)/LoadBenchmark

.PHONY: load-programs
load-programs:
	@sh tools/prepare test
	@$(SWIFT_BUILD) --product ipt-trace
	@for product in flood bare-receiver reader LoadBenchmark; do $(SWIFT_BUILD) --product $$product || exit 1; done

bench-load: load-programs ## Compare receivers under one flood: none, a bare loop, collect, polled, recording (PACKETS=300000)
	@$(LOAD_BENCHMARK) load $(PACKETS)

bench-overload: load-programs ## Flood a collector that has a tenth of a core
	@$(LOAD_BENCHMARK) overload $(PACKETS)

bench-probes: load-programs ## Measure what probes cost a forwarded packet
	@$(LOAD_BENCHMARK) probes $(PACKETS)

bench-traces: load-programs ## Measure what rule traces cost packets that are not traced
	@$(LOAD_BENCHMARK) traces $(PACKETS)

bench-reasons: load-programs ## Measure what asking the kernel for drop reasons costs
	@$(LOAD_BENCHMARK) reasons $(PACKETS)

bench-install: load-programs ## Measure installing, replacing and removing probes
	@$(LOAD_BENCHMARK) install

bench-readers: load-programs ## Measure HTTP latency, idle and under a flood
	@$(LOAD_BENCHMARK) readers $(PACKETS)

bench-captures: ## Measure analyze on generated files beside tcpdump and tshark, and on a recording, on one core and two
	@sh tools/prepare test
	@$(SWIFT_BUILD) --product ipt-trace
	@$(SWIFT_BUILD) --product CaptureBenchmark
	@.build/$(CONFIGURATION)/CaptureBenchmark
	@for product in flood LoadBenchmark; do $(SWIFT_BUILD) --product $$product || exit 1; done
	@file=$$(mktemp -u).pcapng; trap 'rm -f "$$file"' EXIT; \
	$(LOAD_BENCHMARK) record 300000 "$$file" && .build/$(CONFIGURATION)/CaptureBenchmark --recording "$$file" 3300000

accuracy: ## Compare journeys with ground truth: packets with serial numbers beyond the copied range
	@sh tools/prepare demo
	@$(SWIFT_BUILD) --product ipt-trace
	@$(SWIFT_BUILD) --product tagged-traffic
	@$(SWIFT_BUILD) --product AccuracyBenchmark
	@.build/$(CONFIGURATION)/AccuracyBenchmark

dashboards: ## Start Prometheus (127.0.0.1:9090) beside a collector, with our rules and alerts; Ctrl-C ends it
	@command -v prometheus >/dev/null || { echo "There is no prometheus; Debian's package has that name (it starts a service, too)." >&2; exit 1; }
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && echo "http://127.0.0.1:9090 (collector: 127.0.0.1:9100)" && \
		prometheus --config.file=dashboards/prometheus.yml --storage.tsdb.path="$$data" --web.listen-address=127.0.0.1:9090 --log.level=warn

fuzz: ## Run every parser on damaged input (FUZZ_ITERATIONS=1000000)
	@sh tools/prepare build
	$(SWIFT_BUILD) --build-tests
	FUZZ_ITERATIONS=$${FUZZ_ITERATIONS:-1000000} swift test -c $(CONFIGURATION) --skip-build --filter FuzzTests

soak: ## Kill commands that install and remove probes, and test extreme hashes (SOAK_SECONDS=1200, TRIES=50)
	@sh tools/prepare test
	$(SWIFT_BUILD) --build-tests
	TRIES=$${TRIES:-50} swift test -c $(CONFIGURATION) --skip-build --filter 'ProbeSafetyTests'
	SOAK_SECONDS=$${SOAK_SECONDS:-1200} swift test -c $(CONFIGURATION) --skip-build --filter 'HashExtremesTests'

fixtures: ## Record the gallery's traffic again, for the tests that need no kernel
	@sh tools/prepare fixtures
	@$(SWIFT_BUILD) --product ipt-trace
	@tools/record-gallery $(BINARY) Tests/Fixtures/gallery

golden: ## Write the golden reports of recordings anew (Tests/Fixtures/golden); look at the difference before committing it
	@sh tools/prepare build
	$(SWIFT_BUILD) --build-tests
	rm -f Tests/Fixtures/golden/*
	GOLDEN=write swift test -c $(CONFIGURATION) --skip-build --filter GoldenTests/reports
	swift test -c $(CONFIGURATION) --skip-build --filter GoldenTests
	@git --no-pager diff --stat -- Tests/Fixtures/golden

lint: ## Check the format of the sources and the names and links of the documents
	swift format lint --strict --recursive Package.swift Sources Tests Benchmarks
	tools/check-doc-names

format: ## Format the sources
	swift format --in-place --recursive Package.swift Sources Tests Benchmarks

install: build ## Install into $(DESTDIR)/usr/local/bin
	install -D -m 755 $(BINARY) $(DESTDIR)/usr/local/bin/ipt-trace

clean: ## Remove what was built
	swift package clean
