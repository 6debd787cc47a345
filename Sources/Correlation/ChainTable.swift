/// Open hashing of small numbers: heads by hash, chains in both directions through arrays that the numbers index, so that
/// taking one out costs the same however long its chain is.
///
/// Each element's hash is kept beside its links, so that of a chain's elements only those with the wanted hash are looked at.
struct ChainTable: ~Copyable {
    private struct Links {
        var following: Int32 = -1
        /// -1 at the head of a chain.
        var preceding: Int32 = -1
        var hash: UInt32 = 0
    }

    private var heads: Slab<Int32>
    private var links = Slab<Links>()
    private(set) var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { heads = Slab(repeating: -1, count: capacity) }

    /// The first element with this hash, the one inserted last; -1 for none.
    @inline(__always)
    func first(_ hash: UInt32) -> Int32 { skip(to: hash, from: heads[slot(hash)]) }

    /// The one behind it with the same hash.
    @inline(__always)
    func next(_ element: Int32) -> Int32 {
        let own = links[element]
        return skip(to: own.hash, from: own.following)
    }

    @inline(__always)
    private func skip(to hash: UInt32, from start: Int32) -> Int32 {
        var element = start
        while element >= 0, links[element].hash != hash { element = links[element].following }
        return element
    }

    /// Whether no other element has the hash of this one, which is in the table.
    @inline(__always)
    func isAlone(_ element: Int32) -> Bool { first(links[element].hash) == element && next(element) < 0 }

    /// Tells the processor that chains of this hash will be looked at soon.
    @inline(__always)
    func prefetch(_ hash: UInt32) { heads.prefetch(slot(hash)) }

    /// The hash that an element was inserted with.
    func hash(of element: Int32) -> UInt32 { links[element].hash }

    mutating func insert(_ element: Int32, _ hash: UInt32) {
        if count >= heads.count { grow() }
        while links.count <= Int(element) { links.append(Links()) }
        link(element, hash)
        count += 1
    }

    @inline(__always)
    private mutating func link(_ element: Int32, _ hash: UInt32) {
        let slot = slot(hash)
        let head = heads[slot]
        links[element] = Links(following: head, preceding: -1, hash: hash)
        if head >= 0 { links[head].preceding = element }
        heads[slot] = element
    }

    /// Takes out an element that is in the table.
    mutating func remove(_ element: Int32) {
        let own = links[element]
        if own.preceding >= 0 {
            links[own.preceding].following = own.following
        } else {
            heads[slot(own.hash)] = own.following
        }
        if own.following >= 0 { links[own.following].preceding = own.preceding }
        count -= 1
    }

    private mutating func grow() {
        let capacity = heads.count * 4
        var before = Slab<Int32>(repeating: -1, count: capacity)
        swap(&heads, &before)
        for slot in 0..<Int32(before.count) {
            // From the chain's end on, so that elements keep their order.
            var element = before[slot]
            while element >= 0, links[element].following >= 0 { element = links[element].following }
            while element >= 0 {
                let own = links[element]
                link(element, own.hash)
                element = own.preceding
            }
        }
    }

    @inline(__always)
    private func slot(_ hash: UInt32) -> Int32 { Int32(bitPattern: hash & UInt32(truncatingIfNeeded: heads.count - 1)) }
}
