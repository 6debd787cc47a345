internal import WireFormat

/// Finds the number that stands for some bytes, a prefix or a name: no string is made for an event.
///
/// The key is the bytes with two numbers more, such as the family and the hook that an event reports, because one rule's
/// prefix may be seen from several hooks and in both families.
struct PrefixTable {
    private struct Entry {
        /// Of `text`.
        var prefix: Range<Int>
        var number: UInt32
        var family: UInt8
        var hook: UInt8
    }

    private var slots: [Int32]
    private var entries: [Entry] = []
    /// All prefixes, one behind the other.
    private var text: [UInt8] = []

    /// Random, so that nobody can choose prefixes that collide.
    private let seed = UInt64.random(in: 0...UInt64.max)

    init() { slots = [Int32](repeating: -1, count: 256) }

    /// The number that was inserted for this key; `nil` where it is new.
    @inline(__always)
    func number(_ bytes: RawSpan, _ prefix: Range<Int>, family: UInt8, hook: UInt8) -> UInt32? {
        var slot = Int(truncatingIfNeeded: hash(bytes, prefix, family, hook)) & (slots.count - 1)
        while slots[slot] >= 0 {
            let index = Int(slots[slot])
            if entries[index].family == family, entries[index].hook == hook, isEqual(index, bytes, prefix) {
                return entries[index].number
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    mutating func insert(_ prefix: [UInt8], family: UInt8, hook: UInt8, number: UInt32) {
        if entries.count * 2 >= slots.count { grow() }
        let range = text.count..<text.count + prefix.count
        text += prefix
        entries.append(Entry(prefix: range, number: number, family: family, hook: hook))
        place(entries.count - 1)
    }

    var count: Int { entries.count }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: slots.count * 2)
        for index in entries.indices { place(index) }
    }

    private mutating func place(_ index: Int) {
        let entry = entries[index]
        // Bytes have no padding, which is what makes a span's bytes unsafe in general.
        let hash = hash(text.octets, entry.prefix, entry.family, entry.hook)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = Int32(index)
    }

    @inline(__always)
    private func isEqual(_ index: Int, _ bytes: RawSpan, _ range: Range<Int>) -> Bool {
        let count = range.count
        let prefix = entries[index].prefix
        guard prefix.count == count else { return false }
        let known = text.octets
        // Each load checks its bounds itself, so that the sums need no check of their own.
        var offset = 0
        while count &- offset >= 8 {
            if known.little64(prefix.lowerBound &+ offset) != bytes.little64(range.lowerBound &+ offset) { return false }
            offset &+= 8
        }
        if count >= 8 {
            return known.little64(prefix.upperBound &- 8) == bytes.little64(range.upperBound &- 8)
        }
        while offset < count {
            if known.byte(prefix.lowerBound &+ offset) != bytes.byte(range.lowerBound &+ offset) { return false }
            offset &+= 1
        }
        return true
    }

    @inline(__always)
    private func hash(_ bytes: RawSpan, _ range: Range<Int>, _ family: UInt8, _ hook: UInt8) -> UInt64 {
        // What a product of 64 bits loses would let words be chosen that collide whatever the seed is.
        func mixed(_ hash: UInt64, _ word: UInt64) -> UInt64 {
            let product = (hash ^ word).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
            return product.high ^ product.low ^ seed
        }
        var hash = mixed(seed, UInt64(family) << 8 ^ UInt64(hook) ^ UInt64(range.count) << 16)
        var offset = range.lowerBound
        while range.upperBound &- offset >= 8 {
            hash = mixed(hash, bytes.little64(offset))
            offset &+= 8
        }
        if range.count >= 8 {
            // The last eight, some of them a second time.
            return mixed(hash, bytes.little64(range.upperBound &- 8))
        }
        while offset < range.upperBound {
            hash = mixed(hash, UInt64(bytes.byte(offset)))
            offset += 1
        }
        return hash
    }
}
