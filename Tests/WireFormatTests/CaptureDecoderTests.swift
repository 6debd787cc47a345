import Testing
import WireFormat

/// Builds captures byte by byte, in either byte order.
struct CaptureBytes {
    var isBigEndian = false
    var bytes: [UInt8] = []

    func number(_ value: UInt64, _ count: Int) -> [UInt8] {
        let little = (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
        return isBigEndian ? little.reversed() : little
    }

    // MARK: pcap

    mutating func pcapHeader(magic: UInt32, linkType: UInt32 = 239) {
        bytes += number(UInt64(magic), 4) + number(2, 2) + number(4, 2) + number(0, 8) + number(262_144, 4)
        bytes += number(UInt64(linkType), 4)
    }

    mutating func record(seconds: UInt64, fraction: UInt64, _ data: [UInt8]) {
        bytes += number(seconds, 4) + number(fraction, 4) + number(UInt64(data.count), 4) + number(UInt64(data.count), 4)
        bytes += data
    }

    // MARK: pcapng

    mutating func block(_ type: UInt32, _ body: [UInt8]) {
        let padded = body + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
        let length = number(UInt64(12 + padded.count), 4)
        bytes += number(UInt64(type), 4) + length + padded + length
    }

    mutating func section(application: String? = nil) {
        let options = application.map { option(4, Array($0.utf8)) + number(0, 4) } ?? []
        block(0x0A0D_0D0A, number(0x1A2B_3C4D, 4) + number(1, 2) + number(0, 2) + number(.max, 8) + options)
    }

    func option(_ code: UInt64, _ value: [UInt8]) -> [UInt8] {
        number(code, 2) + number(UInt64(value.count), 2) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    mutating func interface(_ name: String, linkType: UInt64 = 239, options: [UInt8] = []) {
        block(1, number(linkType, 2) + number(0, 2) + number(0, 4) + option(2, Array(name.utf8)) + options + number(0, 4))
    }

    mutating func packet(_ interface: UInt64, ticks: UInt64, _ data: [UInt8]) {
        let padding = [UInt8](repeating: 0, count: (4 - data.count % 4) % 4)
        block(
            6,
            number(interface, 4) + number(ticks >> 32, 4) + number(ticks & 0xFFFF_FFFF, 4) + number(UInt64(data.count), 4)
                + number(UInt64(data.count), 4) + data + padding)
    }
}

/// All items of a file, read in windows of `window` bytes.
private func items(_ bytes: [UInt8], window: Int = .max) -> (
    packets: [(CapturedPacket, [UInt8])], damaged: Int, all: Int, ends: [Int]
) {
    var packets: [(CapturedPacket, [UInt8])] = []
    var damaged = 0
    // Where each item ends.
    var ends: [Int] = []
    var used = 0
    var size = min(window, bytes.count)
    guard var decoder = CaptureDecoder(beginning: bytes.octets) else {
        return ([], 0, 0, [])
    }
    while true {
        let view = Array(bytes[used..<min(bytes.count, used + size)])
        let isLast = used + view.count == bytes.count
        var offset = 0
        let item = decoder.next(in: view.octets, at: &offset, isLast: isLast)
        switch item {
        case .packet(let packet): packets.append((packet, Array(view[packet.data])))
        case .damage(let range): damaged += range.count
        case .trace, .other, .loss: break
        case nil:
            if isLast { return (packets, damaged, used, ends) }
            size += max(window, 16)
        }
        used += offset
        ends.append(used)
        if offset > 0 { size = min(window, bytes.count) }
    }
}

@Suite struct CaptureDecoderTests {
    static let payloads = (0..<20).map { index in [2, 0, 0, 5] + [UInt8](repeating: UInt8(index), count: 20 + index) }

    static func pcap(magic: UInt32 = 0xA1B2_C3D4, isBigEndian: Bool = false) -> [UInt8] {
        var file = CaptureBytes(isBigEndian: isBigEndian)
        file.pcapHeader(magic: magic)
        for (index, payload) in payloads.enumerated() {
            file.record(seconds: 1_700_000_000 + UInt64(index), fraction: magic == 0xA1B2_C3D4 ? 250_000 : 250_000_000, payload)
        }
        return file.bytes
    }

    static func pcapng(isBigEndian: Bool = false) -> [UInt8] {
        var file = CaptureBytes(isBigEndian: isBigEndian)
        file.section()
        file.interface("guest")
        file.interface("host")
        for (index, payload) in payloads.enumerated() {
            file.packet(UInt64(index % 2), ticks: 1_700_000_000_250_000 + UInt64(index) * 1_000_000, payload)
        }
        return file.bytes
    }

    struct Form: CustomTestStringConvertible {
        var name: String
        var bytes: [UInt8]
        var testDescription: String { name }
    }

    static let forms = [
        Form(name: "pcap, microseconds, little-endian", bytes: pcap()),
        Form(name: "pcap, microseconds, big-endian", bytes: pcap(isBigEndian: true)),
        Form(name: "pcap, nanoseconds, little-endian", bytes: pcap(magic: 0xA1B2_3C4D)),
        Form(name: "pcap, nanoseconds, big-endian", bytes: pcap(magic: 0xA1B2_3C4D, isBigEndian: true)),
        Form(name: "pcapng, little-endian", bytes: pcapng()),
        Form(name: "pcapng, big-endian", bytes: pcapng(isBigEndian: true)),
    ]

    @Test("every packet comes with its time and its bytes", arguments: forms)
    func everyForm(_ form: Form) {
        let read = items(form.bytes)
        #expect(read.packets.map(\.1) == Self.payloads)
        #expect(read.packets.map(\.0.time) == (0..<20).map { 1_700_000_000_250_000 + Int64($0) * 1_000_000 })
        #expect(read.damaged == 0 && read.all == form.bytes.count)
    }

    @Test("the size of the window makes no difference", arguments: forms)
    func anyWindow(_ form: Form) {
        for window in [1, 7, 24, 64, 300] {
            #expect(items(form.bytes, window: window).packets.map(\.1) == Self.payloads)
        }
    }

    @Test("cut at any byte, all packets before the cut are read and the rest is named", arguments: forms)
    func cutAnywhere(_ form: Form) {
        let whole = items(form.bytes)
        let headers = whole.ends.count - 20
        for end in 24..<form.bytes.count {
            let read = items(Array(form.bytes[..<end]))
            let intact = whole.ends.filter { $0 <= end }
            #expect(read.packets.map(\.1).elementsEqual(Self.payloads.prefix(max(0, intact.count - headers))))
            #expect(read.damaged == end - (intact.last ?? 0))
            #expect(read.all == end)
        }
        #expect(items(Array(form.bytes.dropLast())).packets.count == 19)
    }

    @Test("a bit flipped anywhere costs at most two packets", arguments: forms)
    func flipAnywhere(_ form: Form) {
        let header = form.name.hasPrefix("pcapng") ? 28 + 36 + 36 : 24
        for position in header..<form.bytes.count {
            for bit in 0..<8 {
                var bytes = form.bytes
                bytes[position] ^= 1 << bit
                let read = items(bytes)
                let intact = read.packets.filter { Self.payloads.contains($0.1) }.count
                #expect(intact >= 18, "byte \(position), bit \(bit)")
                #expect(read.all == bytes.count)
            }
        }
    }

    @Test("a byte cut out or put in anywhere costs at most three packets", arguments: forms)
    func otherLengths(_ form: Form) {
        let header = form.name.hasPrefix("pcapng") ? 28 + 36 + 36 : 24
        for position in header..<form.bytes.count {
            for change in 0..<3 {
                var bytes = form.bytes
                switch change {
                case 0: bytes.remove(at: position)
                case 1: bytes.insert(UInt8(position & 0xFF), at: position)
                default: bytes.insert(contentsOf: [0, 0, 0, 6, 0, 0, 7], at: position)
                }
                for window in [Int.max, 100] {
                    let read = items(bytes, window: window)
                    #expect(
                        read.packets.filter { Self.payloads.contains($0.1) }.count >= 17, "byte \(position), change \(change)")
                    #expect(read.all == bytes.count)
                }
            }
        }
    }

    @Test("a file without its first bytes is recognised, with its times", arguments: forms)
    func beginning(_ form: Form) {
        for count in [1, 2, 3, 4] {
            var bytes = form.bytes
            for index in 0..<count { bytes[index] = 0 }
            let read = items(bytes)
            #expect(read.packets.map(\.1) == Self.payloads && read.damaged > 0, "\(count) bytes")
            // A magic number that is gone altogether is told from the times.
            #expect(read.packets.map(\.0.time) == (0..<20).map { 1_700_000_000_250_000 + Int64($0) * 1_000_000 })
        }
    }

    @Test("interfaces whose descriptions are missing have no packets, and those behind have their own")
    func missingInterface() {
        var file = CaptureBytes()
        file.section(application: CaptureFormat.application)
        var ends = [file.bytes.count]
        for (number, name) in ["host", "guest", "inet"].enumerated() {
            file.interface(name)
            ends.append(file.bytes.count)
            for index in 0..<3 { file.packet(UInt64(number), ticks: 5, [2, 0, 0, UInt8(number), UInt8(index)]) }
        }
        var bytes = file.bytes
        // The second description: its length does not agree any more.
        bytes[ends[2] - 4] ^= 0xFF
        guard var decoder = CaptureDecoder(beginning: bytes.octets) else { return }
        var offset = 0
        var names: [String] = []
        while let item = decoder.next(in: bytes.octets, at: &offset, isLast: true) {
            guard case .packet(let packet) = item else { continue }
            names.append("\(bytes[packet.data.lowerBound + 3]) \(decoder.interfaces[packet.interface].name ?? "-")")
        }
        #expect(names == ["0 host", "0 host", "0 host", "2 inet", "2 inet", "2 inet"])
    }

    @Test func flipsInTheHeadersNeverTrap() {
        for form in Self.forms {
            for position in 0..<100 {
                for bit in 0..<8 {
                    var bytes = form.bytes
                    bytes[position] ^= 1 << bit
                    let read = items(bytes)
                    // An interface's description may have become a packet.
                    #expect(read.packets.count <= 22 && read.all <= bytes.count)
                }
            }
        }
    }

    @Test func sectionsHaveInterfacesOfTheirOwn() throws {
        var file = CaptureBytes()
        file.section()
        file.interface("one")
        file.packet(0, ticks: 5, [1, 2, 3, 4])
        var second = CaptureBytes(isBigEndian: true)
        second.section()
        second.interface("two", options: second.option(9, [9]) + second.option(14, second.number(100, 8)))
        second.packet(0, ticks: 7_000_000_000, [5, 6, 7, 8])
        let bytes = file.bytes + second.bytes
        #expect(items(bytes).packets.map(\.0.interface) == [0, 1])
        // Nanoseconds, and 100 seconds more.
        #expect(items(bytes).packets.map(\.0.time) == [5, 107_000_000])
        let begun = CaptureDecoder(beginning: bytes.octets)
        var decoder = try #require(begun)
        var offset = 0
        while decoder.next(in: bytes.octets, at: &offset, isLast: true) != nil {}
        #expect(decoder.interfaces.map(\.name) == ["one", "two"])
        #expect(decoder.interfaces.map(\.isSwapped) == [false, true])
    }

    @Test(
        "resolutions of pcapng",
        arguments: [
            (6, 1_500_000, 1_500_000), (3, 1500, 1_500_000), (0, 2, 2_000_000),
            (9, 1_500_000_000, 1_500_000), (0x80 | 10, 1536, 1_500_000), (18, 1_500_000_000_000_000_000, 1_500_000),
            (99, 5, 5), (0x80 | 99, 5, 5),
        ] as [(UInt8, UInt64, Int64)])
    func resolutions(_ code: UInt8, _ ticks: UInt64, _ microseconds: Int64) {
        var file = CaptureBytes()
        file.section()
        file.interface("x", options: file.option(9, [code]))
        file.packet(0, ticks: ticks, [1, 2, 3, 4])
        #expect(items(file.bytes).packets.first?.0.time == microseconds)
    }

    @Test func otherFilesAreNoCaptures() {
        for text in ["", "Nov 21 10:59:20 host kernel: ", "\u{1F}\u{8B}", String(repeating: "x", count: 100)] {
            #expect(CaptureDecoder(beginning: Array(text.utf8).octets) == nil)
        }
    }

    @Test func attributesOfTheOtherByteOrderAreTurnedRound() throws {
        // family 2, version 0, group 5; then NFULA_MARK (2) of 8 bytes and a cut attribute, big-endian
        let swapped: [UInt8] = [2, 0, 0, 5, 0, 8, 0, 2, 0, 0, 0, 42, 0, 9]
        let turned = CaptureDecoder.swappedAttributes(swapped.octets, 0..<swapped.count)
        let message = try NFLogMessage(parsing: turned.octets, body: 0..<turned.count)
        #expect(message.mark == 42 && message.family == 2)
    }
}
