private import CLinux
private import Glibc
package import LinuxSupport
internal import Ruleset
private import Synchronization
internal import WireFormat

/// Notices when rules of the namespaces being traced change, and tracks whether the probes in force are known.
///
/// nf_tables tells of every change (`NFNLGRP_NFTABLES`); the event loop reads that, so that it knows of a change before it misses an
/// event. iptables-legacy tells of none: its rules are read again and again, and nothing is concluded from the silence of probes
/// later than the last time they were found in place. What follows a change is the same for both: the probes' signature is read,
/// which settles nearly all changes; where it is another one, the rules are surveyed. Until then journeys wait.
///
/// Times are microseconds by the event loop's clock.
package final class RulesetWatch: Sendable {
    /// A change that may concern probes.
    fileprivate struct Change {
        enum Stage {
            case noticed, needsSurvey, surveyed, unchanged
        }

        var stage = Stage.noticed
        /// Up to when the rules were as before.
        var since: Int64
        /// When the latest of the changes was noticed.
        var until: Int64
        /// When everything that happened before `until` had been received.
        var received: Int64?
        var isTold = false
        /// Whether the signature was another one at some time since.
        var isConcerning = false
        /// The latest signature that was another one.
        var signature: ProbeSignature?
    }

    fileprivate struct Place {
        let namespace: NetworkNamespace
        /// The namespace's numbers in the layout.
        let indices: [Int]
        /// `nil` where the kernel has no nf_tables.
        let socket: Holder?
        /// Signature of the rules that were surveyed last.
        var signature: ProbeSignature?
        var change: Change?
        /// Counts changes that may concern probes.
        var count: UInt64 = 0
        /// Rules that concern no probe changed since the last survey.
        var isStale = false
        /// When rules of iptables-legacy were last found to be as before; `nil` where there are none.
        var legacySince: Int64?
        /// When the signature is read next.
        var nextReading = Int64.min
        /// When the rules may be surveyed next for a change that concerns probes, for another one, and for none.
        var nextSurvey = Int64.min
        var nextStale = Int64.min
        var nextRoutine = Int64.min
    }

    /// A move-only socket within a value that is copied.
    fileprivate final class Holder: Sendable {
        let socket: NetlinkSocket
        init(_ socket: consuming NetlinkSocket) { self.socket = socket }
    }

    fileprivate struct State {
        /// By the key that `add` was given.
        var places: [Int: Place] = [:]
        /// The keys of places with a change.
        var changing: Set<Int> = []
        /// The least `legacySince`.
        var legacyFloor = Int64.max
        /// When there was no notification to read last.
        var quiet = Int64.min
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
    }

    private let state = Mutex(State())
    private let clock: @Sendable () -> Int64
    /// Readable while notifications wait (epoll(7)).
    package let descriptor: Int32

    /// Journeys wait for at most so long for what becomes of a change.
    private static let longestHold: Int64 = 3_000_000
    /// How often rules of iptables-legacy are read, and how often those are looked for where there are none.
    private static let legacyPeriod: Int64 = 200_000
    private static let searchPeriod: Int64 = 1_000_000
    /// How long after a change that concerns no probe the rules are surveyed, for what reports say of them.
    private static let stalePeriod: Int64 = 1_000_000
    /// Rules that are followed are surveyed so often all the same, others more often.
    private static let routinePeriod: Int64 = 60_000_000
    private static let unfollowedPeriod: Int64 = 5_000_000
    /// Reading and surveying take at most a twentieth of the time, surveys for a change that concerns probes a third.
    private static let readingShare: Int64 = 20
    private static let surveyShare: Int64 = 2

    /// - Parameter clock: the event loop's.
    package init(clock: @escaping @Sendable () -> Int64) {
        self.clock = clock
        // Without it (-1) the rules are surveyed every five seconds.
        descriptor = ipt_epoll_create()
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    // MARK: Namespaces

    /// - Parameters:
    ///   - key: tells the namespace from all others.
    ///   - indices: its numbers in the layout.
    package func add(_ namespace: NetworkNamespace, key: Int, indices: [Int]) {
        let holder = try? namespace.enter {
            let socket = try NetlinkSocket(.netfilter, groups: Self.notifications)
            _ = socket.setReceiveBuffer(Self.bufferSize)
            return Holder(socket)
        }
        state.withLock { state in
            state.places[key] = Place(namespace: namespace, indices: indices, socket: holder)
        }
        guard let holder, descriptor >= 0 else { return }
        _ = ipt_epoll_add(descriptor, holder.socket.descriptor, UInt64(key))
    }

    /// `NFNLGRP_NFTABLES` (7), by bit.
    private static let notifications: UInt32 = 1 << 6
    /// Some thousand rules at once; what does not fit counts as a change.
    private static let bufferSize: Int32 = 1 << 20

    package func remove(key: Int) {
        state.withLock { state in
            state.places[key] = nil
            state.changing.remove(key)
            state.findLegacyFloor()
        }
    }

    // MARK: The event loop's side

    /// The work of one turn of the event loop.
    package struct Turn {
        /// Up to when the probes in force are known: only what ended before may be concluded from the silence of a probe.
        package var known = Int64.max
        /// Numbers of namespaces whose rules are in doubt from now on, and since when.
        package var changing: [(index: Int, since: Int64)] = []
        /// Numbers of namespaces of whose changes none concerns a probe.
        package var unchanged: [Int] = []
        /// Numbers of namespaces whose rules are those of the registry's layout, for all packets that are seen after `since`.
        package var settled: [(index: Int, since: Int64)] = []
        /// Whether a layout may be taken: what ended before the changes has been decided by the one before.
        package var mayTakeLayout = true
    }

    /// Whether a change is being looked into.
    package var isBusy: Bool { state.withLock { !$0.changing.isEmpty } }

    /// Reads notifications and reports the state of changes.
    ///
    /// - Parameters:
    ///   - isReadable: whether `descriptor` was readable; if not, nothing was there to read at `asked`.
    ///   - now: when it was found so.
    ///   - confirmed: up to when everything that happened has been received (`ConfirmedTime`).
    package func turn(isReadable: Bool, asked: Int64, now: Int64, confirmed: Int64) -> Turn {
        state.withLock { state in
            if isReadable { drain(&state, now) } else { state.quiet = asked }
            var turn = Turn()
            if state.legacyFloor < now - Self.longestHold { state.doubtLegacy(before: now - Self.longestHold, now: now) }
            turn.known = state.legacyFloor
            if !state.changing.isEmpty { state.follow(&turn, now: now, confirmed: confirmed) }
            turn.known = max(turn.known, now - Self.longestHold)
            return turn
        }
    }

    private func drain(_ state: inout State, _ now: Int64) {
        var keys = [UInt64](repeating: 0, count: 64)
        let count = unsafe ipt_epoll_ready(descriptor, &keys, Int32(keys.count))
        guard count > 0 else { return }
        for key in keys[..<Int(count)].map({ Int($0) }) {
            guard var place = state.places[key], let holder = place.socket else { continue }
            let concerns = Self.drain(holder.socket, &state.buffer)
            place.isStale = true
            if concerns {
                place.note(since: min(state.quiet, now), until: now)
                state.changing.insert(key)
            }
            state.places[key] = place
        }
    }

    /// - Returns: whether a change may concern probes.
    private static func drain(_ socket: borrowing NetlinkSocket, _ buffer: inout [UInt8]) -> Bool {
        var concerns = false
        // Bounded: the rest is read in the next turn.
        for _ in 0..<256 {
            switch socket.receive(into: &buffer) {
            case .nothing: return concerns
            // An overflow: more has changed than was reported.
            case .failed: concerns = true
            case .bytes(let count):
                guard !concerns else { continue }
                let bytes = buffer.octets.extracting(0..<count)
                var offset = 0
                do {
                    while let message = try NetlinkMessage.next(in: bytes, at: &offset) {
                        guard let notice = try RulesetNotice(parsing: bytes, message) else { continue }
                        if ProbeSignature.mayConcern(notice) { concerns = true }
                    }
                } catch {
                    // What cannot be read may say anything.
                    concerns = true
                }
            }
        }
        return concerns
    }

    // MARK: Reading signatures

    /// Reads the signatures of namespaces where something may have changed. Starts no program.
    package func look() {
        let keys = state.withLock { Array($0.places.keys) }
        for key in keys {
            guard let place = state.withLock({ $0.places[key] }) else { continue }
            let begun = clock()
            let isPending = place.change?.stage == .noticed
            guard isPending || begun >= place.nextReading else { continue }
            guard let known = place.change?.signature ?? place.signature else {
                if isPending { state.withLock { $0.places[key]?.change?.stage = .needsSurvey } }
                continue
            }
            let read = try? ProbeSignature.read(place.namespace, onlyLegacyBehind: isPending ? nil : known)
            let end = clock()
            state.withLock { state in
                guard var current = state.places[key] else { return }
                defer {
                    if current.change != nil { state.changing.insert(key) }
                    state.places[key] = current
                    state.findLegacyFloor()
                }
                let period = known.hasLegacy ? Self.legacyPeriod : Self.searchPeriod
                current.nextReading = end + max(period, Self.readingShare * (end - begun))
                guard let read, known.continues(in: read) else {
                    // What cannot be read is not followed any longer.
                    let since = current.legacySince ?? begun
                    if read == nil { current.legacySince = nil }
                    guard read != nil || isPending else { return }
                    if !isPending { current.note(since: since, until: end) }
                    current.change?.stage = .needsSurvey
                    current.change?.isConcerning = true
                    current.change?.signature = read
                    return
                }
                guard current.count == place.count, place.change?.stage != .needsSurvey else { return }
                current.signature = read
                if read.hasLegacy { current.legacySince = begun }
                if isPending, let change = current.change, change.stage == .noticed {
                    current.change?.stage = change.isConcerning ? .surveyed : .unchanged
                }
            }
        }
    }

    // MARK: Surveys

    /// A survey of a namespace that is under way.
    package struct Survey {
        package let key: Int
        fileprivate let count: UInt64
        fileprivate let signature: ProbeSignature?
        fileprivate let begun: Int64
    }

    /// A packet has come from a rule that no survey has found.
    package func wishSurvey() {
        state.withLock { state in
            for key in state.places.keys { state.places[key]?.isStale = true }
        }
    }

    /// The keys of namespaces whose rules are to be surveyed now.
    package func due() -> [Int] {
        let now = clock()
        return state.withLock { state in
            state.places.filter { _, place in
                if place.change?.stage == .needsSurvey { return now >= place.nextSurvey }
                return now >= (place.isStale ? min(place.nextStale, place.nextRoutine) : place.nextRoutine)
            }
            .keys.sorted()
        }
    }

    /// Rules of a namespace are going to be surveyed.
    package func begin(_ key: Int) -> Survey? {
        guard let place = state.withLock({ $0.places[key] }) else { return nil }
        let begun = clock()
        state.withLock { $0.places[key]?.isStale = false }
        return Survey(
            key: key, count: place.count, signature: try? ProbeSignature.read(place.namespace), begun: begun)
    }

    /// The registry has the rules that the survey found.
    ///
    /// - Parameter isRead: whether they could be read.
    package func end(_ survey: Survey, isRead: Bool) {
        guard let place = state.withLock({ $0.places[survey.key] }) else { return }
        let begun = clock()
        let signature = isRead ? try? ProbeSignature.read(place.namespace) : nil
        let now = clock()
        state.withLock { state in
            guard var place = state.places[survey.key] else { return }
            defer {
                state.places[survey.key] = place
                if place.change != nil { state.changing.insert(survey.key) }
                state.findLegacyFloor()
            }
            let cost = now - survey.begun
            let isFollowed = place.socket != nil && signature != nil
            place.nextRoutine = now + max(isFollowed ? Self.routinePeriod : Self.unfollowedPeriod, Self.readingShare * cost)
            place.nextSurvey = now + Self.surveyShare * cost
            place.nextStale = now + max(Self.stalePeriod, Self.readingShare * cost)
            guard let before = survey.signature, let signature else {
                // Probes that cannot be followed are what the survey found.
                if isRead { place.change?.stage = .surveyed }
                return
            }
            let isSame = place.signature?.continues(in: before) ?? (place.change == nil)
            if !isSame, place.change == nil { place.note(since: place.legacySince ?? survey.begun, until: survey.begun) }
            if !isSame { place.change?.isConcerning = true }
            if var change = place.change, let known = change.signature, !known.continues(in: before) {
                change.until = max(change.until, survey.begun)
                change.received = nil
                place.change = change
            }
            guard before.continues(in: signature) else {
                // They changed meanwhile: which ones were surveyed is not known.
                if place.change == nil { place.note(since: place.legacySince ?? survey.begun, until: now) }
                place.change?.isConcerning = true
                place.change?.stage = .needsSurvey
                return
            }
            place.signature = signature
            place.change?.signature = nil
            place.legacySince = signature.hasLegacy ? begun : nil
            guard place.change?.isConcerning == true else { return }
            // Changes that were noticed meanwhile are compared with the rules that have been found.
            place.change?.stage = survey.count == place.count ? .surveyed : .noticed
        }
    }
}

extension RulesetWatch.State {
    fileprivate mutating func findLegacyFloor() {
        legacyFloor = places.values.compactMap(\.legacySince).min() ?? .max
    }

    /// Rules of iptables-legacy that were not read for too long may have changed.
    fileprivate mutating func doubtLegacy(before time: Int64, now: Int64) {
        for (key, place) in places where place.change == nil {
            guard let since = place.legacySince, since < time else { continue }
            places[key]?.note(since: since, until: now)
            changing.insert(key)
        }
    }

    fileprivate mutating func follow(_ turn: inout RulesetWatch.Turn, now: Int64, confirmed: Int64) {
        for key in changing {
            guard var change = places[key]?.change, let indices = places[key]?.indices else { continue }
            if !change.isTold { turn.changing += indices.map { ($0, change.since) } }
            change.isTold = true
            if change.received == nil, confirmed >= change.until { change.received = now }
            let isOverdue = now - change.until > 2_000_000
            switch change.stage {
            case .unchanged:
                turn.unchanged += indices
                places[key]?.change = nil
            case .surveyed where change.received != nil || isOverdue:
                turn.settled += indices.map { ($0, change.received ?? now) }
                places[key]?.change = nil
            default:
                places[key]?.change = change
                turn.known = min(turn.known, change.since)
                if change.received == nil, !isOverdue { turn.mayTakeLayout = false }
            }
            if places[key]?.change == nil { turn.known = min(turn.known, change.since) }
        }
        changing = changing.filter { places[$0]?.change != nil }
    }
}

extension RulesetWatch.Place {
    /// Takes in a change, together with one that is being looked into.
    fileprivate mutating func note(since: Int64, until: Int64) {
        count += 1
        guard var known = change else {
            change = RulesetWatch.Change(since: since, until: until)
            return
        }
        if since < known.since {
            known.since = since
            known.isTold = false
        }
        known.until = until
        known.received = nil
        if known.stage != .needsSurvey { known.stage = .noticed }
        change = known
    }
}
