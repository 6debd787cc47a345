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
        let length = Int(number32(bytes, offset + 4))
        guard length >= 12, length % 4 == 0, length <= CaptureFormat.longestBlock else { return .unsound }
        guard available >= length else { return .unfinished }
        guard number32(bytes, offset + length - 4) == UInt32(length) else { return .unsound }
        return .block(type: type, body: offset + 8..<offset + length - 4, end: offset + length)
    }

    /// The packet at `offset`, if it stands in a sound enhanced packet block in this machine's byte order.
    @inline(__always)
    func nextPacket(
        in bytes: RawSpan, at offset: inout Int, into packet: inout CapturedPacket, interfaces: [CaptureInterface]
    ) -> Bool {
        let start = offset
        guard !isSwapped, bytes.has(32, at: start), bytes.native32(start) == CaptureFormat.enhancedPacket else { return false }
        let length = Int(bytes.native32(start &+ 4))
        guard length >= 32, length % 4 == 0, length <= CaptureFormat.longestBlock, bytes.has(length, at: start),
            bytes.native32(start &+ length &- 4) == UInt32(truncatingIfNeeded: length)
        else { return false }
        let number = firstInterface &+ Int(bytes.native32(start &+ 8))
        let captured = Int(bytes.native32(start &+ 20))
        guard number < interfaces.count, captured <= length &- 32 else { return false }
        let ticks = UInt64(bytes.native32(start &+ 12)) << 32 | UInt64(bytes.native32(start &+ 16))
        packet.interface = number
        packet.time = interfaces[number].clock.microseconds(ticks)
        packet.data = start &+ 28..<start &+ 28 &+ captured
        offset = start &+ length
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
            guard body.count >= 20 else { return nil }
            let number = firstInterface + Int(number32(bytes, body.lowerBound))
            return packet(number, ticksAt: body.lowerBound + 4, lengthAt: body.lowerBound + 12, body, bytes, interfaces)
        case CaptureFormat.obsoletePacket:
            guard body.count >= 20 else { return nil }
            let number = firstInterface + Int(number16(bytes, body.lowerBound))
            return packet(number, ticksAt: body.lowerBound + 4, lengthAt: body.lowerBound + 12, body, bytes, interfaces)
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

    private func packet(
        _ number: Int, ticksAt: Int, lengthAt: Int, _ body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]
    ) -> CaptureItem? {
        let captured = Int(number32(bytes, lengthAt))
        let start = lengthAt + 8
        guard number < interfaces.count, captured <= body.upperBound - start else { return nil }
        let ticks = UInt64(number32(bytes, ticksAt)) << 32 | UInt64(number32(bytes, ticksAt + 4))
        return .packet(
            CapturedPacket(
                interface: number, time: interfaces[number].clock.microseconds(ticks), data: start..<start + captured))
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
