/// pcap's file header and record headers.
struct PcapFraming: Sendable {
    static let headerLength = 24
    private static let recordHeaderLength = 16

    let interface: CaptureInterface
    private let isSwapped: Bool
    private let fractionsPerSecond: UInt32
    private var isHeaderRead = false
    private var lastSeconds: UInt32?

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
                if available >= length {
                    let data = offset + Self.recordHeaderLength..<offset + length
                    offset += length
                    lastSeconds = record.seconds
                    let microseconds = record.fraction / (fractionsPerSecond / 1_000_000)
                    return .packet(
                        CapturedPacket(
                            interface: 0, time: Int64(record.seconds) * 1_000_000 + Int64(microseconds), data: data))
                }
                guard isLast else { return nil }
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
            if isLikely(bytes, position) {
                let next = position + Self.recordHeaderLength + Int(record(bytes, position).captured)
                let isFollowed =
                    next == bytes.byteCount
                    || (bytes.byteCount - next >= Self.recordHeaderLength && isLikely(bytes, next))
                if isFollowed {
                    offset = position
                    return .damage(start..<position)
                }
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

    private func isLikely(_ bytes: RawSpan, _ offset: Int) -> Bool {
        let record = record(bytes, offset)
        guard isSound(record), record.captured >= 4 else { return false }
        if let lastSeconds, record.seconds &- lastSeconds &+ 86_400 > 2 * 86_400 { return false }
        guard interface.linkType == CaptureInterface.nflog else { return true }
        // struct nfgenmsg: a family, and version 0
        let data = offset + Self.recordHeaderLength
        guard bytes.byteCount - data >= 2 else { return false }
        return bytes.byte(data) <= 10 && bytes.byte(data + 1) == 0
    }
}
