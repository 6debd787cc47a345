# make demo   sets up a small network in namespaces of its own, traces a ping through it, takes it away
# make test   all tests
# make bench  the event path's cost, in nanoseconds and instructions per event
# Each installs what is missing and builds first. VARIANT=forward-drop makes the demo's host drop what it should forward.

CONFIGURATION ?= release
SWIFT_BUILD = swift build -c $(CONFIGURATION)
BINARY = .build/$(CONFIGURATION)/ipt-trace
VARIANT ?=

.PHONY: all build demo test bench lint format install clean

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
	swift test -c $(CONFIGURATION) --skip-build

bench:
	@sh tools/prepare build
	@$(SWIFT_BUILD) --product EventPathBenchmark
	@.build/$(CONFIGURATION)/EventPathBenchmark

lint:
	swift format lint --strict --recursive Package.swift Sources Tests Benchmarks

format:
	swift format --in-place --recursive Package.swift Sources Tests Benchmarks

install: build
	install -D -m 755 $(BINARY) $(DESTDIR)/usr/local/bin/ipt-trace

clean:
	swift package clean
