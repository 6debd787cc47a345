/// Chains of legs that have the same hash, several hashes for each leg: a link for each of them, which is there only
/// as long as it is needed. Chains go in both directions, so that taking a link out costs the same however long its chain is.
///
/// Each link has its hash beside it, so that of a slot's elements only those with the wanted hash are looked at.
struct CollisionLists: ~Copyable {
    struct Link: BitwiseCopyable {
        /// In a free one, the next that is free.
        fileprivate var following = LinkIndex.none
        /// The link before it; none at the head of a slot.
        fileprivate var preceding = LinkIndex.none
        let hash: UInt32
        let element: LegIndex
        /// The element's next link.
        fileprivate(set) var sibling: LinkIndex
    }

    private var heads: Slab<LinkIndex, Int32>
    private var links = Slab<Link, LinkIndex>()
    private var free = LinkIndex.none
    private var count = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { heads = Slab(repeating: .none, count: capacity) }

    @inline(__always)
    subscript(link: LinkIndex) -> Link { _read { yield links[link] } }

    /// The first link with this hash, the one inserted last.
    @inline(__always)
    func first(_ hash: UInt32) -> LinkIndex { skip(to: hash, from: heads[slot(hash)]) }

    /// The one behind it with the same hash.
    @inline(__always)
    func next(_ link: LinkIndex) -> LinkIndex { skip(to: links[link].hash, from: links[link].following) }

    @inline(__always)
    private func skip(to hash: UInt32, from start: LinkIndex) -> LinkIndex {
        var link = start
        while link.exists, links[link].hash != hash { link = links[link].following }
        return link
    }

    /// - Parameter sibling: the first of the links that the element has already.
    /// - Returns: the new link, which is the first of the element's now.
    mutating func insert(_ element: LegIndex, _ hash: UInt32, sibling: LinkIndex) -> LinkIndex {
        if count >= heads.count { grow() }
        let link = Link(hash: hash, element: element, sibling: sibling)
        var index = free
        if index.exists {
            free = links[index].following
            links[index] = link
        } else {
            index = links.append(link)
        }
        lead(index)
        count += 1
        return index
    }

    /// Puts a link at the head of its slot.
    @inline(__always)
    private mutating func lead(_ link: LinkIndex) {
        let slot = slot(links[link].hash)
        let head = heads[slot]
        links[link].following = head
        links[link].preceding = .none
        if head.exists { links[head].preceding = link }
        heads[slot] = link
    }

    /// Takes out the link that `sibling` names, and lets it name the one behind.
    mutating func remove(_ sibling: inout LinkIndex) {
        let link = sibling
        let own = links[link]
        sibling = own.sibling
        remove(link, own)
    }

    /// Removes the link behind `link`.
    mutating func removeSibling(of link: LinkIndex) {
        let sibling = links[link].sibling
        let own = links[sibling]
        links[link].sibling = own.sibling
        remove(sibling, own)
    }

    private mutating func remove(_ link: LinkIndex, _ own: Link) {
        if own.preceding.exists {
            links[own.preceding].following = own.following
        } else {
            heads[slot(own.hash)] = own.following
        }
        if own.following.exists { links[own.following].preceding = own.preceding }
        links[link].following = free
        free = link
        count -= 1
    }

    @inline(never)
    private mutating func grow() {
        var before = Slab<LinkIndex, Int32>(repeating: .none, count: heads.count * 2)
        swap(&heads, &before)
        for slot in 0..<Int32(before.count) {
            // From the slot's end on, so that elements keep their order.
            var link = before[slot]
            while link.exists, links[link].following.exists { link = links[link].following }
            while link.exists {
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
