public import TraceModel

/// An address translation that packets of a path met.
public struct TranslationRecord: Sendable, Hashable {
    public enum Kind: String, Sendable, Hashable {
        case snat
        case dnat
        /// The destination of a reply put back to what the original's source was before SNAT.
        case snatReply = "snat_reply"
        /// The source of a reply put back to what the original's destination was before DNAT.
        case dnatReply = "dnat_reply"
    }

    public var kind: Kind
    /// Index of the leg in the path.
    public var leg: Int
    public var from: IPAddress
    public var to: IPAddress
    /// 0 where ports play no role.
    public var fromPort: UInt16
    public var toPort: UInt16

    public var hasPorts: Bool { fromPort != 0 || toPort != 0 }
}
