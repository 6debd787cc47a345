/// What of a TCP segment tells whether it was sent before, and whether its sender takes more (RFC 9293, 3.1).
@frozen public struct TCPSegment: Sendable, Hashable, BitwiseCopyable {
    /// The lower 16 bits of the sequence number; a connection's latest segments are told apart by it, and its length.
    public var sequence: UInt16
    public var traits: Traits

    public struct Traits: OptionSet, Sendable, Hashable, BitwiseCopyable {
        public let rawValue: UInt8

        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Its header was read; text of logs does not have all of it.
        public static let isRead = Traits(rawValue: 4)
        /// It carries data.
        public static let hasData = Traits(rawValue: 1)
        /// Its sender's receive buffer is full: its window is 0, and it does not end the connection.
        public static let closesWindow = Traits(rawValue: 2)
        /// Its connection has had it before. Known once its journey has been added up.
        public static let sentAgain = Traits(rawValue: 8)
    }

    @inlinable public init(sequence: UInt16 = 0, traits: Traits = []) {
        self.sequence = sequence
        self.traits = traits
    }
}
