/// A netfilter hook of the IP layer. Raw values are `NF_INET_PRE_ROUTING` and its successors
/// (`linux/netfilter.h`), as `nfulnl_msg_packet_hdr.hook` carries them.
@frozen public enum Hook: UInt8, Sendable, Hashable, CaseIterable {
    case prerouting = 0
    case input = 1
    case forward = 2
    case output = 3
    case postrouting = 4

    /// The built-in chain of the hook, as iptables spells it.
    public var name: String {
        switch self {
        case .prerouting: "PREROUTING"
        case .input: "INPUT"
        case .forward: "FORWARD"
        case .output: "OUTPUT"
        case .postrouting: "POSTROUTING"
        }
    }

    public init?(name: some StringProtocol) {
        guard let hook = Hook.allCases.first(where: { $0.name == name }) else { return nil }
        self = hook
    }

    /// The hook with a raw value's lowest three bits; PREROUTING where there is none. Unlike `init(rawValue:)` in the caller's code.
    @inlinable @inline(__always)
    public init(bits: UInt8) {
        switch bits & 7 {
        case 1: self = .input
        case 2: self = .forward
        case 3: self = .output
        case 4: self = .postrouting
        default: self = .prerouting
        }
    }

    /// Whether a packet begins its way through a namespace here: received, or made by a local process.
    @inlinable public var isEntry: Bool { self == .prerouting || self == .output }

    /// How far along its way through a namespace a packet is: entry 0, decision 1, exit 2.
    @inlinable public var stage: Int32 {
        switch self {
        case .prerouting, .output: 0
        case .input, .forward: 1
        case .postrouting: 2
        }
    }

    /// Whether a packet seen at `self` can be seen at `next` later in the same namespace, whichever
    /// probes lie between.
    @inlinable public func leads(to next: Hook) -> Bool {
        if self == next { return true }
        switch self {
        case .prerouting: return next != .output
        case .forward, .output: return next == .postrouting
        case .input, .postrouting: return false
        }
    }
}
