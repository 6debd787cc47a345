// swift-tools-version: 6.2

import PackageDescription

let strict: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

/// One module of the program; `docs/architecture.md` says what each holds and who may import whom.
func module(
    _ name: String, _ dependencies: [Target.Dependency] = [], also settings: [SwiftSetting] = [], resources: [Resource]? = nil
) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict + settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let subprocess: Target.Dependency = .product(name: "Subprocess", package: "swift-subprocess")
let systemPackage: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")

/// The product, from the bottom up.
let product: [Target] = [
    .systemLibrary(name: "CMnl", providers: [.apt(["libmnl-dev"])]),
    .systemLibrary(name: "CNetfilterLog", providers: [.apt(["libnetfilter-log-dev"])]),
    .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CZstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CPcap", providers: [.apt(["libpcap-dev"])]),
    .target(name: "CLinux"),

    module("TraceModel", ["CLinux"]),
    module("WireFormat", ["TraceModel"], also: [.enableExperimentalFeature("Lifetimes")]),
    module("LinuxSupport", ["TraceModel", "WireFormat", "CMnl", "CLinux", subprocess, systemPackage, logging]),
    module("Captures", ["TraceModel", "WireFormat", "LinuxSupport", "CLinux", "CPcap", "CZlib", "CZstd", deque]),
    module("Ruleset", ["TraceModel", "WireFormat", "LinuxSupport"]),
    module("Correlation", ["TraceModel", "CLinux", deque]),
    module("Aggregation", ["TraceModel"]),
    module("Engine", ["TraceModel", "WireFormat", "LinuxSupport", "Correlation", "Aggregation", "Ruleset"]),
    module("HostLayout", ["TraceModel", "WireFormat", "LinuxSupport", "Ruleset", "Engine", "CLinux"]),
    module(
        "EventSources",
        [
            "TraceModel", "WireFormat", "LinuxSupport", "Captures", "Ruleset", "Correlation", "Aggregation", "Engine",
            "HostLayout", "CNetfilterLog", "CLinux", logging,
        ]),
    module("Diagnosis", ["TraceModel", "Aggregation"]),
    module("CureTrials", ["TraceModel", "LinuxSupport", "Ruleset", "Diagnosis"]),
    module("Reports", ["TraceModel", "Aggregation", "Diagnosis"]),
    module("HTTPServer", ["LinuxSupport", "CZlib", "CZstd", httpTypes, logging]),
    module("WebPage", [], resources: [.embedInCode("Page")]),
    module("API", ["LinuxSupport", "Aggregation", "Reports", "HTTPServer", "WebPage", httpTypes]),
    module(
        "Lab", ["LinuxSupport", "Aggregation", "Reports", "TraceModel", "CLinux"], resources: [.embedInCode("Rules")]),
    .executableTarget(
        name: "ipt-trace",
        dependencies: [
            "TraceModel", "LinuxSupport", "Captures", "Ruleset", "Aggregation", "Engine", "EventSources", "CureTrials",
            "Diagnosis", "Reports", "HTTPServer", "WebPage", "API", "Lab", argumentParser, logging,
        ],
        swiftSettings: strict
    ),
]

/// Load senders, the judge of `make accuracy`, and measurements: built by `make bench…`, no part of the product.
let benchmarks: [Target] = [
    .executableTarget(name: "flood", path: "Benchmarks/Flood"),
    .executableTarget(name: "tagged-traffic", path: "Benchmarks/TaggedTraffic"),
    .target(name: "Allocations", path: "Benchmarks/Allocations"),
    .executableTarget(name: "bare-receiver", path: "Benchmarks/BareReceiver"),
    .executableTarget(name: "reader", path: "Benchmarks/Reader"),
    .executableTarget(
        name: "LoadBenchmark", dependencies: ["Lab", "LinuxSupport", "Aggregation", "Reports"], path: "Benchmarks/Load",
        swiftSettings: strict
    ),
    .target(
        name: "Judge", dependencies: ["TraceModel", "WireFormat", "Captures", "EventSources"], path: "Benchmarks/Judge",
        swiftSettings: strict
    ),
    .executableTarget(
        name: "AccuracyBenchmark",
        dependencies: ["Judge", "Lab", "LinuxSupport", "Captures"],
        path: "Benchmarks/Accuracy",
        swiftSettings: strict
    ),
    .target(
        name: "EventPath",
        dependencies: ["TraceModel", "WireFormat", "Correlation", "Aggregation", "Reports", "Engine", "Allocations"],
        path: "Benchmarks/EventPath",
        swiftSettings: strict
    ),
    .executableTarget(
        name: "EventPathBenchmark",
        dependencies: ["TraceModel", "WireFormat", "Correlation", "Aggregation", "Reports", "EventPath"],
        path: "Benchmarks/EventPathBenchmark",
        swiftSettings: strict
    ),
    .executableTarget(
        name: "CaptureBenchmark",
        dependencies: ["TraceModel", "WireFormat", "Captures"],
        path: "Benchmarks/Captures",
        swiftSettings: strict
    ),
]

let testTargets: [Target] = [
    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: strict),
    tests("ArchitectureTests", []),
    tests("LinuxSupportTests", ["LinuxSupport", "TraceModel", "WireFormat"]),
    tests("WireFormatTests", ["WireFormat", "TraceModel", "TestSupport"]),
    tests("CorrelationTests", ["Correlation", "TraceModel"]),
    tests("ReportsTests", ["Aggregation", "Diagnosis", "Reports", "TraceModel"]),
    tests("RulesetTests", ["LinuxSupport", "Ruleset", "TraceModel", "WireFormat", "TestSupport"]),
    .testTarget(
        name: "FuzzTests",
        dependencies: [
            "EventSources", "Captures", "HTTPServer", "LinuxSupport", "Ruleset", "TraceModel", "WireFormat", "TestSupport",
        ],
        exclude: ["Corpus"], swiftSettings: strict),
    tests("CapturesTests", ["Captures", "LinuxSupport", "WireFormat", "TraceModel"]),
    tests(
        "EventSourcesTests",
        [
            "EventSources", "Captures", "HTTPServer", "Lab", "Aggregation", "Reports", "TraceModel", "API", "WireFormat",
            "TestSupport", httpTypes,
        ]),
    tests("AccuracyTests", ["Judge"]),
    tests("EventPathTests", ["EventPath", "Allocations", "Correlation", "Aggregation", "Reports"]),
    tests(
        "EngineTests",
        [
            "Engine", "LinuxSupport", "Correlation", "Aggregation", "Reports", "Ruleset", "TraceModel", "WireFormat",
            "TestSupport",
        ]),
    tests("HTTPServerTests", ["HTTPServer", httpTypes, logging]),
    tests("LabTests", ["Lab"]),
    tests(
        "LiveTests",
        [
            "Lab", "LinuxSupport", "Aggregation", "Diagnosis", "EventSources", "Reports", "TraceModel", "TestSupport",
            "ipt-trace", "flood",
        ]),
]

let package = Package(
    name: "ipt-trace",
    products: [
        .executable(name: "ipt-trace", targets: ["ipt-trace"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.3.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.5.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0"),
    ],
    targets: product + benchmarks + testTargets
)
