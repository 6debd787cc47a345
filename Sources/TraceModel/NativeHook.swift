/// A hook that a chain of nf_tables may stand at: one of IP's, or one that iptables knows nothing of.
public enum NativeHook: Sendable, Hashable {
    case ip(Hook)
    /// Where an interface receives, before anything else looks at the packet (`NF_NETDEV_INGRESS`, `NF_INET_INGRESS`).
    case ingress
    /// Where an interface sends, behind everything else (`NF_NETDEV_EGRESS`).
    case egress
    /// Where a bridge passes frames; its hooks have the numbers of IP's (`NF_BR_*` in linux/netfilter_bridge.h).
    case bridge(Hook)

    private static let bridgeMark = "BRIDGE-"

    /// As recordings and reports name it: IP's as iptables spells them, `INGRESS`, `EGRESS`, `BRIDGE-FORWARD` and the like.
    public var name: String {
        switch self {
        case .ip(let hook): hook.name
        case .ingress: "INGRESS"
        case .egress: "EGRESS"
        case .bridge(let hook): Self.bridgeMark + hook.name
        }
    }

    /// The inverse of `name`.
    public init?(name: String) {
        if let hook = Hook(name: name) {
            self = .ip(hook)
        } else if name == "INGRESS" {
            self = .ingress
        } else if name == "EGRESS" {
            self = .egress
        } else if name.hasPrefix(Self.bridgeMark), let hook = Hook(name: String(name.dropFirst(Self.bridgeMark.count))) {
            self = .bridge(hook)
        } else {
            return nil
        }
    }
}

extension NativeHook: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let name = try container.decode(String.self)
        guard let hook = NativeHook(name: name) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(name) is no hook")
        }
        self = hook
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(name)
    }
}
