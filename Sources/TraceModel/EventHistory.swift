/// Details of one event's packet, beside its place.
public struct StepDetail: Sendable {
    /// Microseconds since 1970; `isStamped` says whether the kernel gave it.
    public var time: Int64
    public var isStamped: Bool
    public var tuple: PacketTuple
    public var timeToLive: UInt8
    public var mark: UInt32

    public init(time: Int64, isStamped: Bool, tuple: PacketTuple, timeToLive: UInt8, mark: UInt32) {
        self.time = time
        self.isStamped = isStamped
        self.tuple = tuple
        self.timeToLive = timeToLive
        self.mark = mark
    }
}

/// The latest events, so that a journey can be shown step by step: a ring in which every event knows its predecessor.
///
/// An event takes 24 bytes. Its addresses, which most of a packet's events share, are in a ring of their own.
public struct EventHistory: Sendable {
    /// Stands for "no event".
    public static let none = UInt64.max

    private struct Slot: Sendable, BitwiseCopyable {
        var time: Int64
        /// How far back the predecessor is; 0 for none.
        var distance: UInt32
        /// The lower bits of a position in `tuples`.
        var tuple: UInt32
        var mark: UInt32
        var timeToLive: UInt8
        var isStamped: Bool
    }

    private var slots: [Slot]
    private var tuples: [PacketTuple]
    /// The position that the next event will have.
    public private(set) var next: UInt64 = 0
    private var nextTuple: UInt32 = 0

    /// - Parameter capacity: events kept; a power of two.
    public init(capacity: Int = 1 << 15) {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0, "a ring's capacity is a power of two")
        slots = [Slot](
            repeating: Slot(time: 0, distance: 0, tuple: 0, mark: 0, timeToLive: 0, isStamped: false), count: capacity)
        let none = IPAddress(ipv4: 0)
        tuples = [PacketTuple](
            repeating: PacketTuple(source: none, destination: none, sourcePort: 0, destinationPort: 0, transport: 0),
            count: max(1, capacity / 4))
    }

    /// The latest position with these lower bits: completes one that is less than 2^32 events old.
    @inline(__always)
    public func position(endingIn low: UInt32) -> UInt64 { next &- 1 &- UInt64(UInt32(truncatingIfNeeded: next &- 1) &- low) }

    /// Keeps an event behind the one at `previous` and gives its position.
    public mutating func append(_ sighting: Sighting, _ tuple: PacketTuple, after previous: UInt64) -> UInt64 {
        let position = nextTuple
        nextTuple &+= 1
        tuples[Int(position) & (tuples.count - 1)] = tuple
        return append(sighting, position, distance(to: previous))
    }

    /// Keeps an event that has the addresses and ports of the one at `previous`, and gives its position.
    ///
    /// - Returns: `nil`, and nothing is kept, where the one at `previous` has been overwritten.
    public mutating func append(_ sighting: Sighting, like previous: UInt64) -> UInt64? {
        let distance = distance(to: previous)
        guard distance > 0 else { return nil }
        let known = slots[Int(truncatingIfNeeded: previous) & (slots.count - 1)].tuple
        guard nextTuple &- known <= UInt32(truncatingIfNeeded: tuples.count) else { return nil }
        return append(sighting, known, distance)
    }

    /// How many events lie between the next one and its predecessor; 0 where that is none or has been overwritten.
    @inline(__always)
    private func distance(to previous: UInt64) -> UInt32 {
        let back = next &- previous
        return previous != EventHistory.none && back <= UInt64(slots.count) ? UInt32(truncatingIfNeeded: back) : 0
    }

    @inline(__always)
    private mutating func append(_ sighting: Sighting, _ tuple: UInt32, _ distance: UInt32) -> UInt64 {
        let position = next
        next += 1
        slots[Int(truncatingIfNeeded: position) & (slots.count - 1)] = Slot(
            time: sighting.time, distance: distance, tuple: tuple, mark: sighting.mark, timeToLive: sighting.timeToLive,
            isStamped: sighting.isStamped)
        return position
    }

    /// The event before one of the same leg; `none` where there is none, or it has been overwritten.
    public func predecessor(of position: UInt64) -> UInt64 {
        guard position < next, next - position <= UInt64(slots.count) else { return EventHistory.none }
        let distance = UInt64(slots[Int(truncatingIfNeeded: position) & (slots.count - 1)].distance)
        return distance > 0 && distance <= position ? position - distance : EventHistory.none
    }

    /// The kernel's time of an event, in microseconds since 1970; `nil` where it gave none, or the event has been overwritten.
    public func stamp(at position: UInt64) -> Int64? {
        guard position < next, next - position <= UInt64(slots.count) else { return nil }
        let slot = slots[Int(truncatingIfNeeded: position) & (slots.count - 1)]
        return slot.isStamped ? slot.time : nil
    }

    /// Whether an event with the addresses and ports of the one at `position` follows it, and is not later than `time`.
    ///
    /// - Returns: `true` also where too many events have come since to tell.
    public func isSeenAgain(after position: UInt64, upTo time: Int64) -> Bool {
        guard position < next, next - position <= UInt64(slots.count) else { return true }
        let own = slots[Int(truncatingIfNeeded: position) & (slots.count - 1)]
        let tuple = tuples[Int(own.tuple) & (tuples.count - 1)]
        var current = position + 1
        while current < next {
            guard current - position < EventHistory.mostSearched else { return true }
            let slot = slots[Int(truncatingIfNeeded: current) & (slots.count - 1)]
            if slot.isStamped, slot.time >= own.time, slot.time <= time, tuples[Int(slot.tuple) & (tuples.count - 1)] == tuple {
                return true
            }
            current += 1
        }
        return false
    }

    private static let mostSearched: UInt64 = 1 << 13

    /// The events that led to the one at `position`, first to last; the earliest are missing where the ring has been
    /// overwritten since.
    public func details(upTo position: UInt64) -> [StepDetail] {
        var details: [StepDetail] = []
        var current = position
        while current != EventHistory.none, current < next, next - current <= UInt64(slots.count) {
            let slot = slots[Int(truncatingIfNeeded: current) & (slots.count - 1)]
            guard nextTuple &- slot.tuple <= UInt32(truncatingIfNeeded: tuples.count) else { break }
            details.append(
                StepDetail(
                    time: slot.time, isStamped: slot.isStamped, tuple: tuples[Int(slot.tuple) & (tuples.count - 1)],
                    timeToLive: slot.timeToLive, mark: slot.mark))
            guard slot.distance > 0, UInt64(slot.distance) <= current else { break }
            current -= UInt64(slot.distance)
        }
        return details.reversed()
    }
}
