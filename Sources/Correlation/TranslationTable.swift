internal import DequeModule
internal import TraceModel

/// The connections whose addresses are translated, as connection tracking reports them, by namespace.
struct TranslationTable: Sendable {
    private struct Key: Hashable {
        var namespace: Int
        var tuple: PacketTuple

        func hash(into hasher: inout Hasher) { hasher.combine(tuple.mixed ^ UInt64(truncatingIfNeeded: namespace) << 40) }
    }

    private struct Entry {
        /// The packet behind all translation.
        var translated: PacketTuple
        var direction: Direction
        /// When the connection ended; packets that came before still show it.
        var endedAt = Int64.max
    }

    private var entries: [Key: Entry] = [:]
    /// Entries that have ended, the oldest first.
    private var ended = Deque<(key: Key, time: Int64)>()
    private let capacity: Int

    /// How long a connection that has ended is remembered, in microseconds: as long as a journey may take to be closed.
    private static let memory: Int64 = 5_000_000

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

    /// The connection has ended. Journeys under way are closed later, so it is remembered for a while.
    mutating func end(namespace: Int, original: PacketTuple, reply: PacketTuple, at time: Int64) {
        while let first = ended.first, first.time + Self.memory < time || ended.count > capacity {
            ended.removeFirst()
            if entries[first.key]?.endedAt == first.time { entries[first.key] = nil }
        }
        for key in [Key(namespace: namespace, tuple: original), Key(namespace: namespace, tuple: reply)]
        where entries[key]?.endedAt == .max {
            entries[key]?.endedAt = time
            ended.append((key, time))
        }
    }

    mutating func removeAll(namespace: Int) {
        entries = entries.filter { $0.key.namespace != namespace }
    }

    /// What becomes of a packet that entered `namespace` as `tuple`.
    ///
    /// - Parameter time: when it was first seen.
    func translation(of tuple: PacketTuple, in namespace: Int, at time: Int64) -> (
        translated: PacketTuple, direction: Direction
    )? {
        guard let entry = entries[Key(namespace: namespace, tuple: tuple)], entry.endedAt >= time else { return nil }
        return (entry.translated, entry.direction)
    }
}
