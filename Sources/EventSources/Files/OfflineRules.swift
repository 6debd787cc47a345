public import Captures
private import Foundation
internal import Ruleset
internal import TraceModel

/// The rules of a machine as `iptables-save` printed them, by namespace: which prefix belongs to which chain, and which
/// packets each probe reports.
public struct OfflineRules: Sendable {
    /// The rules of one namespace.
    struct NamespaceRules: Sendable {
        var survey = ProbeSurvey.Result()

        func probes(_ target: ProbeRule.Target, group: UInt16?) -> [Probe] {
            survey.probes.filter { $0.target == target && (group == nil || $0.group == group) }.map(\.probe)
        }
    }

    private(set) var pages: [String: NamespaceRules] = [:]
    /// Rules of the host, which TRACE lines name by number.
    private(set) var traced = LegacyRules([:])

    public init() {}

    /// Reads files given as `NAMESPACE=FILE`, or `FILE` for the host's rules. Several for one namespace add up, as
    /// iptables-save and ip6tables-save print one family each.
    public init(arguments: [String]) throws(CaptureError) {
        for argument in arguments {
            let named = NamedFile(argument)
            let text = try RuleFile.text(of: named.path)
            try add(text, namespace: named.name ?? "host", file: named.path)
        }
    }

    mutating func add(_ text: String, namespace: String, file: String) throws(CaptureError) {
        for section in RuleFile.sections(text, path: file) {
            let dump: RuleDump
            do {
                dump = try RuleDump(parsing: section.text)
            } catch {
                throw .invalidRules(file: file, message: "\(error)")
            }
            if namespace == "host" { traced = traced.adding(dump, section.family) }
            for content in dump.tables {
                guard let table = content.table else { continue }
                ProbeSurvey.survey(
                    content, table, section.family, section.backend, namespace: 0,
                    into: &pages[namespace, default: NamespaceRules()].survey)
            }
        }
    }
}

/// A file on the command line, with the namespace that it is of: `guest=guest.pcap`.
public struct NamedFile: Sendable, Equatable {
    public var name: String?
    public var path: String

    /// A file whose own name holds `=` is meant as a whole if there is one.
    public init(_ argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
        if parts.count == 2, !parts[0].contains("/"), !FileManager.default.fileExists(atPath: argument) {
            name = parts[0]
            path = parts[1]
        } else {
            path = argument
        }
    }
}
