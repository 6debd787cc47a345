private import Foundation
internal import LinuxSupport
private import Glibc
internal import TraceModel

/// A table of nf_tables in one namespace that has the kernel trace packets through the rules (`meta nftrace set 1`), by sets whose elements
/// expire.
///
/// It belongs to the session of an `nft` that this process feeds (`flags owner`, kernel 5.12): nobody else can change it, and the kernel
/// takes it away when the session ends, be it that this process is killed. No rule of anybody else is touched, and no packet changed.
final class RuleTraceTable {
    /// Not that of a run of probes: its family is none of iptables'.
    static let name = "ipt-trace-rules"
    /// Before connection tracking and all of iptables' tables, and behind the reassembly of fragments (-400).
    private static let priority: Int32 = -310
    /// Packets a second that are traced, by each set and hook; the rest goes untraced.
    private static let rate = 100
    /// Packets a second that are traced for `Extent.oneIn`, by each chain.
    private static let sampleRate = 2_000
    /// Elements of a set; what does not fit is not traced.
    private static let size = 1024
    /// Seconds for which an element stays.
    static let timeout = 30

    /// The packets that are traced beside those of IP's hooks.
    struct Extent: Sendable, Equatable {
        /// Interfaces at whose ingress chains of others stand, which come before all of IP's.
        var devices: [String] = []
        /// Whether chains of others stand at hooks of bridges.
        var hasBridges = false
        /// The priority of the first chain of others.
        var first: Int32 = .max
        /// Whether a rule drops what connection tracking calls INVALID.
        var dropsInvalid = false
        /// One flow in so many is traced, beside the packets in the sets; `nil`: none.
        var oneIn: UInt32?
    }

    private let process: Process
    private let input: FileHandle
    /// By the family of each table of ours, its chains.
    private let chains: [(family: String, names: [String])]
    private let extent: Extent
    private var sets: Set<TracedSet> = []

    /// Starts the session in `namespace`.
    ///
    /// - Throws: `NamespaceError.toolMissing` without nft, or what the launch failed with.
    init(in namespace: NetworkNamespace, _ extent: Extent) async throws {
        for tool in ["nft", "nsenter"] where await !Tool.isInstalled(tool) { throw NamespaceError.toolMissing(tool) }
        let descriptor = try namespace.opened()
        defer { withExtendedLifetime(descriptor) {} }
        // A socket, since a write to a pipe that nobody reads any more would end this process.
        guard let ends = SocketCalls.pair() else {
            throw NamespaceError.exhausted(operation: "start nft", code: errno)
        }
        input = FileHandle(fileDescriptor: ends.0, closeOnDealloc: true)
        let output = FileHandle(fileDescriptor: ends.1, closeOnDealloc: true)
        process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nsenter", "--net=/proc/\(getpid())/fd/\(descriptor.number)", "--", "nft", "-i"]
        process.environment = [
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
        ]
        process.standardInput = output
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        let devices = extent.devices.filter(Self.isPlain)
        self.extent = extent
        chains =
            [("inet", ["prerouting", "output"])]
            + (devices.isEmpty ? [] : [("netdev", devices.indices.map { "ingress\($0)" })])
            + (extent.hasBridges ? [("bridge", ["prerouting", "output"])] : [])
        try process.run()
        try output.close()
        let priority = max(min(Self.priority, extent.first), .min + 10) - 10
        for (family, names) in chains {
            try send("add table \(family) \(Self.name) { flags owner; }")
            for (index, chain) in names.enumerated() {
                let hook = family == "netdev" ? "ingress device \"\(devices[index])\"" : chain
                let place = "\(family) \(Self.name) \(chain)"
                try send("add chain \(place) { type filter hook \(hook) priority \(priority); policy accept; }")
                if let oneIn = extent.oneIn {
                    // symhash gives both directions of a flow the same number.
                    try send(
                        "add rule \(place) symhash mod \(oneIn) 0 limit rate \(Self.sampleRate)/second meta nftrace set 1")
                }
            }
        }
    }

    /// Whether nft reads a name between quotes as it is.
    private static func isPlain(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
    }

    deinit { end() }

    /// Whether the session goes on.
    var isRunning: Bool { process.isRunning }

    /// Has packets like these traced for the next `timeout` seconds.
    func trace(_ traffic: [TracedTraffic]) throws {
        for one in traffic {
            let set = one.set
            let isNew = sets.insert(set).inserted
            for (family, names) in chains {
                if isNew {
                    try send(
                        "add set \(family) \(Self.name) \(set.name) { type \(set.type); flags timeout; size \(Self.size); }")
                    for chain in names {
                        try send(
                            "add rule \(family) \(Self.name) \(chain) \(set.key) @\(set.name) limit rate \(Self.rate)/second "
                                + "meta nftrace set 1")
                    }
                }
                // An element that is there keeps its time unless it is made anew; one that is not cannot be deleted.
                let element = "element \(family) \(Self.name) \(set.name) { \(one.element)"
                try send("add \(element) }; delete \(element) }; add \(element) timeout \(Self.timeout)s }")
            }
        }
    }

    /// Ends the session, with which the table goes.
    func end() {
        try? input.close()
        // It ends with its input, at once; one that does not must not hold up our own end.
        for signal in [0, SIGTERM, SIGKILL] {
            if signal != 0, process.isRunning { kill(process.processIdentifier, signal) }
            for _ in 0..<100 where process.isRunning { usleep(10_000) }
        }
    }

    private func send(_ command: String) throws(NamespaceError) {
        let line = Array("\(command)\n".utf8)
        guard SocketCalls.send(input.fileDescriptor, line) == line.count else {
            throw NamespaceError.exhausted(operation: "have rules traced: nft has ended or does not read", code: errno)
        }
    }

    /// Whether the kernel has taken the table, and has elements in all of its sets: an older kernel does not know the table's flag.
    func isThere(in namespace: NetworkNamespace) async throws -> Bool {
        for _ in 0..<20 {
            let output = try await Tool.run("nft", ["list", "table", "inet", Self.name], in: namespace)
            let filled = output.standardOutput.split(separator: "\n").count { $0.contains("elements = {") }
            let isSampling = extent.oneIn == nil || output.standardOutput.contains("symhash")
            if output.isSuccess, filled >= sets.count, isSampling { return true }
            guard process.isRunning else { return false }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }
}

extension RuleTraceTable.Extent {
    /// - Parameter others: base chains of nf_tables that are neither iptables' nor ours.
    init(_ others: [NamespaceFacts.OtherChain], oneIn: UInt32?) {
        devices = Set(others.filter { $0.hook == .ingress }.flatMap { $0.devices ?? [] }).sorted()
        hasBridges = others.contains { if case .bridge = $0.hook { true } else { false } }
        // Behind their hooks' first rules nothing of those would be heard.
        first = others.filter { $0.hook != .egress }.map(\.priority).min() ?? .max
        self.oneIn = oneIn
    }
}
