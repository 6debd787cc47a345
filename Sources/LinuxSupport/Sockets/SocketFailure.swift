private import Glibc

/// The kernel's refusal of a call for a socket.
public struct SocketFailure: Error, CustomStringConvertible, Equatable {
    public let operation: String
    /// `errno`.
    public let code: Int32

    public var description: String { "\(operation): \(ErrorNumber.text(code))" }

    /// Whether somebody answered that nobody listens: a RST, or an ICMP message that the port cannot be reached.
    public var isRefusal: Bool { code == ECONNREFUSED }
}
