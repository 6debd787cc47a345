/// pcapng's blocks. Each says its length at its beginning and at its end.
struct PcapngFraming: Sendable {
    private var isSwapped = false
    /// Index of the section's first interface.
    private var firstInterface = 0

    private func number32(_ bytes: RawSpan, _ offset: Int) -> UInt32 {
        let value = bytes.native32(offset)
        return isSwapped ? value.byteSwapped : value
    }

    private func number16(_ bytes: RawSpan, _ offset: Int) -> UInt16 {
        let value = bytes.native16(offset)
        return isSwapped ? value.byteSwapped : value
    }

    private enum Framed {
        case block(type: UInt32, body: Range<Int>, end: Int)
        case unfinished
        case unsound
    }

    /// How long the block at `offset` says that it is; `nil` where none can be.
    @inline(__always)
    private func length(_ bytes: RawSpan, _ offset: Int) -> Int? {
        let length = Int(number32(bytes, offset + 4))
        return length >= 12 && length % 4 == 0 && length <= CaptureFormat.longestBlock ? length : nil
    }

    /// Whether a block says at its end what it says at its beginning.
    @inline(__always)
    private func isClosed(_ bytes: RawSpan, _ offset: Int, _ length: Int) -> Bool {
        number32(bytes, offset + length - 4) == UInt32(truncatingIfNeeded: length)
    }

    /// The block at `offset`, whatever its type.
    private mutating func frame(_ bytes: RawSpan, _ offset: Int) -> Framed {
        let available = bytes.byteCount - offset
        guard available >= 12 else { return .unfinished }
        if bytes.native32(offset) == CaptureFormat.sectionHeader {
            // The byte order is the section's own.
            switch bytes.native32(offset + 8) {
            case CaptureFormat.byteOrderMagic: isSwapped = false
            case CaptureFormat.byteOrderMagic.byteSwapped: isSwapped = true
            default: return .unsound
            }
        }
        let type = number32(bytes, offset)
        guard let length = length(bytes, offset) else { return .unsound }
        guard available >= length else { return .unfinished }
        guard isClosed(bytes, offset, length) else { return .unsound }
        return .block(type: type, body: offset + 8..<offset + length - 4, end: offset + length)
    }

    /// Puts the packet at `offset` into `packet`, if it stands in a sound enhanced packet block.
    @inline(__always)
    func nextPacket(
        in bytes: RawSpan, at offset: inout Int, into packet: inout CapturedPacket, interfaces: [CaptureInterface]
    ) -> Bool {
        guard bytes.has(12, at: offset), number32(bytes, offset) == CaptureFormat.enhancedPacket,
            let length = length(bytes, offset), bytes.has(length, at: offset), isClosed(bytes, offset, length),
            fill(&packet, enhanced: offset + 8..<offset + length - 4, bytes, interfaces)
        else { return false }
        offset += length
        return true
    }

    mutating func next(
        in bytes: RawSpan, at offset: inout Int, isLast: Bool, interfaces: inout [CaptureInterface]
    ) -> CaptureItem? {
        guard offset < bytes.byteCount else { return nil }
        let start = offset
        let order = isSwapped
        switch frame(bytes, start) {
        case .block(let type, let body, let end):
            offset = end
            guard let item = read(type, body, bytes, &interfaces) else { return .damage(start..<end) }
            return item
        case .unfinished where !isLast:
            isSwapped = order
            return nil
        case .unfinished, .unsound:
            isSwapped = order
            return resynchronise(bytes, &offset, isLast)
        }
    }

    /// Looks for the next block of a known type whose two lengths agree; blocks stand at multiples of four.
    private mutating func resynchronise(_ bytes: RawSpan, _ offset: inout Int, _ isLast: Bool) -> CaptureItem? {
        let start = offset
        let order = isSwapped
        let known: Set<UInt32> = [
            CaptureFormat.sectionHeader, CaptureFormat.interfaceDescription, CaptureFormat.obsoletePacket,
            CaptureFormat.simplePacket, CaptureFormat.nameResolution, CaptureFormat.interfaceStatistics,
            CaptureFormat.enhancedPacket, CaptureFormat.traceBlock,
        ]
        var position = start + 4
        while bytes.byteCount - position >= 12 {
            if case .block(let type, _, _) = frame(bytes, position), known.contains(type) {
                isSwapped = order
                offset = position
                return .damage(start..<position)
            }
            isSwapped = order
            position += 4
        }
        if !isLast {
            // A block may begin here whose end is not in the window yet, at a multiple of four.
            let kept = CaptureFormat.searchOverlap
            guard position - start > 2 * kept else { return nil }
            offset = position - kept
        } else {
            offset = bytes.byteCount
        }
        return .damage(start..<offset)
    }

    /// - Returns: `nil` where the block's body contradicts its type.
    private mutating func read(
        _ type: UInt32, _ body: Range<Int>, _ bytes: RawSpan, _ interfaces: inout [CaptureInterface]
    ) -> CaptureItem? {
        switch type {
        case CaptureFormat.sectionHeader:
            firstInterface = interfaces.count
            return .other
        case CaptureFormat.interfaceDescription:
            guard body.count >= 8, interfaces.count < CaptureFormat.mostInterfaces else { return nil }
            interfaces.append(interface(body, bytes))
            return .other
        case CaptureFormat.interfaceStatistics:
            return statistics(body, bytes, interfaces)
        case CaptureFormat.enhancedPacket:
            var packet = CapturedPacket(interface: 0, time: nil, data: 0..<0)
            return fill(&packet, enhanced: body, bytes, interfaces) ? .packet(packet) : nil
        case CaptureFormat.obsoletePacket:
            guard body.count >= 20 else { return nil }
            var packet = CapturedPacket(interface: 0, time: nil, data: 0..<0)
            let number = firstInterface + Int(number16(bytes, body.lowerBound))
            return fill(&packet, number, body, bytes, interfaces) ? .packet(packet) : nil
        case CaptureFormat.simplePacket:
            guard body.count >= 4, firstInterface < interfaces.count else { return nil }
            let original = Int(number32(bytes, body.lowerBound))
            let start = body.lowerBound + 4
            return .packet(
                CapturedPacket(
                    interface: firstInterface, time: nil, data: start..<min(body.upperBound, start + original)))
        case CaptureFormat.traceBlock:
            return .trace(body)
        default:
            return .other
        }
    }

    @inline(__always)
    private func fill(
        _ packet: inout CapturedPacket, enhanced body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]
    ) -> Bool {
        guard body.count >= 20 else { return false }
        return fill(&packet, firstInterface + Int(number32(bytes, body.lowerBound)), body, bytes, interfaces)
    }

    /// Behind the interface's number enhanced and obsolete packet blocks are the same: time, captured and original length, packet.
    ///
    /// - Parameter body: 20 bytes at least.
    /// - Returns: whether what the block says is possible.
    @inline(__always)
    private func fill(
        _ packet: inout CapturedPacket, _ number: Int, _ body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]
    ) -> Bool {
        let captured = Int(number32(bytes, body.lowerBound + 12))
        let start = body.lowerBound + 20
        guard number < interfaces.count, captured <= body.upperBound - start else { return false }
        let ticks =
            UInt64(number32(bytes, body.lowerBound + 4)) << 32 | UInt64(number32(bytes, body.lowerBound + 8))
        packet.interface = number
        packet.time = interfaces[number].clock.microseconds(ticks)
        packet.data = start..<start + captured
        return true
    }

    /// What the capturing program says that it lost (`isb_ifdrop`, `isb_osdrop`).
    private func statistics(_ body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]) -> CaptureItem {
        guard body.count >= 12 else { return .other }
        let number = firstInterface + Int(number32(bytes, body.lowerBound))
        guard number < interfaces.count else { return .other }
        var lost: UInt64 = 0
        var offset = body.lowerBound + 12
        while body.upperBound - offset >= 4 {
            let code = number16(bytes, offset)
            let length = Int(number16(bytes, offset + 2))
            guard code != 0, length <= body.upperBound - offset - 4 else { break }
            if code == 5 || code == 7, length == 8 {
                let first = UInt64(number32(bytes, offset + 4))
                let second = UInt64(number32(bytes, offset + 8))
                lost &+= isSwapped ? first << 32 | second : second << 32 | first
            }
            offset += 4 + (length + 3) & ~3
        }
        return lost > 0 ? .loss(interface: number, packets: lost) : .other
    }

    private func interface(_ body: Range<Int>, _ bytes: RawSpan) -> CaptureInterface {
        var interface = CaptureInterface(
            linkType: number16(bytes, body.lowerBound), name: nil, isSwapped: isSwapped)
        var offset = body.lowerBound + 8
        while body.upperBound - offset >= 4 {
            let code = number16(bytes, offset)
            let length = Int(number16(bytes, offset + 2))
            guard code != 0, length <= body.upperBound - offset - 4 else { break }
            let value = offset + 4..<offset + 4 + length
            switch code {
            case 2: interface.name = bytes.text(value)  // if_name
            case 9 where length >= 1: interface.clock.ticksPerSecond = Self.resolution(bytes.byte(value.lowerBound))
            case 14 where length >= 8:  // if_tsoffset
                let low = number32(bytes, value.lowerBound)
                let high = number32(bytes, value.lowerBound + 4)
                let pair = isSwapped ? UInt64(low) << 32 | UInt64(high) : UInt64(high) << 32 | UInt64(low)
                interface.clock.offset = Int64(bitPattern: pair)
            default: break
            }
            offset += 4 + (length + 3) & ~3
        }
        return interface
    }

    /// `if_tsresol`: 10^-n, or 2^-n with the most significant bit set.
    private static func resolution(_ code: UInt8) -> UInt64 {
        let exponent = Int(code & 0x7F)
        if code & 0x80 != 0 { return exponent < 63 ? 1 << UInt64(exponent) : 1_000_000 }
        guard exponent <= 18 else { return 1_000_000 }
        return (0..<exponent).reduce(1) { product, _ in product * 10 }
    }
}
