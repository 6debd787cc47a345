internal import TraceModel

/// Where the packet begins that another one carries.
enum Encapsulation {
    /// `IPPROTO_IPIP`, `IPPROTO_IPV6`, `IPPROTO_GRE`.
    private static let ipInIP: UInt8 = 4
    private static let ipv6InIP: UInt8 = 41
    private static let gre: UInt8 = 47

    /// The destination ports of VXLAN: IANA's, and the kernel's own from before there was one (flannel uses it still).
    private static let vxlan: Set<UInt16> = [4789, 8472]
    private static let geneve: UInt16 = 6081

    /// - Parameters:
    ///   - body: behind the outer IP header.
    /// - Returns: from the inner IP header on; `nil` where nothing is carried that can be read.
    static func inner(_ bytes: RawSpan, transport: UInt8, destinationPort: UInt16, _ body: Range<Int>) -> Range<Int>? {
        switch transport {
        case ipInIP, ipv6InIP: return body
        case gre: return behindGRE(bytes, body)
        case TransportProtocol.udp where vxlan.contains(destinationPort):
            // RFC 7348, section 5: the I flag, and an Ethernet frame behind 8 bytes.
            guard body.count >= 16, bytes.byte(body.lowerBound + 8) & 0x08 != 0 else { return nil }
            return behindEthernet(bytes, body.lowerBound + 16..<body.upperBound)
        case TransportProtocol.udp where destinationPort == geneve:
            // RFC 8926, section 3.4: the length of the options in units of 4.
            guard body.count >= 16 else { return nil }
            let start = body.lowerBound + 16 + Int(bytes.byte(body.lowerBound + 8) & 0x3F) * 4
            guard start <= body.upperBound else { return nil }
            return payload(bytes, type: bytes.big16(body.lowerBound + 10), start..<body.upperBound)
        default: return nil
        }
    }

    /// RFC 2784 and RFC 2890: checksum, key and sequence number take 4 bytes each where their flags are set.
    private static func behindGRE(_ bytes: RawSpan, _ body: Range<Int>) -> Range<Int>? {
        guard body.count >= 4 else { return nil }
        let flags = bytes.byte(body.lowerBound)
        let options = [UInt8(0x80), 0x20, 0x10].count { flags & $0 != 0 }
        let start = body.lowerBound + 4 + options * 4
        guard start <= body.upperBound else { return nil }
        return payload(bytes, type: bytes.big16(body.lowerBound + 2), start..<body.upperBound)
    }

    private static func payload(_ bytes: RawSpan, type: UInt16, _ range: Range<Int>) -> Range<Int>? {
        switch type {
        case 0x0800, 0x86DD: range
        case 0x6558: behindEthernet(bytes, range)  // transparent Ethernet bridging
        default: nil
        }
    }

    private static func behindEthernet(_ bytes: RawSpan, _ frame: Range<Int>) -> Range<Int>? {
        guard frame.count >= 18 else { return nil }
        var start = frame.lowerBound + 14
        var type = bytes.big16(frame.lowerBound + 12)
        if type == 0x8100 {  // IEEE 802.1Q
            type = bytes.big16(frame.lowerBound + 16)
            start += 4
        }
        return type == 0x0800 || type == 0x86DD ? start..<frame.upperBound : nil
    }
}
