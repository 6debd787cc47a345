/// Counts for a handful of keys: looking through them costs less than hashing one.
public struct Tally<Key: Equatable & Sendable>: Sendable {
    /// In the order in which the keys came up.
    public private(set) var entries: [(key: Key, value: UInt64)] = []

    public init() {}

    public subscript(key: Key) -> UInt64? {
        for index in entries.indices where entries[index].key == key { return entries[index].value }
        return nil
    }

    /// Counts one more of `key`; of a new one only where fewer than `limit` are known.
    mutating func count(_ key: Key, limit: Int = .max) {
        for index in entries.indices where entries[index].key == key {
            entries[index].value += 1
            return
        }
        if entries.count < limit { entries.append((key, 1)) }
    }
}
