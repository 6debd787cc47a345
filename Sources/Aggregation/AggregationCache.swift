internal import TraceModel

/// Journeys like those that came before: most of them have the steps, addresses, ports and end of an earlier one, so that
/// neither their path nor their flow nor what translated them needs to be looked up again. As many kinds as there are flows, by
/// some bits of a hash in sets of four, of which one gives way.
struct AggregationCache: Sendable {
    struct Kind: Sendable, BitwiseCopyable {
        var path: Int32 = 0
        var flow: Int32 = 0
        /// Version of the flow's record (`FlowRecord.version`).
        var version: UInt64 = 0
        var direction = Direction.original
        /// Where else they are counted (`PathTable.count`), as many as `tallyCount`.
        private var tallies: (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
        private var tallyCount: UInt8 = 0

        init() {}

        /// - Parameter tallies: at most `mostTallies`.
        init(path: Int, flow: Int, version: UInt64, direction: Direction, tallies: [Int]) {
            self.path = Int32(path)
            self.flow = Int32(flow)
            self.version = version
            self.direction = direction
            func number(_ index: Int) -> Int32 { index < tallies.count ? Int32(tallies[index]) : 0 }
            self.tallies = (number(0), number(1), number(2), number(3))
            tallyCount = UInt8(tallies.count)
        }

        func forEachTally(_ body: (Int) -> Void) {
            if tallyCount > 0 { body(Int(tallies.0)) }
            if tallyCount > 1 { body(Int(tallies.1)) }
            if tallyCount > 2 { body(Int(tallies.2)) }
            if tallyCount > 3 { body(Int(tallies.3)) }
        }
    }

    /// Journeys that are counted in more places are looked up each time.
    static let mostTallies = 4

    /// Apart from the kinds, so that a set is looked through in one line of memory; 0 in a free place.
    private var signatures = [UInt64](repeating: 0, count: 1 << 15)
    private var kinds = [Kind](repeating: Kind(), count: 1 << 15)
    /// Which of a set gives way next.
    private var turn = 0

    func kind(_ signature: UInt64) -> Kind? {
        let first = set(signature)
        for place in first..<first + 4 where signatures[place] == signature { return kinds[place] }
        return nil
    }

    mutating func insert(_ kind: Kind, _ signature: UInt64) {
        let first = set(signature)
        let place =
            (first..<first + 4).first { signatures[$0] == 0 || signatures[$0] == signature }
            ?? first + turn
        turn = (turn + 1) & 3
        signatures[place] = signature
        kinds[place] = kind
    }

    /// The first of the four places where a kind may be.
    private func set(_ signature: UInt64) -> Int { Int(truncatingIfNeeded: signature >> 1) & (kinds.count / 4 - 1) &* 4 }

    /// From everything that decides where a journey belongs; never 0. Begins with random numbers (`PacketTuple.mixed`).
    static func signature(_ journey: Journey) -> UInt64 {
        var hash = UInt64(journey.outcome.rawValue) << 8 | UInt64(journey.incompleteReason?.rawValue ?? 0)
        hash |= FlowTable.isReply(journey.packet) ? 1 << 16 : 0
        hash |= UInt64(journey.packet.icmpType) << 24
        func mix(_ word: UInt64) {
            let product = (hash ^ word).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
            hash = product.high ^ product.low
        }
        var last: (tuple: PacketTuple, mixed: UInt64)?
        func mix(_ tuple: PacketTuple) {
            let mixed: UInt64
            if let last, last.tuple == tuple { mixed = last.mixed } else { mixed = tuple.mixed }
            last = (tuple, mixed)
            mix(mixed)
        }
        for index in 0..<journey.legs.count {
            let direction = journey.legs[index].direction
            mix(UInt64(journey.legs[index].stepPath) << 2 | UInt64(direction.map { $0 == .original ? 1 : 2 } ?? 0))
            mix(journey.legs[index].entry)
            mix(journey.legs[index].exit)
        }
        return hash | 1
    }
}
