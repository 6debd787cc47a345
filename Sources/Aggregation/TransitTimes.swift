internal import TraceModel

/// How long packets took through namespaces, by the kernel's stamps, as histograms.
///
/// A sample: at most `mostInMillisecond` packets of each 1,024 µs are measured, so that a flood costs no more than that.
public struct TransitTimes: Sendable {
    /// What ends the time that began with the packet's arrival in a namespace.
    public enum End: Int, Sendable, CaseIterable {
        /// Its last chain in INPUT, or in FORWARD.
        case input, forward
        /// Its arrival in another namespace that is traced.
        case next

        public var name: String {
            switch self {
            case .input: "input"
            case .forward: "forward"
            case .next: "next_namespace"
            }
        }
    }

    public struct Histogram: Sendable {
        /// Packets that took at most `bounds[index]`, and more than the bound before; the last number is of those above all bounds.
        public internal(set) var counts: [UInt64]
        /// Microseconds.
        public internal(set) var sum: Int64 = 0

        init() { counts = [UInt64](repeating: 0, count: TransitTimes.bounds.count + 1) }

        public var count: UInt64 { counts.reduce(0, +) }

        mutating func add(_ time: Int64) {
            counts[TransitTimes.bounds.firstIndex { time <= $0 } ?? TransitTimes.bounds.count] += 1
            sum += time
        }

        /// Adds another one's packets.
        public mutating func add(_ other: Histogram) {
            for index in counts.indices { counts[index] += other.counts[index] }
            sum += other.sum
        }
    }

    /// Microseconds.
    public static let bounds: [Int64] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000]
    private static let mostInMillisecond = 4
    /// Namespaces beyond this index are not measured.
    private static let mostNamespaces = 1 << 10

    /// By the namespace's index and `End`; nothing where no packet was measured.
    private var histograms: [Histogram?] = []
    private var window: Int64 = .min
    private var measuredInWindow = 0

    public init() {}

    /// `nil` where no packet was measured.
    public subscript(namespace: Int, end: End) -> Histogram? {
        let index = namespace * End.allCases.count + end.rawValue
        return histograms.indices.contains(index) ? histograms[index] : nil
    }

    /// Measures the packet of a journey that has ended, unless enough were measured at the time.
    @inline(__always)
    mutating func measure(_ journey: Journey, _ history: EventHistory) {
        let now = journey.lastSeen >> 10
        if now != window {
            window = now
            measuredInWindow = 0
        }
        guard measuredInWindow < Self.mostInMillisecond else { return }
        measuredInWindow += 1
        measureLegs(of: journey, history)
    }

    @inline(never)
    private mutating func measureLegs(of journey: Journey, _ history: EventHistory) {
        for index in journey.legs.indices {
            let leg = journey.legs[index]
            // Packets that begin here have no stamp at OUTPUT.
            guard let arrival = history.stamp(at: leg.firstEvent) else { continue }
            if index + 1 < journey.legs.count {
                let next = journey.legs[index + 1]
                if next.namespace != leg.namespace, let end = history.stamp(at: next.firstEvent) {
                    add(end - arrival, leg.namespace, .next)
                }
            }
            guard leg.lastHook != .prerouting else { continue }
            var last = leg.lastEvent
            while last != EventHistory.none, last > leg.firstEvent {
                if let stamp = history.stamp(at: last) {
                    add(stamp - arrival, leg.namespace, leg.lastHook == .input ? .input : .forward)
                    break
                }
                last = history.predecessor(of: last)
            }
        }
    }

    /// One stamp at all hooks of a namespace, which packets have while a program has receive timestamps switched on, is no time.
    private mutating func add(_ time: Int64, _ namespace: Int, _ end: End) {
        guard time > 0, namespace < Self.mostNamespaces else { return }
        let index = namespace * End.allCases.count + end.rawValue
        while histograms.count <= index { histograms.append(nil) }
        histograms[index, default: Histogram()].add(time)
    }
}

extension [TransitTimes.Histogram?] {
    fileprivate subscript(index: Int, default new: @autoclosure () -> TransitTimes.Histogram) -> TransitTimes.Histogram {
        get { self[index] ?? new() }
        _modify {
            var value = self[index] ?? new()
            self[index] = nil
            yield &value
            self[index] = value
        }
    }
}
