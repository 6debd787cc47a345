private import CPcap
package import TraceModel

/// A packet filter in libpcap's language (pcap-filter(7)), as tcpdump takes it: `host 10.0.0.5 and tcp port 443`.
///
/// It is asked about packets as a trace has them, not about their bytes: addresses, protocol, ports, length, hops left, flags of TCP, type
/// and code of ICMP. An expression that looks at anything else is refused.
@safe package final class PacketExpression {
    package struct Problem: Error, CustomStringConvertible {
        package var description: String
    }

    // Written once, by `init`; libpcap only reads it afterwards.
    private var program = unsafe bpf_program()

    /// - Throws: `Problem` with libpcap's words, or what of packets is not known to a trace.
    package init(_ text: String) throws(Problem) {
        guard let handle = unsafe pcap_open_dead(DLT_RAW, 65_535) else { throw Problem(description: "libpcap has no memory") }
        defer { unsafe pcap_close(handle) }
        guard unsafe pcap_compile(handle, &program, text, 1, PCAP_NETMASK_UNKNOWN) == 0 else {
            let reason = unsafe pcap_geterr(handle).map { unsafe String(cString: $0) } ?? "it cannot be compiled"
            throw Problem(description: "\"\(text)\" is no packet filter (pcap-filter(7)): \(reason)")
        }
        for index in 0..<Int(unsafe program.bf_len) {
            guard let code = unsafe program.bf_insns?[index], let load = Load(code), !load.isKnown else { continue }
            throw Problem(
                description:
                    "\"\(text)\" looks at bytes that a trace does not keep: addresses, protocols, ports, lengths, hops left, "
                    + "TCP flags, ICMP types and codes can be asked for")
        }
    }

    deinit { unsafe pcap_freecode(&program) }

    /// Whether it fits the packet as it was at any step.
    package func fits(_ journey: Journey) -> Bool {
        journey.legs.contains { fits(journey.packet, $0.entry) || $0.exit != $0.entry && fits(journey.packet, $0.exit) }
    }

    /// - Parameter tuple: the addresses and ports that the packet had.
    package func fits(_ packet: Packet, _ tuple: PacketTuple) -> Bool {
        let bytes = Self.headers(of: packet, tuple)
        var header = pcap_pkthdr()
        header.caplen = UInt32(bytes.count)
        header.len = max(packet.length, UInt32(bytes.count))
        return unsafe bytes.withUnsafeBufferPointer { unsafe pcap_offline_filter(&program, &header, $0.baseAddress) } != 0
    }

    /// An instruction that reads bytes of the packet (linux/bpf_common.h).
    private struct Load {
        var offset: UInt32
        var size: UInt32
        /// Whether the offset counts from behind IPv4's header.
        var isBehindIPv4: Bool

        init?(_ code: bpf_insn) {
            let kind = code.code & 0x07
            let mode = code.code & 0xE0
            // BPF_LDX with BPF_MSH reads the length of IPv4's header, which is always 20 here.
            guard kind == 0, mode == 0x20 || mode == 0x40 else { return nil }
            offset = code.k
            size = [0x00: 4, 0x08: 2, 0x10: 1][code.code & 0x18] ?? 4
            isBehindIPv4 = mode == 0x40
        }

        /// Where the same bytes mean one thing in IPv4 and another in IPv6, those that libpcap's own words read are taken to be meant.
        var isKnown: Bool {
            let end = offset + size
            if isBehindIPv4 { return [0, 2].contains(offset) && size <= 2 || [1, 13].contains(offset) && size == 1 }
            switch offset {
            case 0, 7,
                8 where size == 1:
                return true
            case 2 where size == 2, 6 where size <= 2, 9 where size == 1, 8 where size == 4: return true
            case 12..<40: return end <= 40
            case 40, 42: return size <= 2
            case 41, 53: return size == 1
            default: return false
            }
        }
    }

    /// The packet's headers, as far as they are known; 0 elsewhere.
    private static func headers(of packet: Packet, _ tuple: PacketTuple) -> [UInt8] {
        func big(_ value: some FixedWidthInteger) -> [UInt8] {
            (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (value.bitWidth - 8 - 8 * $0)) }
        }
        func bytes(_ address: IPAddress) -> [UInt8] {
            address.family == .ipv4 ? big(UInt32(truncatingIfNeeded: address.low)) : big(address.high) + big(address.low)
        }
        let addresses = bytes(tuple.source) + bytes(tuple.destination)
        let isIPv4 = tuple.source.family == .ipv4
        let length = UInt16(clamping: packet.length)
        let network: [UInt8] =
            isIPv4
            ? [0x45, 0] + big(length) + [0, 0, 0, 0, packet.timeToLive, tuple.transport, 0, 0] + addresses
            : [0x60, 0, 0, 0] + big(length - min(length, 40)) + [tuple.transport, packet.timeToLive] + addresses
        let ports = big(tuple.sourcePort) + big(tuple.destinationPort)
        switch tuple.transport {
        case TransportProtocol.tcp:
            return network + ports + [UInt8](repeating: 0, count: 8) + [0x50, packet.tcpFlags.rawValue, 0, 0, 0, 0, 0, 0]
        case TransportProtocol.icmp, TransportProtocol.icmpv6:
            return network + [packet.icmpType, packet.icmpCode, 0, 0, 0, 0, 0, 0]
        default: return network + ports + [0, 0, 0, 0]
        }
    }
}

extension PacketExpression: @unchecked Sendable {}
