private import Foundation
internal import LinuxSupport
private import Glibc

/// A table of nf_tables in one namespace that has the kernel trace packets through the rules (`meta nftrace set 1`), by sets whose elements
/// expire.
///
/// It belongs to the session of an `nft` that this process feeds (`flags owner`, kernel 5.12): nobody else can change it, and the kernel
/// takes it away when the session ends, be it that this process is killed. No rule of anybody else is touched, and no packet changed.
final class RuleTraceTable {
    /// Not that of a run of probes: its family is none of iptables'.
    static let name = "ipt-trace-rules"
    /// Before connection tracking and all of iptables' tables.
    private static let priority = -310
    /// Packets a second that are traced, by each set and hook; the rest goes untraced.
    private static let rate = 100
    /// Elements of a set; what does not fit is not traced.
    private static let size = 1024
    /// Seconds for which an element stays.
    static let timeout = 30

    private let process: Process
    private let input: FileHandle
    private var sets: Set<TracedSet> = []

    /// Starts the session in `namespace`.
    ///
    /// - Throws: `NamespaceError.toolMissing` without nft, or what the launch failed with.
    init(in namespace: NetworkNamespace) async throws {
        for tool in ["nft", "nsenter"] where await !Tool.isInstalled(tool) { throw NamespaceError.toolMissing(tool) }
        let descriptor = try namespace.opened()
        defer { withExtendedLifetime(descriptor) {} }
        // A socket, since a write to a pipe that nobody reads any more would end this process.
        var ends: [Int32] = [-1, -1]
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw NamespaceError.exhausted(operation: "start nft", code: errno)
        }
        input = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
        let output = FileHandle(fileDescriptor: ends[1], closeOnDealloc: true)
        process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nsenter", "--net=/proc/\(getpid())/fd/\(descriptor.number)", "--", "nft", "-i"]
        process.environment = [
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
        ]
        process.standardInput = output
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        try output.close()
        try send("add table inet \(Self.name) { flags owner; }")
        for hook in ["prerouting", "output"] {
            try send(
                "add chain inet \(Self.name) \(hook) { type filter hook \(hook) priority \(Self.priority); policy accept; }")
        }
    }

    deinit { end() }

    /// Whether the session goes on.
    var isRunning: Bool { process.isRunning }

    /// Has packets like these traced for the next `timeout` seconds.
    func trace(_ traffic: [TracedTraffic]) throws {
        for one in traffic {
            let set = one.set
            if sets.insert(set).inserted {
                try send(
                    "add set inet \(Self.name) \(set.name) { type \(set.type); flags timeout; size \(Self.size); }")
                for hook in ["prerouting", "output"] {
                    try send(
                        "add rule inet \(Self.name) \(hook) \(set.key) @\(set.name) limit rate \(Self.rate)/second "
                            + "meta nftrace set 1")
                }
            }
            // An element that is there keeps its time unless it is made anew; one that is not cannot be deleted.
            let element = "element inet \(Self.name) \(set.name) { \(one.element)"
            try send("add \(element) }; delete \(element) }; add \(element) timeout \(Self.timeout)s }")
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
        guard unsafe Glibc.send(input.fileDescriptor, line, line.count, Int32(MSG_NOSIGNAL)) == line.count else {
            throw NamespaceError.exhausted(operation: "have rules traced: nft has ended or does not read", code: errno)
        }
    }

    /// Whether the kernel has taken the table, and has elements in all of its sets: an older kernel does not know the table's flag.
    func isThere(in namespace: NetworkNamespace) async throws -> Bool {
        for _ in 0..<20 {
            let output = try await Tool.run("nft", ["list", "table", "inet", Self.name], in: namespace)
            let filled = output.standardOutput.split(separator: "\n").count { $0.contains("elements = {") }
            if output.isSuccess, filled >= sets.count { return true }
            guard process.isRunning else { return false }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }
}
