/// Small numbers by hash, one for each hash: open addressing with linear probing, so that most look-ups read one line of memory.
///
/// Grows by a quarter: there may be millions, and what is free takes as much room as what is taken.
package struct PlaceTable: ~Copyable {
    private struct Slot: BitwiseCopyable {
        var hash: UInt32 = 0
        /// -1 in a free slot.
        var element: Int32 = -1
    }

    private var slots: Slab<Slot>
    private var taken = 0

    package init(capacity: Int) { slots = Slab(repeating: Slot(), count: capacity) }

    /// Where a hash is looked for first: the slots have the order of the hashes.
    @inline(__always)
    private func home(_ hash: UInt32) -> Int32 {
        Int32(truncatingIfNeeded: (UInt64(hash) &* UInt64(truncatingIfNeeded: slots.count)) >> 32)
    }

    /// The slot with this hash, or the free one where it would be.
    @inline(__always)
    private func slot(of hash: UInt32) -> Int32 {
        var slot = home(hash)
        while slots[slot].element != -1, slots[slot].hash != hash { slot = following(slot) }
        return slot
    }

    @inline(__always)
    private func following(_ slot: Int32) -> Int32 {
        let next = slot &+ 1
        return next == Int32(truncatingIfNeeded: slots.count) ? 0 : next
    }

    /// How far behind `start` a slot is.
    @inline(__always)
    private func distance(from start: Int32, to slot: Int32) -> Int32 {
        let distance = slot &- start
        return distance < 0 ? distance &+ Int32(truncatingIfNeeded: slots.count) : distance
    }

    /// What has this hash; -1 for nothing.
    @inline(__always)
    package subscript(hash: UInt32) -> Int32 { slots[slot(of: hash)].element }

    /// Tells the processor that this hash will be looked for soon.
    @inline(__always)
    func prefetch(_ hash: UInt32) { slots.prefetch(home(hash)) }

    /// Puts an element in, unless there is one with this hash.
    ///
    /// - Returns: that one, or -1.
    @inline(__always)
    package mutating func insert(_ element: Int32, _ hash: UInt32) -> Int32 {
        if taken * 3 >= slots.count * 2 { grow() }
        let slot = slot(of: hash)
        let known = slots[slot].element
        guard known == -1 else { return known }
        slots[slot] = Slot(hash: hash, element: element)
        taken += 1
        return -1
    }

    /// Puts another element in the place of the one with this hash.
    package mutating func replace(_ element: Int32, _ hash: UInt32) { slots[slot(of: hash)].element = element }

    /// Takes out what has this hash, which is in the table.
    @inline(__always)
    package mutating func remove(_ hash: UInt32) {
        taken -= 1
        // Those behind it move up where they may, so that no gap lies between an element and where it is looked for first.
        var gap = slot(of: hash)
        var slot = gap
        while true {
            slot = following(slot)
            let other = slots[slot]
            guard other.element != -1 else { break }
            guard distance(from: home(other.hash), to: slot) >= distance(from: gap, to: slot) else { continue }
            slots[gap] = other
            gap = slot
        }
        slots[gap].element = -1
    }

    /// Slots that are looked at before the element that is found last.
    package var longestSearch: Int {
        (0..<Int32(slots.count)).reduce(0) { longest, slot in
            slots[slot].element == -1 ? longest : max(longest, Int(distance(from: home(slots[slot].hash), to: slot)))
        }
    }

    @inline(never)
    private mutating func grow() {
        var before = Slab(repeating: Slot(), count: slots.count + slots.count / 4)
        swap(&slots, &before)
        for index in 0..<Int32(before.count) where before[index].element != -1 {
            slots[slot(of: before[index].hash)] = before[index]
        }
    }
}
