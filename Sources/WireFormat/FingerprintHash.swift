/// A fast 64-bit mixing function over words and byte ranges: multiply to 128 bits and fold. Not cryptographic; `seed`
/// makes the result unpredictable to whoever sends the packets.
struct FingerprintHash {
    private(set) var state: UInt64
    /// Not known to who sends packets either: a word that makes a factor zero would wipe out all before it.
    private let key: UInt64

    init(seed: UInt64) {
        state = seed ^ 0x9E37_79B9_7F4A_7C15
        key = (seed ^ 0xC2B2_AE3D_27D4_EB4F) &* 0x9E37_79B9_7F4A_7C15
    }

    @inline(__always)
    mutating func mix(_ word: UInt64) {
        let product = (state ^ word).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        state = product.high ^ product.low ^ 0xA5A5_2F6B_93D1_7C4E
    }

    /// Mixes in `range` of `bytes` and its length. The caller has checked the range.
    @inline(__always)
    mutating func mix(_ bytes: RawSpan, _ range: Range<Int>) {
        var offset = range.lowerBound
        let end = range.upperBound
        mix(UInt64(truncatingIfNeeded: range.count) ^ 0x5851_F42D_4C95_7F2D)
        // Each multiplication waits for the one before it, so that it takes two words.
        while end &- offset >= 16 {
            let product = (bytes.little64(offset) ^ key).multipliedFullWidth(by: bytes.little64(offset &+ 8) ^ state)
            state = product.high ^ product.low ^ 0xA5A5_2F6B_93D1_7C4E
            offset &+= 16
        }
        if end &- offset >= 8 {
            mix(bytes.little64(offset))
            offset &+= 8
        }
        if end &- offset >= 4 {
            mix(UInt64(bytes.little32(offset)) | 1 << 40)
            offset &+= 4
        }
        var rest: UInt64 = 1 << 41
        while offset < end {
            rest = rest << 8 | UInt64(bytes.byte(offset))
            offset &+= 1
        }
        mix(rest)
    }
}
