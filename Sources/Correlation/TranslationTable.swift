internal import DequeModule
internal import TraceModel

/// The connections whose addresses are translated, as connection tracking reports them, by namespace.
struct TranslationTable: Sendable {
    private struct Key {
        var namespace: Int
        var tuple: PacketTuple
    }

    private struct Entry: Sendable, BitwiseCopyable {
        /// The packet behind all translation.
        var translated: PacketTuple
        var direction: Direction
        /// When the connection ended; packets that came before still show it.
        var droppedBetween = Int64.max
    }

    private var entries = ConnectionMap<Entry>()
    /// By namespace: whether any translation has been told of there.
    private var isTranslating: [Bool] = []
    /// Flow hashes before a translation, by the hash behind it (`PacketTuple.flow`).
    private var names: [UInt64: UInt64] = [:]
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
        entries[original, in: namespace] = Entry(translated: reply.reversed, direction: .original)
        entries[reply, in: namespace] = Entry(translated: original.reversed, direction: .reply)
        names[reply.flow] = original.flow
        while isTranslating.count <= namespace { isTranslating.append(false) }
        isTranslating[namespace] = true
    }

    /// The connection has ended. Journeys under way are closed later, so it is remembered for a while.
    mutating func end(namespace: Int, original: PacketTuple, reply: PacketTuple, at time: Int64) {
        while let first = ended.first, first.time + Self.memory < time || ended.count > capacity {
            ended.removeFirst()
            let key = first.key
            if let entry = entries[key.tuple, in: key.namespace], entry.droppedBetween == first.time {
                forget(key.tuple, entry)
                entries[key.tuple, in: key.namespace] = nil
            }
        }
        for tuple in [original, reply] where entries[tuple, in: namespace]?.droppedBetween == .max {
            entries[tuple, in: namespace]?.droppedBetween = time
            ended.append((Key(namespace: namespace, tuple: tuple), time))
        }
    }

    mutating func removeAll(namespace: Int) {
        for (tuple, entry) in entries.removeAll(namespace: namespace) { forget(tuple, entry) }
    }

    private mutating func forget(_ tuple: PacketTuple, _ entry: Entry) {
        if entry.direction == .reply { names[tuple.flow] = nil }
    }

    /// The flow's identity before all translations that are known.
    func name(of flow: UInt64) -> UInt64 {
        var name = flow
        // Routers in a row, of which each translates; bounded, since two may translate in a circle.
        for _ in 0..<8 {
            guard let before = names[name] else { break }
            name = before
        }
        return name
    }

    /// What becomes of a packet will be asked soon: first the one, and when that has had time to come the other.
    @inline(__always)
    func prefetch(_ tuple: PacketTuple, in namespace: Int) {
        if isLarge, namespace < isTranslating.count, isTranslating[namespace] { entries.prefetch(tuple, in: namespace) }
    }

    @inline(__always)
    func prefetchEntry(_ tuple: PacketTuple, in namespace: Int) {
        if isLarge, namespace < isTranslating.count, isTranslating[namespace] { entries.prefetchEntry(tuple, in: namespace) }
    }

    /// Fewer stay in the processor's cache by themselves.
    @inline(__always)
    private var isLarge: Bool { entries.count > 1 << 12 }

    /// What becomes of a packet that entered `namespace` as `tuple`.
    ///
    /// - Parameter time: when it was first seen.
    func translation(of tuple: PacketTuple, in namespace: Int, at time: Int64) -> (
        translated: PacketTuple, direction: Direction
    )? {
        guard namespace < isTranslating.count, isTranslating[namespace], let entry = entries[tuple, in: namespace],
            entry.droppedBetween >= time
        else { return nil }
        return (entry.translated, entry.direction)
    }
}
