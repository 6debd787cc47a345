/// What ended a packet's way, where that is known.
public enum Decision: Hashable, Sendable {
    /// A rule or policy, as the kernel's rule traces say.
    case rule(RuleDecision)
    /// The kernel itself, outside all tables, as it says.
    case kernel(KernelDecision)

    public var rule: RuleDecision? { if case .rule(let decision) = self { decision } else { nil } }
    public var kernel: KernelDecision? { if case .kernel(let decision) = self { decision } else { nil } }

    /// Whether both are of one rule, policy or reason, whatever is known of a rule's text.
    public func isSame(as other: Decision) -> Bool {
        switch (self, other) {
        case (.rule(let one), .rule(let other)): one === other || one.isSameRule(as: other)
        case (.kernel(let one), .kernel(let other)): one == other
        case (.rule, .kernel), (.kernel, .rule): false
        }
    }
}

/// Why the kernel dropped a packet, in its own words (the tracepoint `skb:kfree_skb`).
///
/// Immutable, and shared by all that it concerns, as `RuleDecision` is.
public final class KernelDecision: Hashable, Sendable {
    /// By its name in `enum skb_drop_reason` (include/net/dropreason-core.h), without what all begin with: `IP_RPFILTER`.
    public let reason: String
    /// The kernel's function that let go of the packet: `ip_rcv_finish_core`; empty where it has no name.
    public let function: String
    /// What looking up its route had come to just before; `nil` where that did not fail, or is not known.
    public let route: RouteFailure?

    /// What stands in a routing table for a destination that packets cannot reach.
    public enum RouteFailure: String, Sendable, Codable {
        case noRoute = "no route"
        case blackhole, prohibit, unreachable
    }

    public init(reason: String, function: String, route: RouteFailure? = nil) {
        self.reason = reason
        self.function = function
        self.route = route
    }

    public static func == (one: KernelDecision, other: KernelDecision) -> Bool {
        one === other || one.reason == other.reason && one.function == other.function && one.route == other.route
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(reason)
        hasher.combine(function)
        hasher.combine(route)
    }
}

/// A packet that the kernel says to have dropped.
public struct KernelDrop: Sendable, Equatable {
    /// Microseconds since 1970.
    public var time: Int64
    public var family: AddressFamily
    public var decision: KernelDecision
    /// The packet's addresses, where something that the kernel did with it just before tells them.
    public var endpoints: Endpoints?

    /// Addresses and ports of a packet, as far as they are known.
    public struct Endpoints: Sendable, Equatable {
        public var source: IPAddress
        public var destination: IPAddress
        /// 0 where it is not known.
        public var sourcePort: UInt16
        /// 0 where it is not known.
        public var destinationPort: UInt16

        public init(source: IPAddress, destination: IPAddress, sourcePort: UInt16 = 0, destinationPort: UInt16 = 0) {
            self.source = source
            self.destination = destination
            self.sourcePort = sourcePort
            self.destinationPort = destinationPort
        }

        /// Those of an answer.
        public var reversed: Endpoints {
            Endpoints(source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort)
        }

        /// Whether they may be a packet's.
        public func fit(_ tuple: PacketTuple) -> Bool {
            func fits(_ address: IPAddress, _ port: UInt16, _ own: IPAddress, _ ownPort: UInt16) -> Bool {
                own == address && (ownPort == 0 || ownPort == port || tuple.isICMP)
            }
            return fits(tuple.source, tuple.sourcePort, source, sourcePort)
                && fits(tuple.destination, tuple.destinationPort, destination, destinationPort)
        }

        public var hasPorts: Bool { sourcePort != 0 && destinationPort != 0 }
    }

    public init(time: Int64, family: AddressFamily, decision: KernelDecision, endpoints: Endpoints? = nil) {
        self.time = time
        self.family = family
        self.decision = decision
        self.endpoints = endpoints
    }
}
