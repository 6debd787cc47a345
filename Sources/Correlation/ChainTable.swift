/// Open hashing of small numbers, each under several hashes at once: a link for each of them, which is there only as long as it
/// is needed. Chains go in both directions, so that taking a link out costs the same however long its chain is.
///
/// Each link has its hash beside it, so that of a chain's elements only those with the wanted hash are looked at.
struct ChainTable: ~Copyable {
    /// What an element is looked for as.
    enum Search: UInt8, CaseIterable {
        case place, arrival, departure, translated
    }

    struct Link: BitwiseCopyable {
        /// In a free one, the next that is free.
        fileprivate var following: Int32 = -1
        /// -1 at the head of a chain.
        fileprivate var preceding: Int32 = -1
        let hash: UInt32
        /// Of more than `hash` is of, for those that look for an element like that.
        let exactHash: UInt32
        let element: Int32
        /// From the lowest bits on: the search, whether it is late, the element's next link and one.
        private var rest: UInt32

        fileprivate init(_ search: Search, hash: UInt32, exactHash: UInt32, element: Int32, sibling: Int32) {
            self.hash = hash
            self.exactHash = exactHash
            self.element = element
            rest = UInt32(search.rawValue)
            self.sibling = sibling
        }

        var search: Search { Search(rawValue: UInt8(rest & 3)) ?? .place }

        /// Found by those, too, that look for what fits less well.
        var isLate: Bool {
            get { rest & 4 != 0 }
            set { rest = rest & ~4 | (newValue ? 4 : 0) }
        }

        /// The element's next link, -1 for none. There is room for half a thousand million.
        fileprivate(set) var sibling: Int32 {
            get { Int32(rest >> 3) - 1 }
            set { rest = rest & 7 | UInt32(bitPattern: newValue + 1) << 3 }
        }
    }

    /// Of each sort of search, so that one for which little waits stays small and quick.
    private var heads: InlineArray<4, Slab<Int32>>
    private var counts = InlineArray<4, Int>(repeating: 0)
    private var links = Slab<Link>()
    private var free: Int32 = -1

    /// - Parameter capacity: a power of two.
    init(capacity: Int) {
        precondition(Search.allCases.count == 4, "each sort of search has heads of its own")
        heads = InlineArray { _ in Slab(repeating: -1, count: capacity) }
    }

    @inline(__always)
    subscript(link: Int32) -> Link {
        _read { yield links[link] }
        _modify { yield &links[link] }
    }

    /// The first link with this hash that is wanted, the one inserted last; -1 for none.
    @inline(__always)
    func first(_ search: Search, _ hash: UInt32, where isWanted: (Link) -> Bool = { _ in true }) -> Int32 {
        skip(to: hash, from: heads[search.number][slot(search, hash)], isWanted)
    }

    /// The one behind it with the same hash.
    @inline(__always)
    func next(_ link: Int32, where isWanted: (Link) -> Bool = { _ in true }) -> Int32 {
        skip(to: links[link].hash, from: links[link].following, isWanted)
    }

    @inline(__always)
    private func skip(to hash: UInt32, from start: Int32, _ isWanted: (Link) -> Bool) -> Int32 {
        var link = start
        while link >= 0, links[link].hash != hash || !isWanted(links[link]) { link = links[link].following }
        return link
    }

    /// Tells the processor that chains of this hash will be looked at soon.
    @inline(__always)
    func prefetch(_ search: Search, _ hash: UInt32) { heads[search.number].prefetch(slot(search, hash)) }

    /// The same of a link.
    @inline(__always)
    func prefetch(_ link: Int32) { links.prefetch(link) }

    /// - Parameter sibling: the first of the links that the element has already.
    /// - Returns: the new link, which is the first of the element's now.
    mutating func insert(
        _ element: Int32, _ search: Search, _ hash: UInt32, exactHash: UInt32 = 0, sibling: Int32
    ) -> Int32 {
        if counts[search.number] >= heads[search.number].count { grow(search) }
        let link = Link(search, hash: hash, exactHash: exactHash, element: element, sibling: sibling)
        var index = free
        if index >= 0 {
            free = links[index].following
            links.prefetch(free)
            links[index] = link
        } else {
            index = Int32(links.count)
            links.append(link)
        }
        lead(index, search)
        counts[search.number] += 1
        return index
    }

    /// Puts a link at the head of its chain.
    @inline(__always)
    private mutating func lead(_ link: Int32, _ search: Search) {
        let slot = slot(search, links[link].hash)
        let head = heads[search.number][slot]
        links[link].following = head
        links[link].preceding = -1
        if head >= 0 { links[head].preceding = link }
        heads[search.number][slot] = link
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
        let search = own.search
        if own.preceding >= 0 {
            links[own.preceding].following = own.following
        } else {
            heads[search.number][slot(search, own.hash)] = own.following
        }
        if own.following >= 0 { links[own.following].preceding = own.preceding }
        links[link].following = free
        free = link
        counts[search.number] -= 1
    }

    @inline(never)
    private mutating func grow(_ search: Search) {
        var before = Slab<Int32>(repeating: -1, count: heads[search.number].count * 2)
        swap(&heads[search.number], &before)
        for slot in 0..<Int32(before.count) {
            // From the chain's end on, so that elements keep their order.
            var link = before[slot]
            while link >= 0, links[link].following >= 0 { link = links[link].following }
            while link >= 0 {
                let preceding = links[link].preceding
                lead(link, search)
                link = preceding
            }
        }
    }

    @inline(__always)
    private func slot(_ search: Search, _ hash: UInt32) -> Int32 {
        Int32(bitPattern: hash & UInt32(truncatingIfNeeded: heads[search.number].count - 1))
    }
}

extension ChainTable.Search {
    @inline(__always)
    fileprivate var number: Int { Int(rawValue) }
}
