/// Open hashing of small numbers: heads by hash, chains in both directions through arrays that the numbers index, so that
/// taking one out costs the same however long its chain is.
///
/// The caller keeps the hashes and gives them again for removal and growth.
struct ChainTable {
    private struct Links {
        var following: Int32
        /// -1 at the head of a chain.
        var preceding: Int32
    }

    private var heads: [Int32]
    private var links: [Links] = []
    private(set) var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { heads = [Int32](repeating: -1, count: capacity) }

    var isCrowded: Bool { count > heads.count }

    /// The first element whose hash may be `hash`; -1 for none.
    @inline(__always)
    func first(_ hash: UInt64) -> Int32 { heads[slot(hash)] }

    /// The one behind it.
    @inline(__always)
    func next(_ element: Int32) -> Int32 { links[Int(element)].following }

    @inline(__always)
    mutating func insert(_ element: Int32, _ hash: UInt64) {
        while links.count <= Int(element) { links.append(Links(following: -1, preceding: -1)) }
        let slot = slot(hash)
        let head = heads[slot]
        links[Int(element)] = Links(following: head, preceding: -1)
        if head >= 0 { links[Int(head)].preceding = element }
        heads[slot] = element
        count += 1
    }

    /// Takes out an element that is in the table.
    @inline(__always)
    mutating func remove(_ element: Int32, _ hash: UInt64) {
        let own = links[Int(element)]
        if own.preceding >= 0 { links[Int(own.preceding)].following = own.following } else { heads[slot(hash)] = own.following }
        if own.following >= 0 { links[Int(own.following)].preceding = own.preceding }
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
