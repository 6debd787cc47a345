import ArgumentParser
import TraceModel

/// The destination that `why` is asked about: `HOST[:PORT][/PROTO]`.
struct Destination: ExpressibleByArgument {
    /// A name or an address.
    var host: String
    var port: UInt16?
    /// `nil`: ICMP of the address's family.
    var transport: UInt8?
    /// The destination as the user typed it.
    var text: String

    init?(argument: String) {
        text = argument
        var rest = Substring(argument)
        var named: UInt8?
        if let slash = rest.lastIndex(of: "/") {
            let name = rest[rest.index(after: slash)...]
            // A number would be taken for the length of a prefix.
            guard let number = TransportProtocol.number(String(name)), UInt8(name) == nil,
                number != TransportProtocol.unknown
            else { return nil }
            named = number
            rest = rest[..<slash]
        }
        var digits: Substring?
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            let behind = rest[rest.index(after: end)...]
            guard behind.isEmpty || behind.first == ":" else { return nil }
            digits = behind.isEmpty ? nil : behind.dropFirst()
            rest = rest[rest.index(after: rest.startIndex)..<end]
            guard IPAddress(rest)?.family == .ipv6 else { return nil }
        } else if let colon = rest.lastIndex(of: ":"), rest.firstIndex(of: ":") == colon {
            digits = rest[rest.index(after: colon)...]
            rest = rest[..<colon]
        }
        if let digits {
            guard let port = UInt16(digits), port > 0 else { return nil }
            self.port = port
        }
        guard !rest.isEmpty, !rest.contains("/") else { return nil }
        // Colons without brackets are an address of IPv6.
        guard !rest.contains(":") || IPAddress(rest) != nil else { return nil }
        let isICMP = named == TransportProtocol.icmp || named == TransportProtocol.icmpv6
        guard port == nil || !isICMP else { return nil }
        host = String(rest)
        transport = isICMP ? nil : named ?? (port == nil ? nil : TransportProtocol.tcp)
    }

    func transport(to address: IPAddress) -> UInt8 {
        transport ?? (address.family == .ipv4 ? TransportProtocol.icmp : TransportProtocol.icmpv6)
    }
}
