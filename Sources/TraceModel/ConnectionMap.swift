public import CLinux

/// Values by namespace and tuple: facts about a connection there. An open table that is asked for every packet, so that
/// looking something up costs one multiplication's hash (`PacketTuple.mixed`), and a missing key is mostly found missing in one
/// line of memory: keys and values, which take more, are apart.
public struct ConnectionMap<Value: Sendable & BitwiseCopyable>: Sendable {
    @usableFromInline
    struct Slot: Sendable, BitwiseCopyable {
        @usableFromInline var hash: UInt32
        /// Index of the entry; -1 in a free slot.
        @usableFromInline var entry: Int32

        @inlinable init(hash: UInt32, entry: Int32) {
            self.hash = hash
            self.entry = entry
        }
    }

    @usableFromInline
    struct Entry: Sendable, BitwiseCopyable {
        @usableFromInline var tuple: PacketTuple
        @usableFromInline var namespace: Int32
        /// Whether it is one of the map's, and not a place to be used again.
        @usableFromInline var isTaken = true
        @usableFromInline var value: Value

        @inlinable init(tuple: PacketTuple, namespace: Int32, value: Value) {
            self.tuple = tuple
            self.namespace = namespace
            self.value = value
        }
    }

    /// At most half of them are taken; a power of two.
    @usableFromInline var slots: [Slot] = []
    @usableFromInline var entries: [Entry] = []
    /// Places of `entries` to be used again.
    @usableFromInline var free: [Int32] = []

    @inlinable public init() {}

    @inlinable public var count: Int { entries.count - free.count }

    @inlinable @inline(__always)
    static func hash(_ tuple: PacketTuple, _ namespace: Int) -> UInt32 {
        hash(mixed: tuple.mixed, namespace)
    }

    @inlinable @inline(__always)
    static func hash(mixed: UInt64, _ namespace: Int) -> UInt32 {
        let mixed = mixed ^ UInt64(truncatingIfNeeded: namespace) &* 0x9E37_79B9_7F4A_7C15
        return UInt32(truncatingIfNeeded: mixed ^ mixed >> 32)
    }

    /// The slot of a key, or the free one where it would be.
    @inlinable
    func slot(_ tuple: PacketTuple, _ namespace: Int, _ hash: UInt32) -> Int {
        var index = Int(hash) & (slots.count - 1)
        while slots[index].entry >= 0, slots[index].hash != hash || !isEntry(slots[index].entry, tuple, namespace) {
            index = (index + 1) & (slots.count - 1)
        }
        return index
    }

    @inlinable @inline(__always)
    func isEntry(_ entry: Int32, _ tuple: PacketTuple, _ namespace: Int) -> Bool {
        entries[Int(entry)].namespace == namespace && entries[Int(entry)].tuple == tuple
    }

    /// Setting `nil` takes the entry out.
    @inlinable
    public subscript(tuple: PacketTuple, in namespace: Int) -> Value? {
        get {
            guard !slots.isEmpty else { return nil }
            let entry = slots[slot(tuple, namespace, Self.hash(tuple, namespace))].entry
            return entry < 0 ? nil : entries[Int(entry)].value
        }
        set {
            guard let newValue else { return remove(tuple, namespace) }
            if slots.isEmpty || count * 2 >= slots.count { grow() }
            let hash = Self.hash(tuple, namespace)
            let slot = slot(tuple, namespace, hash)
            if slots[slot].entry >= 0 {
                entries[Int(slots[slot].entry)].value = newValue
            } else {
                let new = Entry(tuple: tuple, namespace: Int32(truncatingIfNeeded: namespace), value: newValue)
                slots[slot] = Slot(hash: hash, entry: insert(new))
            }
        }
    }

    /// The value of the key whose tuple has this `PacketTuple.flow`.
    public func value(flow: UInt64, in namespace: Int) -> Value? {
        guard !slots.isEmpty else { return nil }
        // A flow's lowest bit is set, whatever that of the tuple's hash is.
        for mixed in [flow, flow & ~1] {
            let hash = Self.hash(mixed: mixed, namespace)
            var index = Int(hash) & (slots.count - 1)
            while slots[index].entry >= 0 {
                let entry = entries[Int(slots[index].entry)]
                if slots[index].hash == hash, entry.namespace == namespace, entry.tuple.flow == flow { return entry.value }
                index = (index + 1) & (slots.count - 1)
            }
        }
        return nil
    }

    /// Tells the processor that a key will be looked up soon.
    @inlinable @inline(__always)
    public func prefetch(_ tuple: PacketTuple, in namespace: Int) {
        guard !slots.isEmpty else { return }
        let index = Int(Self.hash(tuple, namespace)) & (slots.count - 1)
        unsafe slots.withUnsafeBufferPointer { unsafe ipt_prefetch($0.baseAddress.map { unsafe $0 + index }) }
    }

    /// Fetches the entry that `prefetch`'s slot points to, some time after `prefetch`.
    @inlinable @inline(__always)
    public func prefetchEntry(_ tuple: PacketTuple, in namespace: Int) {
        guard !slots.isEmpty else { return }
        let hash = Self.hash(tuple, namespace)
        let slot = slots[Int(hash) & (slots.count - 1)]
        guard slot.entry >= 0, slot.hash == hash else { return }
        unsafe entries.withUnsafeBufferPointer { entries in
            guard let entry = unsafe entries.baseAddress.map({ unsafe UnsafeRawPointer($0 + Int(slot.entry)) }) else { return }
            unsafe ipt_prefetch(entry)
            unsafe ipt_prefetch(entry + 64)
        }
    }

    @inlinable
    mutating func insert(_ entry: Entry) -> Int32 {
        guard let place = free.popLast() else {
            entries.append(entry)
            return Int32(entries.count - 1)
        }
        entries[Int(place)] = entry
        return place
    }

    @inlinable
    mutating func remove(_ tuple: PacketTuple, _ namespace: Int) {
        guard !slots.isEmpty else { return }
        var gap = slot(tuple, namespace, Self.hash(tuple, namespace))
        guard slots[gap].entry >= 0 else { return }
        entries[Int(slots[gap].entry)].isTaken = false
        free.append(slots[gap].entry)
        // Later slots of the run move up where they may, so that no gap lies between a key and its first slot.
        var index = gap
        while true {
            index = (index + 1) & (slots.count - 1)
            guard slots[index].entry >= 0 else { break }
            let home = Int(slots[index].hash) & (slots.count - 1)
            let isReachable = (index &- home) & (slots.count - 1) >= (index &- gap) & (slots.count - 1)
            guard isReachable else { continue }
            slots[gap] = slots[index]
            gap = index
        }
        slots[gap].entry = -1
    }

    @inlinable
    mutating func grow() {
        let before = slots
        slots = [Slot](repeating: Slot(hash: 0, entry: -1), count: max(16, before.count * 2))
        for slot in before where slot.entry >= 0 {
            var index = Int(slot.hash) & (slots.count - 1)
            while slots[index].entry >= 0 { index = (index + 1) & (slots.count - 1) }
            slots[index] = slot
        }
    }

    /// Calls `body` with every key and its value, in no order.
    @inlinable
    public func forEach(_ body: (_ namespace: Int, _ tuple: PacketTuple, _ value: Value) -> Void) {
        for entry in entries where entry.isTaken { body(Int(entry.namespace), entry.tuple, entry.value) }
    }

    /// Takes out everything that is known of a namespace, and gives it.
    @inlinable @discardableResult
    public mutating func removeAll(namespace: Int) -> [(tuple: PacketTuple, value: Value)] {
        let removed = entries.filter { $0.isTaken && $0.namespace == namespace }.map { ($0.tuple, $0.value) }
        for (tuple, _) in removed { remove(tuple, namespace) }
        return removed
    }
}
