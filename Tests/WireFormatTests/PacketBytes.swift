/// Packets as bytes, built field by field, so that a test says only what matters to it.
struct PacketBytes {
    var ttl: UInt8 = 64
    var tos: UInt8 = 0
    var id: UInt16 = 0x1234
    var source: [UInt8] = [172, 16, 0, 2]
    var destination: [UInt8] = [8, 8, 8, 8]
    var fragment: UInt16 = 0x4000
    var checksum: UInt16 = 0xBEEF

    func ipv4(_ transport: UInt8, _ body: [UInt8]) -> [UInt8] {
        let length = UInt16(20 + body.count)
        return [0x45, tos] + big(length) + big(id) + big(fragment) + [ttl, transport] + big(checksum) + source + destination
            + body
    }

    func udp(_ sourcePort: UInt16 = 40000, _ destinationPort: UInt16 = 53, payload: [UInt8] = [1, 2, 3, 4]) -> [UInt8] {
        ipv4(17, big(sourcePort) + big(destinationPort) + big(UInt16(8 + payload.count)) + big(checksum) + payload)
    }

    func tcp(
        _ sourcePort: UInt16 = 40000, _ destinationPort: UInt16 = 80, sequence: UInt32 = 7, flags: UInt8 = 0x02,
        options: [UInt8] = [2, 4, 5, 0xB4], payload: [UInt8] = []
    ) -> [UInt8] {
        let words = UInt8(5 + options.count / 4)
        return ipv4(
            6,
            big(sourcePort) + big(destinationPort) + big32(sequence) + big32(0) + [words << 4, flags] + big(64240)
                + big(checksum)
                + big(0) + options + payload)
    }

    func echo(type: UInt8 = 8, identifier: UInt16 = 69, sequence: UInt16 = 1, payload: [UInt8] = [9, 9, 9]) -> [UInt8] {
        ipv4(1, [type, 0] + big(checksum) + big(identifier) + big(sequence) + payload)
    }

    /// An ICMP error that quotes `inner`.
    func unreachable(_ inner: [UInt8]) -> [UInt8] { ipv4(1, [3, 1] + big(checksum) + [0, 0, 0, 0] + inner) }

    func ipv6(
        next: UInt8, hopLimit: UInt8 = 64, flow: UInt32 = 0xABCDE, source: UInt8 = 1, destination: UInt8 = 2, _ body: [UInt8]
    ) -> [UInt8] {
        let prefix: [UInt8] = [0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11)
        return big32(6 << 28 | flow) + big(UInt16(body.count)) + [next, hopLimit] + prefix + [source] + prefix + [destination]
            + body
    }
}

func big(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

func big32(_ value: UInt32) -> [UInt8] { [24, 16, 8, 0].map { UInt8(value >> $0 & 255) } }

func native16(_ value: UInt16) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }

func native32(_ value: UInt32) -> [UInt8] { [0, 8, 16, 24].map { UInt8(value >> $0 & 255) } }
