public import TraceModel

/// Rules that cannot be read, planned or applied.
public enum RulesetError: Error, Equatable, Sendable {
    case unbalancedQuotes(String)
    case unknownTable(String)
    case unknownChain(String, tables: [Table])
    case invalidMatch(String, reason: String)
    case noBackend
    case refused(namespace: String, tool: String, message: String, match: String)
    case permission(String)
    case journal(path: String, message: String)
    case malformedDump(line: Int, text: String)
    case stillThere(namespace: String, message: String)
    case notAllRemoved([String])
    /// The rules changed during every attempt to read or change them.
    case keepsChanging(namespace: String)
}

extension RulesetError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unbalancedQuotes(let text): "unbalanced quotes in: \(text)"
        case .unknownTable(let name):
            "no table \(name). There are: \(Table.iptables.map(\.name).joined(separator: ", "))"
        case .unknownChain(let name, let tables):
            "no chain \(name) in \(tables.map(\.name).joined(separator: ", ")). Built-in chains are "
                + Hook.allCases.map(\.name).joined(separator: ", ") + "; user-defined ones need --user-chains."
        case .invalidMatch(let match, let reason): "--match '\(match)': \(reason)"
        case .noBackend:
            "no iptables on this machine: neither iptables-nft-restore nor iptables-legacy-restore is installed. "
                + "On Debian: sudo apt-get install iptables"
        case .refused(let namespace, let tool, let message, let match):
            "\(tool) refused the probes in namespace \(namespace): \(message)"
                + (match.isEmpty ? "" : " (--match '\(match)')") + ". Nothing was left installed."
        case .permission(let what): "\(what): permission denied. It takes root: run it with sudo."
        case .journal(let path, let message): "journal \(path): \(message)"
        case .malformedDump(let line, let text): "line \(line) of iptables-save is not understood: \(text)"
        case .notAllRemoved(let messages): messages.joined(separator: "\n")
        case .keepsChanging(let namespace):
            "the rules of namespace \(namespace) changed during every attempt to read them. Wait until the program that changes "
                + "them is done, and run this again."
        case .stillThere(let namespace, let message): "cannot take the probes out of namespace \(namespace): \(message)"
        }
    }
}
