internal import TraceModel

/// The connections whose addresses are translated, as connection tracking reports them, by namespace.
struct TranslationTable: Sendable {
    private struct Key: Hashable {
        var namespace: Int
        var tuple: PacketTuple
    }

    private struct Entry {
        /// The packet behind all translation.
        var translated: PacketTuple
        var direction: Direction
    }

    private var entries: [Key: Entry] = [:]
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    /// - Parameters:
    ///   - original: the tuple of the connection's first packet as it came.
    ///   - reply: the tuple of its replies as they come.
    mutating func insert(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        // One that finds no room is not confirmed; what the events themselves show of it stays.
        guard entries.count < capacity * 2 else { return }
        entries[Key(namespace: namespace, tuple: original)] = Entry(translated: reply.reversed, direction: .original)
        entries[Key(namespace: namespace, tuple: reply)] = Entry(translated: original.reversed, direction: .reply)
    }

    mutating func remove(namespace: Int, original: PacketTuple, reply: PacketTuple) {
        entries[Key(namespace: namespace, tuple: original)] = nil
        entries[Key(namespace: namespace, tuple: reply)] = nil
    }

    mutating func removeAll(namespace: Int) {
        entries = entries.filter { $0.key.namespace != namespace }
    }

    /// What becomes of a packet that enters `namespace` as `tuple`.
    func translation(of tuple: PacketTuple, in namespace: Int) -> (translated: PacketTuple, direction: Direction)? {
        guard let entry = entries[Key(namespace: namespace, tuple: tuple)] else { return nil }
        return (entry.translated, entry.direction)
    }
}
