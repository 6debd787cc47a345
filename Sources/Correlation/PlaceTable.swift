/// Small numbers by hash, one for each hash: open addressing with linear probing, so that most look-ups read one line of memory.
struct PlaceTable: ~Copyable {
    private struct Slot: BitwiseCopyable {
        var hash: UInt32 = 0
        /// -1 in a free slot.
        var element: Int32 = -1
    }

    private var slots: Slab<Slot>
    private var taken = 0

    /// - Parameter capacity: a power of two.
    init(capacity: Int) { slots = Slab(repeating: Slot(), count: capacity) }

    @inline(__always)
    private var mask: UInt32 { UInt32(truncatingIfNeeded: slots.count - 1) }

    /// The slot with this hash, or the free one where it would be.
    @inline(__always)
    private func slot(of hash: UInt32) -> Int32 {
        var slot = Int32(bitPattern: hash & mask)
        while slots[slot].element != -1, slots[slot].hash != hash { slot = following(slot) }
        return slot
    }

    @inline(__always)
    private func following(_ slot: Int32) -> Int32 { Int32(bitPattern: UInt32(bitPattern: slot &+ 1) & mask) }

    /// What has this hash; -1 for nothing.
    @inline(__always)
    subscript(hash: UInt32) -> Int32 { slots[slot(of: hash)].element }

    /// Tells the processor that this hash will be looked for soon.
    @inline(__always)
    func prefetch(_ hash: UInt32) { slots.prefetch(Int32(bitPattern: hash & mask)) }

    /// Puts an element in, unless there is one with this hash.
    ///
    /// - Returns: that one, or -1.
    @inline(__always)
    mutating func insert(_ element: Int32, _ hash: UInt32) -> Int32 {
        if taken * 3 >= slots.count * 2 { grow() }
        let slot = slot(of: hash)
        let known = slots[slot].element
        guard known == -1 else { return known }
        slots[slot] = Slot(hash: hash, element: element)
        taken += 1
        return -1
    }

    /// Puts another element in the place of the one with this hash.
    mutating func replace(_ element: Int32, _ hash: UInt32) { slots[slot(of: hash)].element = element }

    /// Takes out what has this hash, which is in the table.
    @inline(__always)
    mutating func remove(_ hash: UInt32) {
        taken -= 1
        // Those behind it move up where they may, so that no gap lies between an element and where it is looked for first.
        var gap = slot(of: hash)
        var slot = gap
        while true {
            slot = following(slot)
            let other = slots[slot]
            guard other.element != -1 else { break }
            let distance = UInt32(bitPattern: slot) &- other.hash & mask
            guard distance >= UInt32(bitPattern: slot &- gap) & mask else { continue }
            slots[gap] = other
            gap = slot
        }
        slots[gap].element = -1
    }

    @inline(never)
    private mutating func grow() {
        var before = Slab(repeating: Slot(), count: slots.count * 2)
        swap(&slots, &before)
        for index in 0..<Int32(before.count) where before[index].element != -1 {
            slots[slot(of: before[index].hash)] = before[index]
        }
    }
}
