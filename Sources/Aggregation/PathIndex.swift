internal import TraceModel

/// Finds the path of a journey: by its legs' step paths and its end.
struct PathIndex: Sendable {
    private struct Entry {
        var hash: UInt64
        /// Of `stepPaths`.
        var start: Int
        var count: Int
        var ending: UInt16
        /// What dropped them.
        var decision: Decision?
    }

    /// By path.
    private var entries: [Entry] = []
    /// The step paths of all entries, one entry's behind the other's.
    private var stepPaths: [StepPathID] = []
    /// Paths by hash, -1 for none; at most half of them are taken.
    private var slots = [Int32](repeating: -1, count: 1 << 6)
    private var last = -1

    var count: Int { entries.count }

    mutating func path(of journey: Journey) -> Int? {
        if last >= 0, isPath(last, of: journey) { return last }
        let hash = Self.hash(journey)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] >= 0 {
            let path = Int(slots[slot])
            if entries[path].hash == hash, isPath(path, of: journey) {
                last = path
                return path
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// Adds the path of a journey that has none yet; its number is the next one.
    mutating func insert(_ journey: Journey) {
        let entry = Entry(
            hash: Self.hash(journey), start: stepPaths.count, count: journey.legs.count, ending: Self.ending(journey),
            decision: journey.decision)
        for leg in journey.legs { stepPaths.append(leg.stepPath) }
        entries.append(entry)
        if entries.count * 2 > slots.count {
            slots = [Int32](repeating: -1, count: slots.count * 2)
            for path in entries.indices { place(path) }
        } else {
            place(entries.count - 1)
        }
    }

    private mutating func place(_ path: Int) {
        var slot = Int(truncatingIfNeeded: entries[path].hash) & (slots.count - 1)
        while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = Int32(path)
    }

    private func isPath(_ path: Int, of journey: Journey) -> Bool {
        guard entries[path].ending == Self.ending(journey), entries[path].count == journey.legs.count else { return false }
        switch (entries[path].decision, journey.decision) {
        case (nil, nil): break
        // A rule stays the same whether its text is known yet or not.
        case (let one?, let other?) where one.isSame(as: other): break
        default: return false
        }
        let start = entries[path].start
        for index in 0..<journey.legs.count where stepPaths[start + index] != journey.legs[index].stepPath { return false }
        return true
    }

    private static func ending(_ journey: Journey) -> UInt16 {
        UInt16(journey.outcome.rawValue) << 8 | UInt16(journey.incompleteReason?.rawValue ?? 0)
    }

    private static func hash(_ journey: Journey) -> UInt64 {
        var hash = UInt64(ending(journey))
        for index in 0..<journey.legs.count {
            hash = (hash ^ UInt64(journey.legs[index].stepPath)) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 32
        }
        switch journey.decision {
        case nil: break
        case .rule(let decision)?: hash ^= UInt64(bitPattern: Int64(decision.place.hashValue))
        case .kernel(let decision)?: hash ^= UInt64(bitPattern: Int64(decision.hashValue))
        }
        return hash
    }
}
