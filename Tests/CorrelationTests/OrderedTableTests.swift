import Correlation
import Testing

struct OrderedTableTests {
    /// Numbers that are the same in each run: the upper half of a linear congruence (D. E. Knuth's MMIX).
    private struct Hashes {
        var state: UInt64

        mutating func next() -> UInt32 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt32(truncatingIfNeeded: state >> 32)
        }
    }

    /// Against a dictionary, with few enough hashes that most are put in and taken out many times, and at the table's end, where
    /// searches go on at its beginning.
    @Test(arguments: [0xFFFF_0000, 0xFFFF_FF00 as UInt32]) func holdsWhatADictionaryHolds(bits: UInt32) {
        var table = OrderedTable(capacity: 16)
        var expected: [UInt32: Int32] = [:]
        var hashes = Hashes(state: 7)
        var differences = 0
        func check(_ found: Int32, _ expected: Int32) {
            if found != expected { differences += 1 }
        }
        for number in 0..<200_000 as Range<Int32> {
            let hash = min(bits == 0xFFFF_FF00 ? hashes.next() | bits : hashes.next() & bits, .max - 1)
            if let known = expected[hash] {
                check(table.insert(number, hash), known)
                if number % 3 == 0 {
                    table.replace(number, hash)
                    expected[hash] = number
                } else {
                    table.remove(hash)
                    expected[hash] = nil
                }
            } else {
                check(table[hash], -1)
                check(table.insert(number, hash), -1)
                expected[hash] = number
            }
            // What stands beside it must not have become unreachable.
            let other = min(hash ^ 1, .max - 1)
            check(table[other], expected[other] ?? -1)
        }
        for (hash, element) in expected { check(table[hash], element) }
        #expect(expected.count > 100)
        #expect(differences == 0)
    }

    /// All that begin alike are found, and nothing else, wherever others have displaced them to; at the table's end, too.
    @Test(arguments: [0, 0xFFFF_0000 as UInt32]) func findsAllOfARange(beginning: UInt32) {
        var table = OrderedTable(capacity: 16)
        var expected: [UInt32: Int32] = [:]
        var hashes = Hashes(state: 11)
        // Few that begin alike at first, and in the end nearly all that can.
        for number in 0..<3000 as Range<Int32> {
            let hash = beginning | hashes.next() & 0x1FFF
            guard hash != .max else { continue }
            if table.insert(number, hash) < 0 { expected[hash] = number }
        }
        #expect(expected.count > 2000)
        for start in stride(from: beginning, to: beginning | 0x1FFF, by: 0x400) {
            let range = start...start | 0x3FF
            for ending in 0..<8 as Range<UInt32> {
                var found: OrderedTable.Found?
                var elements: [Int32] = []
                repeat {
                    found = table.next(after: found, in: range, like: ending, mask: 7)
                    if let found { elements.append(found.element) }
                } while found != nil
                let known = expected.filter { range.contains($0.key) && $0.key & 7 == ending }
                #expect(elements == known.sorted { $0.key < $1.key }.map(\.value))
            }
        }
    }

    /// Elements lie where they are looked for: a slip in what a hash is multiplied by would let every search begin at one slot.
    @Test func searchesAreShort() {
        var table = OrderedTable(capacity: 4096)
        var hashes = Hashes(state: 3)
        for number in 0..<20_000 as Range<Int32> { _ = table.insert(number, hashes.next()) }
        #expect(table.longestSearch < 100)
    }
}
