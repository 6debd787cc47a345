/// pcap's file header and record headers.
struct PcapFraming: Sendable {
    static let headerLength = 24
    private static let recordHeaderLength = 16

    let interface: CaptureInterface
    private let isSwapped: Bool
    private var fractionsPerSecond: UInt32
    private var isHeaderRead = false
    private var lastSeconds: UInt32?
    /// Where the first record stands in a file whose beginning is damaged.
    private var firstRecord: Int?

    /// Recognises the magic number: micro- or nanoseconds, either byte order.
    init?(_ bytes: RawSpan) {
        guard bytes.byteCount >= Self.headerLength else { return nil }
        let magic = bytes.native32(0)
        switch magic {
        case 0xA1B2_C3D4, 0xD4C3_B2A1: fractionsPerSecond = 1_000_000
        case 0xA1B2_3C4D, 0x4D3C_B2A1: fractionsPerSecond = 1_000_000_000
        default: return nil
        }
        isSwapped = magic == 0xD4C3_B2A1 || magic == 0x4D3C_B2A1
        let linkType = isSwapped ? bytes.native32(20).byteSwapped : bytes.native32(20)
        interface = CaptureInterface(
            linkType: UInt16(truncatingIfNeeded: linkType), name: nil, isSwapped: isSwapped)
    }

    /// A file whose beginning is damaged: finds the first records of NFLOG messages in a row, in either byte order. What is
    /// left of the magic number tells the resolution of times, or else the times do.
    init?(damagedBeginning bytes: RawSpan) {
        var found: (framing: PcapFraming, position: Int)?
        for isSwapped in [false, true] {
            let framing = PcapFraming(isSwapped: isSwapped)
            let end = min(found?.position ?? .max, bytes.byteCount - Self.recordHeaderLength)
            guard end > 0, let position = (0..<end).first(where: { framing.isLongRow(bytes, $0) }) else { continue }
            found = (framing, position)
        }
        guard let found else { return nil }
        var framing = found.framing
        let position = found.position
        if framing.hasMicroseconds(bytes, position) { framing.fractionsPerSecond = 1_000_000 }
        framing.isHeaderRead = true
        framing.firstRecord = position
        self = framing
    }

    /// With nanoseconds, which every fraction of a second fits.
    private init(isSwapped: Bool) {
        self.isSwapped = isSwapped
        fractionsPerSecond = 1_000_000_000
        interface = CaptureInterface(linkType: CaptureInterface.nflog, name: nil, isSwapped: isSwapped)
    }

    private func hasMicroseconds(_ bytes: RawSpan, _ firstRecord: Int) -> Bool {
        func likeness(_ magic: UInt32) -> Int {
            let word = isSwapped ? magic.byteSwapped : magic
            return (0..<4).count { bytes.byte($0) == UInt8(truncatingIfNeeded: word.littleEndian >> UInt32($0 * 8)) }
        }
        let (micro, nano) = (likeness(0xA1B2_C3D4), likeness(0xA1B2_3C4D))
        if max(micro, nano) >= 2, micro != nano { return micro > nano }
        var offset = firstRecord
        for _ in 0..<64 {
            guard bytes.byteCount - offset >= Self.recordHeaderLength else { break }
            let record = record(bytes, offset)
            guard isSound(record) else { break }
            if record.fraction >= 1_000_000 { return false }
            offset += Self.recordHeaderLength + Int(record.captured)
        }
        return true
    }

    private struct Record {
        var seconds: UInt32
        var fraction: UInt32
        var captured: UInt32
        var original: UInt32
    }

    private func record(_ bytes: RawSpan, _ offset: Int) -> Record {
        func number(_ position: Int) -> UInt32 {
            let value = bytes.native32(offset + position)
            return isSwapped ? value.byteSwapped : value
        }
        return Record(seconds: number(0), fraction: number(4), captured: number(8), original: number(12))
    }

    private func isSound(_ record: Record) -> Bool {
        record.fraction < fractionsPerSecond && record.captured <= CaptureFormat.longestPacket
            && record.captured <= record.original
    }

    mutating func next(in bytes: RawSpan, at offset: inout Int, isLast: Bool) -> CaptureItem? {
        if let first = firstRecord {
            firstRecord = nil
            if first > 0 {
                let damage = offset..<offset + first
                offset += first
                return .damage(damage)
            }
        }
        if !isHeaderRead {
            guard bytes.byteCount - offset >= Self.headerLength else { return nil }
            isHeaderRead = true
            offset += Self.headerLength
            return .other
        }
        let available = bytes.byteCount - offset
        guard available > 0 else { return nil }
        if available >= Self.recordHeaderLength {
            let record = record(bytes, offset)
            if isSound(record) {
                let length = Self.recordHeaderLength + Int(record.captured)
                guard available >= length || isLast else { return nil }
                if available >= length, isMessage(bytes, offset, record) {
                    let data = offset + Self.recordHeaderLength..<offset + length
                    offset += length
                    lastSeconds = record.seconds
                    let microseconds = record.fraction / (fractionsPerSecond / 1_000_000)
                    return .packet(
                        CapturedPacket(
                            interface: 0, time: Int64(record.seconds) * 1_000_000 + Int64(microseconds), data: data))
                }
            }
        } else if !isLast {
            return nil
        }
        return resynchronise(bytes, &offset, isLast)
    }

    /// Looks for the next two records in a row, or the one that ends the file.
    private func resynchronise(_ bytes: RawSpan, _ offset: inout Int, _ isLast: Bool) -> CaptureItem? {
        let start = offset
        var position = start + 1
        while bytes.byteCount - position >= Self.recordHeaderLength {
            if isRow(bytes, position, isLast: isLast) {
                offset = position
                return .damage(start..<position)
            }
            position += 1
        }
        if !isLast {
            // A record may begin here whose end is not in the window yet.
            let kept = CaptureFormat.searchOverlap
            guard bytes.byteCount - start > 2 * kept else { return nil }
            offset = bytes.byteCount - kept
        } else {
            offset = bytes.byteCount
        }
        return .damage(start..<offset)
    }

    /// Whether a record begins at `offset`, and another one, or the end of the file, behind it.
    private func isRow(_ bytes: RawSpan, _ offset: Int, isLast: Bool) -> Bool {
        guard isLikely(bytes, offset) else { return false }
        let next = offset + Self.recordHeaderLength + Int(record(bytes, offset).captured)
        if next == bytes.byteCount { return isLast }
        return bytes.byteCount - next >= Self.recordHeaderLength && isLikely(bytes, next)
    }

    /// Whether four records begin at `offset`, or those up to the end of the bytes, all within a day.
    private func isLongRow(_ bytes: RawSpan, _ offset: Int) -> Bool {
        let seconds = record(bytes, offset).seconds
        // NFLOG came with Linux 2.6.14 in 2005. Without that, rows of small numbers in any program would do.
        guard seconds >= Self.earliestSeconds, isRow(bytes, offset, isLast: true) else { return false }
        var next = offset
        for _ in 0..<4 {
            // Fewer do where they end with the file.
            guard bytes.byteCount - next >= Self.recordHeaderLength else { return next == bytes.byteCount }
            let record = record(bytes, next)
            guard isLikely(bytes, next), record.seconds &- seconds &+ 86_400 <= 2 * 86_400 else { return false }
            next += Self.recordHeaderLength + Int(record.captured)
        }
        return true
    }

    /// 2005-01-01 in seconds since 1970.
    private static let earliestSeconds: UInt32 = 1_104_537_600

    private func isLikely(_ bytes: RawSpan, _ offset: Int) -> Bool {
        let record = record(bytes, offset)
        guard isSound(record), record.captured >= 4 else { return false }
        if let lastSeconds, record.seconds &- lastSeconds &+ 86_400 > 2 * 86_400 { return false }
        return isMessage(bytes, offset, record)
    }

    /// Whether a record holds what its link type says: NFLOG's messages begin with `struct nfgenmsg`, a family and version 0.
    private func isMessage(_ bytes: RawSpan, _ offset: Int, _ record: Record) -> Bool {
        guard interface.linkType == CaptureInterface.nflog else { return true }
        let data = offset + Self.recordHeaderLength
        guard record.captured >= 4, bytes.byteCount - data >= 2 else { return false }
        return bytes.byte(data) <= 10 && bytes.byte(data + 1) == 0
    }
}
