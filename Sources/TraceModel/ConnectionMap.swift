/// Values by namespace and tuple: what is known of a connection there. An open table that is asked for every packet, so that
/// looking something up costs one multiplication's hash (`PacketTuple.mixed`) and mostly one line of memory.
public struct ConnectionMap<Value: Sendable & BitwiseCopyable>: Sendable {
    @usableFromInline
    struct Slot: Sendable {
        @usableFromInline var tuple: PacketTuple
        @usableFromInline var namespace: Int32
        /// Of the key, never 0; 0 for a free slot.
        @usableFromInline var hash: UInt32
        @usableFromInline var value: Value

        @inlinable init(tuple: PacketTuple, namespace: Int32, hash: UInt32, value: Value) {
            self.tuple = tuple
            self.namespace = namespace
            self.hash = hash
            self.value = value
        }
    }

    /// At most half of them are taken; a power of two.
    @usableFromInline var slots: [Slot] = []
    @usableFromInline var taken = 0

    @inlinable public init() {}

    @inlinable public var count: Int { taken }

    @inlinable @inline(__always)
    static func hash(_ tuple: PacketTuple, _ namespace: Int) -> UInt32 {
        let mixed = tuple.mixed ^ UInt64(truncatingIfNeeded: namespace) &* 0x9E37_79B9_7F4A_7C15
        return UInt32(truncatingIfNeeded: mixed ^ mixed >> 32) | 1 << 31
    }

    @inlinable
    func place(_ tuple: PacketTuple, _ namespace: Int) -> (index: Int, isTaken: Bool, hash: UInt32) {
        let hash = Self.hash(tuple, namespace)
        var index = Int(hash) & (slots.count - 1)
        while slots[index].hash != 0 {
            if slots[index].hash == hash, slots[index].namespace == namespace, slots[index].tuple == tuple {
                return (index, true, hash)
            }
            index = (index + 1) & (slots.count - 1)
        }
        return (index, false, hash)
    }

    /// Setting `nil` takes the entry out.
    @inlinable
    public subscript(tuple: PacketTuple, in namespace: Int) -> Value? {
        get {
            guard taken > 0 else { return nil }
            let place = place(tuple, namespace)
            return place.isTaken ? slots[place.index].value : nil
        }
        set {
            guard let newValue else { return remove(tuple, namespace) }
            if slots.isEmpty || taken * 2 >= slots.count { grow(with: newValue) }
            let place = place(tuple, namespace)
            if place.isTaken {
                slots[place.index].value = newValue
            } else {
                slots[place.index] = Slot(
                    tuple: tuple, namespace: Int32(truncatingIfNeeded: namespace), hash: place.hash, value: newValue)
                taken += 1
            }
        }
    }

    @inlinable
    mutating func remove(_ tuple: PacketTuple, _ namespace: Int) {
        guard taken > 0 else { return }
        let place = place(tuple, namespace)
        guard place.isTaken else { return }
        taken -= 1
        // Those behind it move up where they may, so that no gap lies between a key and where it is looked for first.
        var gap = place.index
        var index = gap
        while true {
            index = (index + 1) & (slots.count - 1)
            guard slots[index].hash != 0 else { break }
            let home = Int(slots[index].hash) & (slots.count - 1)
            let isReachable = (index &- home) & (slots.count - 1) >= (index &- gap) & (slots.count - 1)
            guard isReachable else { continue }
            slots[gap] = slots[index]
            gap = index
        }
        slots[gap].hash = 0
    }

    @inlinable
    mutating func grow(with value: Value) {
        let none = IPAddress(ipv4: 0)
        let free = Slot(
            tuple: PacketTuple(source: none, destination: none, sourcePort: 0, destinationPort: 0, transport: 0), namespace: 0,
            hash: 0, value: value)
        let before = slots
        slots = [Slot](repeating: free, count: max(16, before.count * 2))
        for slot in before where slot.hash != 0 {
            var index = Int(slot.hash) & (slots.count - 1)
            while slots[index].hash != 0 { index = (index + 1) & (slots.count - 1) }
            slots[index] = slot
        }
    }

    /// Takes out everything that is known of a namespace, and gives it.
    @inlinable @discardableResult
    public mutating func removeAll(namespace: Int) -> [(tuple: PacketTuple, value: Value)] {
        let removed = slots.filter { $0.hash != 0 && $0.namespace == namespace }.map { ($0.tuple, $0.value) }
        for (tuple, _) in removed { remove(tuple, namespace) }
        return removed
    }
}
