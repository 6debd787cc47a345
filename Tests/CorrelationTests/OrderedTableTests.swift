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

    /// Hashes at which arithmetic goes wrong, for a table of any size.
    struct Region: CustomTestStringConvertible {
        var name: String
        /// Of 32 random bits.
        var hash: @Sendable (UInt32) -> UInt32
        var testDescription: String { name }
    }

    static let regions = [
        Region(name: "first hashes") { $0 & 0x3FF },
        Region(name: "last hashes") { .max - ($0 & 0x3FF) },
        Region(name: "both ends, the greatest hash often") {
            [0, 1, .max - 1, .max, $0 & 7, .max - ($0 & 7)][Int($0 >> 8) % 6]
        },
        Region(name: "clusters") { [0, 0x7FFF_FF00, 0x8000_0000, 0xFFFF_FF00][Int($0 >> 16) % 4] | $0 & 0xFF },
        Region(name: "everywhere, and the ends") {
            $0 & 0xF00 == 0 ? ($0 & 0x1000 == 0 ? 0 : .max) : $0 & 0xFFF0_0000 | $0 >> 29
        },
    ]

    @Test("a table holds the elements of a dictionary, with every hash, through growth and removal", arguments: regions)
    func model(_ region: Region) {
        var table = OrderedTable(capacity: 0)
        var expected: [UInt32: Int32] = [:]
        var hashes = Hashes(state: 5)
        var differences = 0
        func check(_ found: Int32, _ expected: Int32) {
            if found != expected { differences += 1 }
        }
        for number in 0..<100_000 as Range<Int32> {
            let hash = region.hash(hashes.next())
            // Grows, and is emptied again, several times.
            let isShrinking = number / 10_000 % 2 == 1
            if isShrinking || hashes.next() & 3 == 0 {
                table.remove(hash)
                expected[hash] = nil
            } else {
                check(table.insert(number, hash), expected[hash] ?? -1)
                expected[hash] = expected[hash] ?? number
                if number % 7 == 0 {
                    table.replace(number, hash)
                    expected[hash] = number
                }
            }
            for other in [hash, hash ^ 1, 0, .max] as [UInt32] { check(table[other], expected[other] ?? -1) }
            guard number % 97 == 0 else { continue }
            for range in [hash...(.max), 0...hash, hash...hash, (hash & ~0x7FF)...(hash | 0x7FF), .max ... .max] {
                for (like, mask) in [(hash, 7), (0, 0)] as [(UInt32, UInt32)] {
                    var found: OrderedTable.Found?
                    var elements: [Int32] = []
                    repeat {
                        found = table.next(after: found, in: range, like: like, mask: mask)
                        if let found { elements.append(found.element) }
                    } while found != nil
                    let known = expected.filter { range.contains($0.key) && ($0.key ^ like) & mask == 0 }
                    if elements != known.sorted(by: { $0.key < $1.key }).map(\.value) { differences += 1 }
                }
            }
        }
        #expect(differences == 0)
    }

    @Test("a hash that is not there can be replaced and removed without effect")
    func absent() {
        var table = OrderedTable(capacity: 16)
        for hash in [0, 1, .max - 1, .max] as [UInt32] {
            table.remove(hash)
            table.replace(9, hash)
            #expect(table[hash] == -1)
        }
        #expect(table.insert(3, .max) == -1)
        table.remove(.max - 1)
        table.replace(4, .max - 1)
        #expect(table[.max] == 3 && table[.max - 1] == -1)
    }

    @Test("a range that ends at the greatest hash ends at the table's last slot", arguments: [0, 1, 16, 1 << 10])
    func rangeToTheEnd(capacity: Int) {
        var table = OrderedTable(capacity: capacity)
        let range: ClosedRange<UInt32> = 0xFFFF_F800...(.max)
        #expect(table.next(after: nil, in: range, like: 0, mask: 7) == nil)
        for number in 0..<2048 as Range<Int32> { _ = table.insert(number, 0xFFFF_F800 + UInt32(number)) }
        var found: OrderedTable.Found?
        var count = 0
        repeat {
            found = table.next(after: found, in: range, like: 0, mask: 0)
            if found != nil { count += 1 }
        } while found != nil
        #expect(count == 2048)
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

    /// Elements lie near their slots: a wrong multiplier of the hash would let every search begin at one slot.
    @Test func searchesAreShort() {
        var table = OrderedTable(capacity: 4096)
        var hashes = Hashes(state: 3)
        for number in 0..<20_000 as Range<Int32> { _ = table.insert(number, hashes.next()) }
        #expect(table.longestSearch < 100)
    }
}
