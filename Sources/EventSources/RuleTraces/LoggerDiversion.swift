internal import LinuxSupport
internal import Ruleset
internal import TraceModel

/// Receives what the kernel sends to the logger of one namespace: the traces of iptables-legacy (`nf_log_trace` in
/// net/netfilter/nf_log.c), and why connection tracking calls packets invalid (`nf_ct_l4proto_log_invalid` in
/// net/netfilter/nf_conntrack_proto.c). The logger is set to NFLOG, group 0, until `end`.
final class LoggerDiversion: Sendable {
    let socket: LoggerSocket
    private let settings: [ChangedSetting]

    /// Why it is left alone where it could be done.
    struct Obstacle: Error, CustomStringConvertible {
        var description: String
    }

    /// The kernel's own logger, by its names in several versions: what a namespace has that nobody has set up.
    private static let usual: Set<String> = ["NONE", "nf_log_syslog", "nf_log_ipv4", "nf_log_ipv6"]
    private static let invalid = "net.netfilter.nf_conntrack_log_invalid"

    /// - Parameters:
    ///   - rules: those of iptables-legacy in the namespace.
    ///   - logsInvalid: whether packets that connection tracking calls invalid are to be logged, of all protocols.
    /// - Throws: `Obstacle` where somebody uses the logger or the group.
    init(in namespace: NetworkNamespace, _ rules: LegacyRules, logsInvalid: Bool) async throws {
        guard !rules.tracesAlready else {
            throw Obstacle(description: "a rule with -j TRACE is there, whose lines would no longer come to the kernel log")
        }
        let logged = try ChangedSetting.value(of: Self.invalid, in: namespace)
        if let logged, logged != "0" {
            throw Obstacle(description: "\(Self.invalid) is \(logged), and its lines would no longer come to the kernel log")
        }
        var changes: [(name: String, from: String, to: String)] = []
        for family in logsInvalid ? AddressFamily.allCases : rules.families {
            // The number of the protocol family (linux/socket.h).
            let name = "net.netfilter.nf_log.\(family == .ipv4 ? 2 : 10)"
            guard let value = try ChangedSetting.value(of: name, in: namespace) else {
                throw Obstacle(description: "the kernel has no setting \(name)")
            }
            guard Self.usual.contains(value) else {
                throw Obstacle(description: "\(name) is \(value), which somebody has set")
            }
            changes.append((name, value, "nfnetlink_log"))
        }
        // Without connection tracking there is no such setting.
        if logsInvalid, let logged { changes.append((Self.invalid, logged, "255")) }
        do {
            // Bound before anything is sent there.
            socket = try namespace.enter { try LoggerSocket() }
        } catch let error as NetlinkError {
            throw Obstacle(description: "NFLOG group 0 cannot be had: \(error)")
        }
        var settings: [ChangedSetting] = []
        do {
            for change in changes {
                settings.append(try await ChangedSetting(change.name, from: change.from, to: change.to, in: namespace))
            }
        } catch {
            for setting in settings.reversed() { try? setting.putBack() }
            throw error
        }
        self.settings = settings
    }

    /// Puts the settings back.
    func end() throws { for setting in settings.reversed() { try setting.putBack() } }
}
