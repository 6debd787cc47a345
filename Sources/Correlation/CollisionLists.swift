/// Chains of small numbers that have the same hash, several hashes for each number: a link for each of them, which is there only
/// as long as it is needed. Chains go in both directions, so that taking a link out costs the same however long its chain is.
///
/// Each link has its hash beside it, so that of a slot's elements only those with the wanted hash are looked at.
struct CollisionLists: ~Copyable {
    struct Link: BitwiseCopyable {
        /// In a free one, the next that is free.
        fileprivate var following: Int32 = -1
        /// -1 at the head of a slot.
        fileprivate var preceding: Int32 = -1
        let hash: UInt32
        let element: Int32
        /// The element's next link, -1 for none.
        fileprivate(set) var sibling: Int32
    }

    private var heads: Slab<Int32>
    private var links = Slab<Link>()
    private var free: Int32 = -1
    private var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { heads = Slab(repeating: -1, count: capacity) }

    @inline(__always)
    subscript(link: Int32) -> Link { _read { yield links[link] } }

    /// The first link with this hash, the one inserted last; -1 for none.
    @inline(__always)
    func first(_ hash: UInt32) -> Int32 { skip(to: hash, from: heads[slot(hash)]) }

    /// The one behind it with the same hash.
    @inline(__always)
    func next(_ link: Int32) -> Int32 { skip(to: links[link].hash, from: links[link].following) }

    @inline(__always)
    private func skip(to hash: UInt32, from start: Int32) -> Int32 {
        var link = start
        while link >= 0, links[link].hash != hash { link = links[link].following }
        return link
    }

    /// - Parameter sibling: the first of the links that the element has already.
    /// - Returns: the new link, which is the first of the element's now.
    mutating func insert(_ element: Int32, _ hash: UInt32, sibling: Int32) -> Int32 {
        if count >= heads.count { grow() }
        let link = Link(hash: hash, element: element, sibling: sibling)
        var index = free
        if index >= 0 {
            free = links[index].following
            links[index] = link
        } else {
            index = Int32(links.count)
            links.append(link)
        }
        lead(index)
        count += 1
        return index
    }

    /// Puts a link at the head of its slot.
    @inline(__always)
    private mutating func lead(_ link: Int32) {
        let slot = slot(links[link].hash)
        let head = heads[slot]
        links[link].following = head
        links[link].preceding = -1
        if head >= 0 { links[head].preceding = link }
        heads[slot] = link
    }

    /// Takes out the link that `sibling` names, and lets it name the one behind.
    mutating func remove(_ sibling: inout Int32) {
        let link = sibling
        let own = links[link]
        sibling = own.sibling
        remove(link, own)
    }

    /// The same for the link behind `link`.
    mutating func removeSibling(of link: Int32) {
        let sibling = links[link].sibling
        let own = links[sibling]
        links[link].sibling = own.sibling
        remove(sibling, own)
    }

    private mutating func remove(_ link: Int32, _ own: Link) {
        if own.preceding >= 0 {
            links[own.preceding].following = own.following
        } else {
            heads[slot(own.hash)] = own.following
        }
        if own.following >= 0 { links[own.following].preceding = own.preceding }
        links[link].following = free
        free = link
        count -= 1
    }

    @inline(never)
    private mutating func grow() {
        var before = Slab<Int32>(repeating: -1, count: heads.count * 2)
        swap(&heads, &before)
        for slot in 0..<Int32(before.count) {
            // From the slot's end on, so that elements keep their order.
            var link = before[slot]
            while link >= 0, links[link].following >= 0 { link = links[link].following }
            while link >= 0 {
                let preceding = links[link].preceding
                lead(link)
                link = preceding
            }
        }
    }

    @inline(__always)
    private func slot(_ hash: UInt32) -> Int32 {
        // The lowest bits are the same for all of a search.
        Int32(bitPattern: (hash >> 3 ^ hash << 16) & UInt32(truncatingIfNeeded: heads.count - 1))
    }
}
