private import Foundation
private import Glibc
package import LinuxSupport
package import TraceModel

/// Reads the settings of a namespace that decide about packets (Documentation/networking/ip-sysctl.rst).
package enum SysctlReader {
    /// - Parameter interfaces: their names.
    /// - Throws: `NamespaceError` where a setting is there and cannot be read.
    package static func read(_ namespace: NetworkNamespace, interfaces: [String], into facts: inout NamespaceFacts) throws {
        var found = facts
        // /proc/sys/net shows the settings of the thread's namespace.
        try namespace.enter {
            found.forwardsIPv4 = try number("/proc/sys/net/ipv4/ip_forward").map { $0 != 0 }
            found.forwardsIPv6 = try number("/proc/sys/net/ipv6/conf/all/forwarding").map { $0 != 0 }
            // Without br_netfilter there is no such setting, and bridges keep their packets to themselves.
            found.filtersBridgedIPv4 = try number("/proc/sys/net/bridge/bridge-nf-call-iptables") ?? 0 != 0
            found.filtersBridgedIPv6 = try number("/proc/sys/net/bridge/bridge-nf-call-ip6tables") ?? 0 != 0
            // Whether it is full, and no count, which would be another at each reading.
            if let count = try number("/proc/sys/net/netfilter/nf_conntrack_count"),
                let limit = try number("/proc/sys/net/netfilter/nf_conntrack_max"), limit > 0
            {
                found.fullConnectionTable = count >= limit ? limit : nil
            }
            let all = try number("/proc/sys/net/ipv4/conf/all/rp_filter") ?? 0
            for name in interfaces where !name.contains("/") {
                let own = try number("/proc/sys/net/ipv4/conf/\(name)/rp_filter") ?? 0
                if max(all, own) == 1 { found.strictInterfaces.insert(name) }
            }
        }
        facts = found
    }

    /// `nil` where the kernel has no such setting, or the interface is gone.
    private static func number(_ path: String) throws -> Int? {
        let descriptor = FileCalls.open(path, O_RDONLY)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENODEV { return nil }
            throw NamespaceError.cannotOpen(path: path, code: errno)
        }
        defer { close(descriptor) }
        var text = [UInt8](repeating: 0, count: 32)
        let count = FileCalls.read(descriptor, into: &text)
        guard count >= 0 else {
            if errno == ENODEV { return nil }
            throw NamespaceError.cannotOpen(path: path, code: errno)
        }
        return Int(String(decoding: text.prefix(count), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
