internal import Glibc
private import LinuxSupport

/// Host and port that a request names, in its Host field or in an absolute-form target (RFC 3986, section 3.2).
enum Authority: Equatable {
    /// A numeric address or `localhost`, which no foreign page can make a browser send for a name of its own (DNS rebinding).
    case own
    case other
    /// No host with an optional port.
    case malformed

    /// - Parameter allowedHosts: names, in lower case, that count as our own.
    init(_ text: String, allowedHosts: Set<String> = []) {
        let host: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                self = .malformed
                return
            }
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
        } else {
            host = text.prefix { $0 != ":" }
            rest = text[host.endIndex...]
        }
        guard !host.isEmpty, Self.isPort(rest), !host.contains(where: { "@/?#\\ ".contains($0) }) else {
            self = .malformed
            return
        }
        if text.hasPrefix("[") {
            // A zone, `%eth0`, belongs to the client's machine.
            self = Self.isAddress(host.prefix { $0 != "%" }, AF_INET6) ? .own : .malformed
        } else {
            let name = host.lowercased()
            self = name == "localhost" || allowedHosts.contains(name) || Self.isAddress(host, AF_INET) ? .own : .other
        }
    }

    /// Whether `text` is empty, or a colon with an optional port.
    private static func isPort(_ text: Substring) -> Bool {
        guard let first = text.first else { return true }
        let digits = text.dropFirst()
        return first == ":" && digits.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } && (digits.isEmpty || UInt16(digits) != nil)
    }

    private static func isAddress(_ text: Substring, _ family: Int32) -> Bool {
        SocketAddress(numeric: String(text), port: 0)?.family == family
    }
}
