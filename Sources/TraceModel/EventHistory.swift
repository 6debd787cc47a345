/// The latest events, so that a journey can be shown step by step: a ring in which every event knows its predecessor.
public struct EventHistory: Sendable {
    /// Stands for "no event".
    public static let none = UInt64.max

    private struct Slot: Sendable {
        var event: Event
        var previous: UInt64
    }

    private var slots: [Slot] = []
    private let capacity: Int
    private var next: UInt64 = 0

    /// - Parameter capacity: events kept; a power of two.
    public init(capacity: Int = 1 << 15) {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0, "a ring's capacity is a power of two")
        self.capacity = capacity
        slots.reserveCapacity(capacity)
    }

    /// Keeps `event` behind the one at `previous` and gives its position.
    public mutating func append(_ event: Event, after previous: UInt64) -> UInt64 {
        let position = next
        next += 1
        let index = Int(truncatingIfNeeded: position) & (capacity - 1)
        if slots.count < capacity {
            slots.append(Slot(event: event, previous: previous))
        } else {
            slots[index].event = event
            slots[index].previous = previous
        }
        return position
    }

    /// The events that led to the one at `position`, first to last; the earliest are missing where the ring has been
    /// overwritten since.
    public func events(upTo position: UInt64) -> [Event] {
        var events: [Event] = []
        var current = position
        while current != EventHistory.none, current < next, next - current <= UInt64(capacity) {
            let slot = slots[Int(truncatingIfNeeded: current) & (capacity - 1)]
            events.append(slot.event)
            // A predecessor is always older; anything else is a slot that was overwritten.
            guard slot.previous == EventHistory.none || slot.previous < current else { break }
            current = slot.previous
        }
        return events.reversed()
    }
}
