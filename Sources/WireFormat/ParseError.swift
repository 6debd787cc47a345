/// Bytes that are not what their format says.
public enum ParseError: Error, Equatable, Sendable {
    /// `needed` bytes were to be read at `offset`, but only `available` are there.
    case truncated(offset: Int, needed: Int, available: Int)
    /// A length field at `offset` has a value that cannot be.
    case invalidLength(offset: Int, value: Int)
    /// The IP version at byte 0 is neither 4 nor 6, or not the one announced.
    case unknownVersion(UInt8)
    /// A line of text lacks a field that it must have.
    case missingField(offset: Int, name: String)
}

extension ParseError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .truncated(let offset, let needed, let available):
            "truncated at byte \(offset): needed \(needed), have \(available)"
        case .invalidLength(let offset, let value): "invalid length \(value) at byte \(offset)"
        case .unknownVersion(let version): "unknown IP version \(version)"
        case .missingField(let offset, let name): "\(name)= is missing behind byte \(offset)"
        }
    }
}
