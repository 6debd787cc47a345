# make demo   sets up a small network in namespaces of its own, traces a ping through it, takes it away
# make test   all tests
# make bench  the event path's cost, in nanoseconds and allocations per event
# make bench-live  the same with a million journeys under way, how much memory each takes, and with copies of one packet
# make bench-instructions  the same in instructions per event, which are comparable on a noisy machine
# make accuracy  how often journeys are right: packets with serial numbers that the program cannot see, through two routers
# make bench-load  receivers against the kernel, in turn: none, a bare loop, collect, polled, recording (PACKETS=300000)
# make bench-overload  collect with a tenth of a core
# make bench-probes, bench-install, bench-readers  what probes cost, how long installing takes, how soon HTTP answers
# make bench-captures  analyze on generated files, beside tcpdump and tshark, and on a recording, with one core and two
# make fixtures  records the gallery's traffic anew, for the tests that need no kernel
# make soak   probes put in and taken out by killed commands, and extreme hashes, for some twenty minutes (SOAK_SECONDS=1200, TRIES=50)
# make fuzz   every parser on damaged input, for as long as FUZZ_ITERATIONS says
# Each installs what is missing and builds first. VARIANT=forward-drop makes the demo's host drop what it should forward.

CONFIGURATION ?= release
SWIFT_BUILD = swift build -c $(CONFIGURATION)
BINARY = .build/$(CONFIGURATION)/ipt-trace
VARIANT ?=

# Tests that wait for answers: they run apart from those that keep the processor busy.
TIMED_TESTS = HTTPEndpointTests|ServedAnalysisTests

.PHONY: all build demo test bench bench-live bench-instructions bench-load bench-overload bench-probes bench-install
.PHONY: bench-readers bench-captures accuracy soak fuzz fixtures lint format install clean

all: build

build:
	@sh tools/prepare build
	$(SWIFT_BUILD) --product ipt-trace

demo:
	@sh tools/prepare demo
	@$(SWIFT_BUILD) --product ipt-trace
	@$(BINARY) lab run ping $(if $(VARIANT),--variant $(VARIANT))

test:
	@sh tools/prepare test
	swift format lint --strict --recursive Package.swift Sources Tests Benchmarks
	$(SWIFT_BUILD) --build-tests
	swift test -c $(CONFIGURATION) --skip-build --skip '$(TIMED_TESTS)'
	swift test -c $(CONFIGURATION) --skip-build --filter '$(TIMED_TESTS)'

bench:
	@sh tools/prepare build
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@.build/$(CONFIGURATION)/EventPathBenchmark

bench-live:
	@sh tools/prepare build
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@.build/$(CONFIGURATION)/EventPathBenchmark memory
	@.build/$(CONFIGURATION)/EventPathBenchmark live
	@.build/$(CONFIGURATION)/EventPathBenchmark copies

bench-instructions:
	@sh tools/prepare instructions
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@sh tools/count-instructions .build/$(CONFIGURATION)/EventPathBenchmark

LOAD_BENCHMARK = .build/$(CONFIGURATION)/LoadBenchmark

.PHONY: load-programs
load-programs:
	@sh tools/prepare test
	@$(SWIFT_BUILD) --product ipt-trace
	@for product in flood drain reader LoadBenchmark; do $(SWIFT_BUILD) --product $$product || exit 1; done

bench-load: load-programs
	@$(LOAD_BENCHMARK) load $(PACKETS)

bench-overload: load-programs
	@$(LOAD_BENCHMARK) overload $(PACKETS)

bench-probes: load-programs
	@$(LOAD_BENCHMARK) probes $(PACKETS)

bench-install: load-programs
	@$(LOAD_BENCHMARK) install

bench-readers: load-programs
	@$(LOAD_BENCHMARK) readers $(PACKETS)

bench-captures:
	@sh tools/prepare test
	@$(SWIFT_BUILD) --product ipt-trace
	@$(SWIFT_BUILD) --product CaptureBenchmark
	@.build/$(CONFIGURATION)/CaptureBenchmark
	@for product in flood LoadBenchmark; do $(SWIFT_BUILD) --product $$product || exit 1; done
	@file=$$(mktemp -u).pcapng; trap 'rm -f "$$file"' EXIT; \
	$(LOAD_BENCHMARK) record 300000 "$$file" && .build/$(CONFIGURATION)/CaptureBenchmark --recording "$$file" 3300000

accuracy:
	@sh tools/prepare demo
	@$(SWIFT_BUILD) --product ipt-trace
	@$(SWIFT_BUILD) --product serials
	@$(SWIFT_BUILD) --product AccuracyBenchmark
	@.build/$(CONFIGURATION)/AccuracyBenchmark

fuzz:
	@sh tools/prepare build
	$(SWIFT_BUILD) --build-tests
	FUZZ_ITERATIONS=$${FUZZ_ITERATIONS:-1000000} swift test -c $(CONFIGURATION) --skip-build --filter FuzzTests

soak:
	@sh tools/prepare test
	$(SWIFT_BUILD) --build-tests
	TRIES=$${TRIES:-50} swift test -c $(CONFIGURATION) --skip-build --filter 'ProbeSafetyTests'
	SOAK_SECONDS=$${SOAK_SECONDS:-1200} swift test -c $(CONFIGURATION) --skip-build --filter 'HashExtremesTests'

fixtures:
	@sh tools/prepare fixtures
	@$(SWIFT_BUILD) --product ipt-trace
	@tools/record-gallery $(BINARY) Tests/Fixtures/gallery

lint:
	swift format lint --strict --recursive Package.swift Sources Tests Benchmarks

format:
	swift format --in-place --recursive Package.swift Sources Tests Benchmarks

install: build
	install -D -m 755 $(BINARY) $(DESTDIR)/usr/local/bin/ipt-trace

clean:
	swift package clean
