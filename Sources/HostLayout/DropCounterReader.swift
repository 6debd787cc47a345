private import Foundation
package import LinuxSupport
package import TraceModel

/// Reads a namespace's counters of packets that it dropped.
package enum DropCounterReader {
    /// - Throws: `NamespaceError` where the namespace cannot be entered, or an error of Foundation's where the counters cannot be read.
    package static func read(_ namespace: NetworkNamespace) throws -> DropCounters {
        // /proc/thread-self/net shows the counters of the thread's namespace.
        try namespace.enter {
            var counters = DropCounters()
            counters.take(tables: try text("snmp"))
            counters.take(tables: try text("netstat"))
            // Without connection tracking, or its file of statistics (CONFIG_NF_CONNTRACK_PROCFS), there is none.
            if FileManager.default.fileExists(atPath: path("stat/nf_conntrack")) {
                counters.take(tracking: try text("stat/nf_conntrack"))
            }
            // Without IPv6 there is no such file.
            if FileManager.default.fileExists(atPath: path("snmp6")) { counters.take(list: try text("snmp6")) }
            return counters
        }
    }

    private static func path(_ file: String) -> String { "/proc/thread-self/net/\(file)" }

    private static func text(_ file: String) throws -> String { try String(contentsOfFile: path(file), encoding: .utf8) }
}
