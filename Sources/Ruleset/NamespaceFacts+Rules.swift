internal import TraceModel

extension NamespaceFacts {
    /// Takes in a rule that is no probe.
    mutating func note(_ rule: RuleDump.Rule, _ table: Table, _ family: AddressFamily, _ backend: Backend) {
        backends.insert(backend)
        switch table {
        case .nat:
            translates = true
            guard rule.target == "DNAT" || rule.target == "REDIRECT" else { return }
            let destination = rule.argument(of: "-d").map { text in
                text.hasSuffix("/32") || text.hasSuffix("/128") ? String(text.prefix { $0 != "/" }) : text
            }
            redirections.append(
                Redirection(
                    family: family, chain: rule.chain, destination: destination,
                    port: rule.argument(of: "--dport").flatMap { UInt16($0) }, text: rule.text))
        case .raw:
            if rule.target == "NOTRACK" || (rule.target == "CT" && rule.words.contains("--notrack")) {
                exemptsFromTracking = true
            }
        case .filter:
            let isForEstablished = rule.words.contains { $0.split(separator: ",").contains("ESTABLISHED") }
            if isForEstablished, rule.target == "ACCEPT" { acceptsEstablished.insert(rule.chain) }
        case .mangle, .security: break
        }
    }
}
