/// Small numbers by hash, one for each hash: open addressing in the order of the hashes (O. Amble, D. E. Knuth: Ordered hash
/// tables, 1974), so that most look-ups read one line of memory, and look-ups of missing keys end soon, too.
///
/// Any number may be a hash; elements are not negative. Grows by a quarter: there may be millions, and a free slot takes as much
/// room as a taken one.
package struct OrderedTable: ~Copyable {
    struct Slot: BitwiseCopyable {
        var hash: UInt32
        var element: Int32

        /// Has the greatest hash, so that every search for one ends there. An element may have that hash, too: only the
        /// number of the element tells whether a slot is free.
        static let free = Slot(hash: .max, element: -1)

        @inline(__always)
        var isFree: Bool { element < 0 }
    }

    private var slots: Slab<Slot, Int32>
    /// Hashes are spread over so many slots; those behind are for what finds its place taken at the end.
    private var homes: UInt32
    private var taken = 0

    private static let margin = 64
    /// A quarter of fewer may be none.
    private static let leastHomes = 4

    package init(capacity: Int) {
        homes = UInt32(max(capacity, Self.leastHomes))
        slots = Slab(repeating: .free, count: Int(homes) + Self.margin)
    }

    /// Where a hash is looked for first: homes have the order of the hashes.
    @inline(__always)
    private func home(_ hash: UInt32) -> Int32 {
        Int32(truncatingIfNeeded: (UInt64(hash) &* UInt64(homes)) >> 32)
    }

    /// The first slot from a hash's home on that does not have a smaller one: that of the element with this hash, if there is
    /// one. The last slot is always free, so that there is such a slot.
    @inline(__always)
    private func slot(of hash: UInt32) -> Int32 {
        var slot = home(hash)
        while slots[slot].hash < hash { slot &+= 1 }
        return slot
    }

    /// Element with this hash; -1 for none.
    @inline(__always)
    package subscript(hash: UInt32) -> Int32 {
        let found = slots[slot(of: hash)]
        return found.hash == hash ? found.element : -1
    }

    /// An element, with its hash and the slot that it is in.
    package struct Found {
        package let element: Int32
        package let hash: UInt32
        fileprivate let slot: Int32
    }

    /// What comes first of the elements whose hash is in `range` and like `hash` where `mask` has bits; behind `found` if that is
    /// given.
    @inline(__always)
    package func next(after found: Found?, in range: ClosedRange<UInt32>, like hash: UInt32, mask: UInt32) -> Found? {
        var slot = found.map { $0.slot &+ 1 } ?? home(range.lowerBound)
        let end = home(range.upperBound)
        while true {
            let candidate = slots[slot]
            // An element that finds its home taken is behind it, in front of the next slot that is free or has a greater hash.
            if slot > end, candidate.isFree || candidate.hash > range.upperBound { return nil }
            if !candidate.isFree, (candidate.hash ^ hash) & mask == 0, range.contains(candidate.hash) {
                return Found(element: candidate.element, hash: candidate.hash, slot: slot)
            }
            slot &+= 1
        }
    }

    /// Tells the processor that this hash will be looked for soon.
    @inline(__always)
    func prefetch(_ hash: UInt32) { slots.prefetch(home(hash)) }

    /// Puts an element in, unless there is one with this hash.
    ///
    /// - Returns: that one, or -1.
    @inline(__always)
    package mutating func insert(_ element: Int32, _ hash: UInt32) -> Int32 {
        if taken * 2 >= Int(homes) { grow() }
        let slot = slot(of: hash)
        let found = slots[slot]
        guard found.hash != hash || found.isFree else { return found.element }
        taken += 1
        put(Slot(hash: hash, element: element), slot)
        return -1
    }

    /// Puts an entry into a slot; the entries from there to the next free slot move up by one.
    @inline(__always)
    private mutating func put(_ new: Slot, _ slot: Int32) {
        var new = new
        var slot = slot
        while !slots[slot].isFree {
            swap(&new, &slots[slot])
            slot &+= 1
        }
        slots[slot] = new
        keepLastFree(slot)
    }

    /// A slot has been taken; if it is the last, there must be others behind it.
    @inline(__always)
    private mutating func keepLastFree(_ slot: Int32) {
        guard Int(slot) == slots.count - 1 else { return }
        for _ in 0..<Self.margin { slots.append(.free) }
    }

    /// Puts another element in the place of the one with this hash, if there is one.
    package mutating func replace(_ element: Int32, _ hash: UInt32) {
        let slot = slot(of: hash)
        guard slots[slot].hash == hash, !slots[slot].isFree else { return }
        slots[slot].element = element
    }

    /// Takes out the element with this hash, if there is one.
    @inline(__always)
    package mutating func remove(_ hash: UInt32) {
        var slot = slot(of: hash)
        guard slots[slot].hash == hash, !slots[slot].isFree else { return }
        taken -= 1
        // The entries behind it move down, up to the next slot that is free or holds an entry at its home.
        while !slots[slot &+ 1].isFree, home(slots[slot &+ 1].hash) <= slot {
            slots[slot] = slots[slot &+ 1]
            slot &+= 1
        }
        slots[slot] = .free
    }

    /// Slots that are looked at before the element that is found last.
    package var longestSearch: Int {
        (0..<Int32(slots.count)).reduce(0) { longest, slot in
            slots[slot].isFree ? longest : max(longest, Int(slot - home(slots[slot].hash)))
        }
    }

    @inline(never)
    private mutating func grow() {
        homes += homes / 4
        var before = Slab<Slot, Int32>(repeating: Slot.free, count: Int(homes) + Self.margin)
        swap(&slots, &before)
        // In order, each goes to its home or right behind the one before.
        var next: Int32 = 0
        for index in 0..<Int32(before.count) where !before[index].isFree {
            next = max(next, home(before[index].hash))
            slots[next] = before[index]
            keepLastFree(next)
            next += 1
        }
    }
}
