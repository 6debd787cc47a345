private import Foundation
internal import Namespaces
internal import TraceModel

/// Reads the settings of a namespace that decide about packets (Documentation/networking/ip-sysctl.rst).
enum Settings {
    /// - Parameter interfaces: their names.
    static func read(_ namespace: NetworkNamespace, interfaces: [String], into facts: inout NamespaceFacts) {
        var found = facts
        // /proc/sys/net shows the settings of the thread's namespace.
        try? namespace.enter {
            found.forwardsIPv4 = number("/proc/sys/net/ipv4/ip_forward").map { $0 != 0 }
            found.forwardsIPv6 = number("/proc/sys/net/ipv6/conf/all/forwarding").map { $0 != 0 }
            let all = number("/proc/sys/net/ipv4/conf/all/rp_filter") ?? 0
            for name in interfaces where !name.contains("/") {
                let own = number("/proc/sys/net/ipv4/conf/\(name)/rp_filter") ?? 0
                if max(all, own) == 1 { found.strictInterfaces.insert(name) }
            }
        }
        facts = found
    }

    private static func number(_ path: String) -> Int? {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
        return Int(text.trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
