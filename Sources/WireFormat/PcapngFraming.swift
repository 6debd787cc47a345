/// pcapng's blocks. Each says its length at its beginning and at its end.
struct PcapngFraming: Sendable {
    private var isSwapped: Bool
    /// Whether a sound block of this byte order has been read.
    private var isOrderKnown = false
    /// Index of the section's first interface.
    private var firstInterface = 0
    /// Whether ipt-trace wrote the section. It writes a packet of an interface right behind the interface's description.
    private var isOwnSection = false
    /// Whether bytes of the section could not be understood: they may have held descriptions of interfaces, so that the numbers of
    /// those that follow are not known.
    private var isNumberingDoubtful = false
    /// An interface whose number the next packet tells.
    private var pending: CaptureInterface?

    /// Bytes of a section header, with the names of the machine and the program.
    private static let longestHeader = 512

    init(isSwapped: Bool = false) { self.isSwapped = isSwapped }

    /// A file whose beginning is damaged: finds the first sound block that another one follows, in either byte order.
    init?(damagedBeginning bytes: RawSpan) {
        var candidates = [PcapngFraming(), PcapngFraming(isSwapped: true)]
        guard bytes.byteCount >= 12 else { return nil }
        for position in 0...bytes.byteCount - 12 {
            for index in candidates.indices
            where candidates[index].isLikely(bytes, position, isLast: true, isFollowed: true)
                && candidates[index].leadsToPackets(bytes, position)
            {
                self = candidates[index]
                // Descriptions of interfaces may be missing, but for little more than a section header.
                isNumberingDoubtful =
                    position > Self.longestHeader || bytes.byteCount < position + 4
                    || number32(bytes, position) != CaptureFormat.interfaceDescription
                return
            }
        }
        return nil
    }

    /// Whether a packet with a time stands among the first blocks from `offset` on, all of them sound. Two numbers that agree with
    /// each other are found in most programs; a packet behind them is not.
    private func leadsToPackets(_ bytes: RawSpan, _ offset: Int) -> Bool {
        var framing = self
        var offset = offset
        for _ in 0..<Self.blocksBeforePackets {
            guard case .block(let type, let body, let end) = framing.frame(bytes, offset) else { return false }
            switch type {
            case CaptureFormat.traceBlock: return true
            case CaptureFormat.enhancedPacket:
                return body.count >= 40 && framing.number32(bytes, body.lowerBound + 4) != 0
                    && framing.isPlausible(type, body, bytes, optionsEnd: body.upperBound)
            default: break
            }
            guard end < bytes.byteCount else { return false }
            offset = end
        }
        return false
    }

    /// Descriptions of interfaces stand before the first packet, one for each namespace.
    private static let blocksBeforePackets = 4096

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

    /// Whether a block's trailing length equals its leading one.
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
            pending == nil, fill(&packet, enhanced: offset + 8..<offset + length - 4, bytes, interfaces)
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
            // A file begins with a section header.
            let isFirst = !isOrderKnown
            let isPossible = isFirst ? type == CaptureFormat.sectionHeader || Self.isKnown(type) : Self.isAssigned(type)
            guard isPossible, let item = read(type, body, bytes, &interfaces) else {
                // At a file's beginning it was the section header.
                isNumberingDoubtful = isNumberingDoubtful || !isFirst
                return .damage(start..<end)
            }
            isOrderKnown = true
            return item
        case .unfinished where !isLast:
            isSwapped = order
            return nil
        case .unfinished, .unsound:
            isSwapped = order
            return resynchronise(bytes, &offset, isLast)
        }
    }

    /// Looks for the next sound block, at every byte: missing or surplus bytes may be of any number.
    private mutating func resynchronise(_ bytes: RawSpan, _ offset: inout Int, _ isLast: Bool) -> CaptureItem? {
        let start = offset
        isNumberingDoubtful = isNumberingDoubtful || isOrderKnown
        pending = nil
        var position = start + 1
        while bytes.byteCount - position >= 12 {
            if isLikely(bytes, position, isLast: isLast, isFollowed: false) {
                offset = position
                return .damage(start..<position)
            }
            if !isOrderKnown {
                isSwapped.toggle()
                if isLikely(bytes, position, isLast: isLast, isFollowed: true) {
                    offset = position
                    return .damage(start..<position)
                }
                isSwapped.toggle()
            }
            position += 1
        }
        if !isLast {
            guard position - start > CaptureFormat.searchOverlap else { return nil }
            // A block may begin in the last bytes, too few of which are there to tell.
            offset = position - 32
        } else {
            offset = bytes.byteCount
        }
        return .damage(start..<offset)
    }

    /// Whether a block begins at `offset`, as far as can be told among bytes that may be anything. The byte order stays as it is.
    ///
    /// - Parameter isFollowed: whether another block, or the end of the file, must follow.
    private mutating func isLikely(_ bytes: RawSpan, _ offset: Int, isLast: Bool, isFollowed: Bool) -> Bool {
        let order = isSwapped
        defer { isSwapped = order }
        let type = number32(bytes, offset)
        guard type == CaptureFormat.sectionHeader || Self.isKnown(type) else { return false }
        switch frame(bytes, offset) {
        case .unsound: return false
        case .unfinished:
            // Its end decides when it is in the window.
            let available = bytes.byteCount - offset
            guard !isLast, !isFollowed, !Self.isWeak(type), available >= 32, let length = length(bytes, offset) else {
                return false
            }
            let longest = type == CaptureFormat.traceBlock ? CaptureFormat.longestBlock : CaptureFormat.longestPacketBlock
            guard length <= longest else { return false }
            return isPlausible(type, offset + 8..<offset + length - 4, bytes, optionsEnd: offset + 8)
        case .block(let type, let body, let end):
            guard isPlausible(type, body, bytes, optionsEnd: body.upperBound) else { return false }
            guard isFollowed || Self.isWeak(type), end < bytes.byteCount else { return true }
            guard bytes.byteCount - end >= 12 else { return !isLast }
            let next = number32(bytes, end)
            guard next == CaptureFormat.sectionHeader || Self.isAssigned(next) else { return false }
            if case .unsound = frame(bytes, end) { return false }
            return true
        }
    }

    private static func isKnown(_ type: UInt32) -> Bool {
        switch type {
        case CaptureFormat.interfaceDescription...CaptureFormat.enhancedPacket, CaptureFormat.traceBlock: true
        default: false
        }
    }

    /// Types whose bodies say little about themselves.
    private static func isWeak(_ type: UInt32) -> Bool {
        switch type {
        case CaptureFormat.obsoletePacket, CaptureFormat.simplePacket, CaptureFormat.nameResolution,
            CaptureFormat.interfaceStatistics:
            true
        default: false
        }
    }

    /// Block types of the format and its registry, and those for local use. Any other type means a damaged block.
    private static func isAssigned(_ type: UInt32) -> Bool {
        switch type {
        case CaptureFormat.sectionHeader, 1...0xC, 0x0101...0x010B, 0x0201...0x0221, 0x0BAD, 0x4000_0BAD,
            0x8000_0000...UInt32.max:
            true
        default: false
        }
    }

    /// Whether a block's body fits its type.
    ///
    /// - Parameter optionsEnd: options are looked at up to here.
    private func isPlausible(_ type: UInt32, _ body: Range<Int>, _ bytes: RawSpan, optionsEnd: Int) -> Bool {
        switch type {
        case CaptureFormat.sectionHeader: return body.count >= 16 && number16(bytes, body.lowerBound + 4) == 1
        case CaptureFormat.interfaceDescription:
            return body.count >= 8 && number16(bytes, body.lowerBound + 2) == 0
                && hasOptions(bytes, body.lowerBound + 8, optionsEnd)
        case CaptureFormat.enhancedPacket:
            guard body.count >= 20 else { return false }
            let captured = Int(number32(bytes, body.lowerBound + 12))
            guard number32(bytes, body.lowerBound) < CaptureFormat.mostInterfaces, captured <= body.count - 20,
                captured <= number32(bytes, body.lowerBound + 16)
            else { return false }
            return hasOptions(bytes, body.lowerBound + 20 + (captured + 3) & ~3, optionsEnd)
        case CaptureFormat.obsoletePacket:
            guard body.count >= 20 else { return false }
            let captured = Int(number32(bytes, body.lowerBound + 12))
            return captured <= body.count - 20 && captured <= number32(bytes, body.lowerBound + 16)
        case CaptureFormat.simplePacket:
            return body.count >= 4 && number32(bytes, body.lowerBound) <= CaptureFormat.longestPacket
        case CaptureFormat.interfaceStatistics:
            return body.count >= 12 && number32(bytes, body.lowerBound) < CaptureFormat.mostInterfaces
                && hasOptions(bytes, body.lowerBound + 12, optionsEnd)
        case CaptureFormat.nameResolution: return body.count >= 4
        case CaptureFormat.traceBlock:
            return body.count >= 12 && Int(bytes.little32(body.lowerBound + 8)) <= body.count - 12
        default: return true
        }
    }

    /// Whether options stand from `offset` to `end`, as far as the first ones tell.
    private func hasOptions(_ bytes: RawSpan, _ offset: Int, _ end: Int) -> Bool {
        var offset = offset
        for _ in 0..<64 {
            guard end - offset >= 4 else { break }
            let code = number16(bytes, offset)
            let length = Int(number16(bytes, offset + 2))
            if code == 0 { return length == 0 }
            guard length <= end - offset - 4 else { return false }
            offset += 4 + (length + 3) & ~3
        }
        return true
    }

    /// - Returns: `nil` where the block's body contradicts its type.
    private mutating func read(
        _ type: UInt32, _ body: Range<Int>, _ bytes: RawSpan, _ interfaces: inout [CaptureInterface]
    ) -> CaptureItem? {
        switch type {
        case CaptureFormat.sectionHeader:
            firstInterface = interfaces.count
            isNumberingDoubtful = false
            pending = nil
            isOwnSection = isOwn(body, bytes)
            return .other
        case CaptureFormat.interfaceDescription:
            guard body.count >= 8, interfaces.count < CaptureFormat.mostInterfaces else { return nil }
            if !isNumberingDoubtful {
                interfaces.append(interface(body, bytes))
            } else {
                guard isOwnSection else { return nil }
                pending = interface(body, bytes)
            }
            return .other
        case CaptureFormat.interfaceStatistics:
            return statistics(body, bytes, interfaces)
        case CaptureFormat.enhancedPacket:
            if pending != nil, body.count >= 20 { number(Int(number32(bytes, body.lowerBound)), &interfaces) }
            var packet = CapturedPacket(interface: 0, time: nil, data: 0..<0)
            return fill(&packet, enhanced: body, bytes, interfaces) ? .packet(packet) : nil
        case CaptureFormat.obsoletePacket:
            guard body.count >= 20 else { return nil }
            var packet = CapturedPacket(interface: 0, time: nil, data: 0..<0)
            let number = firstInterface + Int(number16(bytes, body.lowerBound))
            return fill(&packet, number, body, bytes, interfaces) ? .packet(packet) : nil
        case CaptureFormat.simplePacket:
            guard body.count >= 4, firstInterface < interfaces.count, interfaces[firstInterface].isDefined else { return nil }
            let original = Int(number32(bytes, body.lowerBound))
            let start = body.lowerBound + 4
            return .packet(
                CapturedPacket(
                    interface: firstInterface, time: nil, data: start..<min(body.upperBound, start + original)))
        case CaptureFormat.traceBlock:
            isOwnSection = true
            return .trace(body)
        default:
            return .other
        }
    }

    /// Whether the section's `shb_userappl` says that ipt-trace wrote it.
    private func isOwn(_ body: Range<Int>, _ bytes: RawSpan) -> Bool {
        var offset = body.lowerBound + 16
        while body.upperBound - offset >= 4 {
            let code = number16(bytes, offset)
            let length = Int(number16(bytes, offset + 2))
            guard code != 0, length <= body.upperBound - offset - 4 else { break }
            if code == 4 { return bytes.text(offset + 4..<offset + 4 + length) == CaptureFormat.application }
            offset += 4 + (length + 3) & ~3
        }
        return false
    }

    /// The interface described last has the number that the packet behind it names. Those between are not known.
    private mutating func number(_ number: Int, _ interfaces: inout [CaptureInterface]) {
        guard let new = pending else { return }
        pending = nil
        // Numbers begin anew: the section's header is missing too.
        if firstInterface + number < interfaces.count { firstInterface = interfaces.count }
        guard firstInterface + number < CaptureFormat.mostInterfaces else { return }
        while interfaces.count < firstInterface + number { interfaces.append(.undefined) }
        interfaces.append(new)
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
    /// - Returns: whether the block's values are possible.
    @inline(__always)
    private func fill(
        _ packet: inout CapturedPacket, _ number: Int, _ body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]
    ) -> Bool {
        let captured = Int(number32(bytes, body.lowerBound + 12))
        let start = body.lowerBound + 20
        guard number < interfaces.count, captured <= body.upperBound - start, interfaces[number].isDefined else { return false }
        let ticks =
            UInt64(number32(bytes, body.lowerBound + 4)) << 32 | UInt64(number32(bytes, body.lowerBound + 8))
        packet.interface = number
        packet.time = interfaces[number].clock.microseconds(ticks)
        packet.data = start..<start + captured
        return true
    }

    /// Packets that the capturing program says it lost (`isb_ifdrop`, `isb_osdrop`).
    private func statistics(_ body: Range<Int>, _ bytes: RawSpan, _ interfaces: [CaptureInterface]) -> CaptureItem {
        guard body.count >= 12 else { return .other }
        let number = firstInterface + Int(number32(bytes, body.lowerBound))
        guard number < interfaces.count, interfaces[number].isDefined else { return .other }
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
