public import TraceModel

/// Who wrote a rule, as its chain, its comment or its words show.
public struct RuleOwner: Codable, Sendable, Equatable {
    /// `docker`, `kube-proxy`, `kube-router`, `kubernetes`, `calico`, `ufw`, `firewalld`, `fail2ban`, `tailscale`, `libvirt`, `istio`,
    /// `flannel`.
    public var program: String
    /// What of the program's it belongs to, such as a service, a network, a zone or a jail; absent where the rule does not say.
    public var object: String?

    public init(program: String, object: String? = nil) {
        self.program = program
        self.object = object
    }
}

/// Recognises the rules of one program. A new one is a file in `Owners` and a line in `OwnerRules.all`.
///
/// By names that the program itself gives and nobody else has reason to: a rule that somebody wrote by hand must not be taken for a
/// program's.
protocol OwnerRule: Sendable {
    /// The program's name, as `RuleOwner.program` has it.
    var program: String { get }

    func owner(of rule: OwnedRule) -> RuleOwner?
}

/// What recognisers look at.
struct OwnedRule {
    /// Of nf_tables: `ip`, `ip6`, `inet`, …
    var tableFamily: String
    var table: String
    var chain: String
    /// The chains by whose rules a packet came here, where a trace tells.
    var way: [String]
    /// As the tool printed it; empty for a policy, and where it is not known.
    var text: String

    /// The comments of a rule that iptables printed, in order.
    var comments: [String] {
        var found: [String] = []
        var rest = text[...]
        while let option = rest.firstRange(of: "--comment ") {
            rest = rest[option.upperBound...]
            if rest.first == "\"" {
                let quoted = rest.dropFirst()
                let end = quoted.firstIndex(of: "\"") ?? quoted.endIndex
                found.append(String(quoted[..<end]))
                rest = quoted[end...]
            } else {
                found.append(String(rest.prefix { $0 != " " }))
            }
        }
        return found
    }

    /// Whether the chain's name is a prefix with sixteen characters of a hash in base32, as Kubernetes' programs give it.
    func chainIsHash(behind prefix: String) -> Bool {
        let hash = chain.dropFirst(prefix.count)
        return chain.hasPrefix(prefix) && hash.count == 16
            && hash.allSatisfy { $0.isASCII && ($0.isUppercase || ("2"..."7").contains($0)) }
    }

    /// The word behind an option.
    func word(after option: String) -> String? {
        let words = text.split(separator: " ")
        guard let index = words.firstIndex(where: { $0 == option }), index + 1 < words.count else { return nil }
        return String(words[index + 1])
    }
}

extension RuleDecision {
    /// Who wrote the rule; `nil` where nothing shows it.
    public var owner: RuleOwner? { OwnerRules.owner(of: self) }
}

public enum OwnerRules {
    static let all: [any OwnerRule] = [
        KubeProxyOwner(), KubeRouterOwner(), KubernetesOwner(), DockerOwner(), CalicoOwner(), UfwOwner(), FirewalldOwner(),
        Fail2banOwner(), TailscaleOwner(),
        LibvirtOwner(), IstioOwner(), FlannelOwner(),
    ]

    /// The programs whose rules are recognised.
    public static var programs: [String] { all.map(\.program) }

    fileprivate static func owner(of decision: RuleDecision) -> RuleOwner? {
        let rule = OwnedRule(
            tableFamily: decision.place.tableFamily, table: decision.place.table, chain: decision.place.chain,
            way: decision.way.map(\.place.chain), text: decision.text ?? "")
        return all.lazy.compactMap { $0.owner(of: rule) }.first
    }
}
