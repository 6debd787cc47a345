/// Open hashing of small numbers: heads by hash, chains through an array that the numbers index.
///
/// The caller keeps the hashes and gives them again for removal and growth.
struct ChainTable {
    private var heads: [Int32]
    private var following: [Int32] = []
    private(set) var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { heads = [Int32](repeating: -1, count: capacity) }

    var isCrowded: Bool { count > heads.count }

    /// The first element whose hash may be `hash`; -1 for none.
    @inline(__always)
    func first(_ hash: UInt64) -> Int32 { heads[slot(hash)] }

    /// The one behind it.
    @inline(__always)
    func next(_ element: Int32) -> Int32 { following[Int(element)] }

    @inline(__always)
    mutating func insert(_ element: Int32, _ hash: UInt64) {
        while following.count <= Int(element) { following.append(-1) }
        let slot = slot(hash)
        following[Int(element)] = heads[slot]
        heads[slot] = element
        count += 1
    }

    mutating func remove(_ element: Int32, _ hash: UInt64) {
        let slot = slot(hash)
        var current = heads[slot]
        var previous: Int32 = -1
        while current >= 0, current != element {
            previous = current
            current = following[Int(current)]
        }
        guard current == element else { return }
        if previous < 0 {
            heads[slot] = following[Int(element)]
        } else {
            following[Int(previous)] = following[Int(element)]
        }
        count -= 1
    }

    /// Empties the table and gives it four times the heads; the caller inserts its elements again.
    mutating func grow() {
        heads = [Int32](repeating: -1, count: heads.count * 4)
        count = 0
    }

    @inline(__always)
    private func slot(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash) & (heads.count - 1) }
}
