internal import WireFormat

/// Where an NFLOG message comes from, as far as it says so itself.
package struct NFLogOrigin: Sendable {
    /// `nil` for one that found no room: which prefix it has is not known.
    package var prefix: String?
    /// `nfgen_family`, `NFPROTO_*`.
    package var family: UInt8
    /// `NF_INET_*`.
    package var hook: UInt8
}

/// What NFLOG's messages look like, and the origins that they name. The same rules are in many namespaces, so that the decoders of
/// one thread share one: else each namespace would bring its own into the processor's cache when its turn comes.
package struct TemplateRegistry: Sendable {
    var shapes = MessageTemplates()
    private var numbers = PrefixTable()
    private var origins: [NFLogOrigin] = []
    /// The number of the origin without a prefix, which those share that find no room.
    private var others: UInt32?

    package init() {}

    /// How many origins there are.
    package var count: Int { origins.count }

    /// An origin that a report named.
    package func origin(_ number: Int) -> NFLogOrigin { origins[number] }

    /// The number of a message's origin, which it gets now if it has none.
    ///
    /// - Parameter hasRoom: whether its source may name one more.
    mutating func number(of message: NFLogMessage, _ bytes: RawSpan, hasRoom: Bool) -> UInt32 {
        if let known = numbers.number(bytes, message.prefix, family: message.family, hook: message.hook) { return known }
        let number = UInt32(origins.count)
        guard hasRoom else {
            if let others { return others }
            origins.append(NFLogOrigin(prefix: nil, family: message.family, hook: message.hook))
            others = number
            return number
        }
        origins.append(NFLogOrigin(prefix: bytes.text(message.prefix), family: message.family, hook: message.hook))
        numbers.insert(
            message.prefix.map { bytes.byte($0) }, family: message.family, hook: message.hook, number: number)
        return number
    }
}
