internal import LinuxSupport
internal import Ruleset
internal import TraceModel

/// Receives the rule traces of iptables-legacy in one namespace. The kernel sends them to the namespace's logger, so that logger is set to
/// NFLOG, group 0, until `end` (`nf_log_trace` in net/netfilter/nf_log.c).
final class LegacyTracing: Sendable {
    let socket: LegacyTraceSocket
    private let settings: [ChangedSetting]

    /// Why it is left alone where it could be done.
    struct Obstacle: Error, CustomStringConvertible {
        var description: String
    }

    /// The kernel's own logger, by its names in several versions: what a namespace has that nobody has set up.
    private static let usual: Set<String> = ["NONE", "nf_log_syslog", "nf_log_ipv4", "nf_log_ipv6"]

    /// - Parameter rules: those of the namespace.
    /// - Throws: `Obstacle` where somebody uses the logger or the group.
    init(in namespace: NetworkNamespace, _ rules: LegacyRules) async throws {
        guard !rules.tracesAlready else {
            throw Obstacle(description: "a rule with -j TRACE is there, whose lines would no longer come to the kernel log")
        }
        if let value = try ChangedSetting.value(of: "net.netfilter.nf_conntrack_log_invalid", in: namespace), value != "0" {
            throw Obstacle(
                description:
                    "net.netfilter.nf_conntrack_log_invalid is \(value), and its lines would no longer come to the kernel log")
        }
        var before: [(name: String, value: String)] = []
        for family in rules.families {
            // The number of the protocol family (linux/socket.h).
            let name = "net.netfilter.nf_log.\(family == .ipv4 ? 2 : 10)"
            guard let value = try ChangedSetting.value(of: name, in: namespace) else {
                throw Obstacle(description: "the kernel has no setting \(name)")
            }
            guard Self.usual.contains(value) else {
                throw Obstacle(description: "\(name) is \(value), which somebody has set")
            }
            before.append((name, value))
        }
        do {
            // Bound before anything is sent there.
            socket = try namespace.enter { try LegacyTraceSocket() }
        } catch let error as NetlinkError {
            throw Obstacle(description: "NFLOG group 0 cannot be had: \(error)")
        }
        var settings: [ChangedSetting] = []
        do {
            for (name, value) in before {
                settings.append(try await ChangedSetting(name, from: value, to: "nfnetlink_log", in: namespace))
            }
        } catch {
            for setting in settings { try? setting.putBack() }
            throw error
        }
        self.settings = settings
    }

    /// Puts the settings back.
    func end() throws { for setting in settings { try setting.putBack() } }
}
