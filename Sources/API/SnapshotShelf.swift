internal import Aggregation
private import Synchronization

/// Snapshots of which clients have read the first page of a list, for the pages that follow: all pages of one list are of one moment,
/// so that none is shown twice or left out.
final class SnapshotShelf: Sendable {
    private struct Entry {
        var id: UInt64
        var snapshot: TraceSnapshot
        var until: ContinuousClock.Instant
    }

    private let entries = Mutex<[Entry]>([])
    private static let most = 4
    private static let lifetime = Duration.seconds(60)

    /// Keeps a snapshot for a minute, or until four others have come.
    func put(_ snapshot: TraceSnapshot, as id: UInt64) {
        entries.withLock { entries in
            entries.removeAll { $0.until < .now || $0.id == id }
            if entries.count >= Self.most { entries.removeFirst() }
            entries.append(Entry(id: id, snapshot: snapshot, until: .now + Self.lifetime))
        }
    }

    func take(_ id: UInt64) -> TraceSnapshot? {
        entries.withLock { entries in
            guard let index = entries.firstIndex(where: { $0.id == id && $0.until >= .now }) else { return nil }
            // In use: it stays for longer than those that nobody reads on.
            var entry = entries.remove(at: index)
            entry.until = .now + Self.lifetime
            entries.append(entry)
            return entry.snapshot
        }
    }
}
