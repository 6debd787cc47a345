internal import Engine
private import Foundation
internal import LinuxSupport
internal import Logging
private import Ruleset
internal import TraceModel

/// Has packets traced through the rules of their namespaces, and reads the rules that the traces name.
///
/// Works beside the event loop, which must not wait for programs: the loop sends requests and gets messages back.
actor RuleTracer {
    /// A request about a namespace, which is given by its index in the layout.
    enum Request: Sendable {
        case trace(Int, [TracedTraffic])
        case read(Int, Set<RulePlace>)
        /// Packets met these rules of iptables-legacy, as traces say that were received up to then (microseconds since 1970).
        case decide(Int, Set<LegacyTrace>, received: Int64)
        /// Time has passed: sessions that trace nothing any more may end.
        case tick
    }

    private struct Session {
        var table: RuleTraceTable
        /// `nil` where the logger tells nothing that is wanted, or is left alone.
        var logger: LoggerDiversion?
        var legacyRules = LegacyRuleHistory()
        /// When its last element expires.
        var until: ContinuousClock.Instant
    }

    private let logger: Logger
    private let namespace: @Sendable (Int) -> NetworkNamespace?
    private let extent: @Sendable (Int) -> RuleTraceTable.Extent
    private let send: @Sendable (LoopMessage) -> Void
    private var sessions: [Int: Session] = [:]
    /// Where rules cannot be traced: said once.
    private var refused: Set<Int> = []
    private var diversionRefused: Set<Int> = []
    /// Namespaces whose table is being made.
    private var beginning: Set<Int> = []
    /// Nothing is begun any more.
    private var hasEnded = false
    private var texts: RuleTexts?

    /// - Parameters:
    ///   - namespace: the one with an index; `nil` where it is gone.
    ///   - extent: the hooks of a namespace beside IP's at which packets are traced.
    ///   - send: hands a message to the event loop.
    init(
        logger: Logger, namespace: @escaping @Sendable (Int) -> NetworkNamespace?,
        extent: @escaping @Sendable (Int) -> RuleTraceTable.Extent,
        send: @escaping @Sendable (LoopMessage) -> Void
    ) {
        self.logger = logger
        self.namespace = namespace
        self.extent = extent
        self.send = send
    }

    func take(_ request: Request) async {
        switch request {
        case .trace(let index, let traffic): await trace(traffic, in: index)
        case .read(let index, let places): await read(places, in: index)
        case .decide(let index, let traces, let received): await decide(traces, received: received, in: index)
        case .tick: endIdle()
        }
    }

    private func trace(_ traffic: [TracedTraffic], in index: Int) async {
        guard !hasEnded, !refused.contains(index), let place = namespace(index) else { return }
        // Another request may be making the table right now.
        while beginning.contains(index) { try? await Task.sleep(for: .milliseconds(10)) }
        do {
            if sessions[index]?.table.isRunning != true { try await begin(traffic, in: place, index) }
            try sessions[index]?.table.trace(traffic)
            sessions[index]?.until = .now + .seconds(RuleTraceTable.timeout + 2)
            logger.debug("\(place.name): the rules are traced for \(traffic.map(\.element).joined(separator: ", "))")
        } catch {
            refuse(index, place, "\(error)")
        }
    }

    /// Makes the table of a namespace, and returns when the kernel traces `traffic`.
    private func begin(_ traffic: [TracedTraffic], in place: NetworkNamespace, _ index: Int) async throws {
        beginning.insert(index)
        defer { beginning.remove(index) }
        // Bound first, so that nothing that is traced goes unheard.
        let socket = try place.enter { try RuleTraceSocket() }
        var history = LegacyRuleHistory()
        let diversion = await divertLogger(of: place, index, &history)
        send(.ruleTraces(index, RuleTraceSockets(nftables: socket, logger: diversion?.socket)))
        do {
            let table = try await RuleTraceTable(in: place, extent(index))
            try table.trace(traffic)
            if try await table.isThere(in: place), !hasEnded {
                sessions[index] = Session(table: table, logger: diversion, legacyRules: history, until: .now)
                return
            }
            table.end()
        } catch {
            end(diversion, of: place)
            send(.ruleTraces(index, nil))
            throw error
        }
        end(diversion, of: place)
        send(.ruleTraces(index, nil))
        guard !hasEnded else { return }
        refuse(index, place, "the kernel or nft refuses a table that goes with its owner (kernel 5.12, nft 0.9.9)")
    }

    /// Hears the traces of iptables-legacy, where it has rules, and why packets are invalid, where a rule drops such packets.
    private func divertLogger(of place: NetworkNamespace, _ index: Int, _ history: inout LegacyRuleHistory) async
        -> LoggerDiversion?
    {
        let dropsInvalid = extent(index).dropsInvalid
        do {
            let begun = EventLoop.clock()
            let rules = try await LegacyRules(of: place)
            guard !rules.families.isEmpty || dropsInvalid else { return nil }
            history.add(rules, begun: begun, ended: EventLoop.clock())
            return try await LoggerDiversion(in: place, rules, logsInvalid: dropsInvalid)
        } catch {
            if diversionRefused.insert(index).inserted {
                logger.warning(
                    "rules of iptables-legacy are not traced in namespace \(place.name), and why packets are invalid is not told: \(error)"
                )
            }
            return nil
        }
    }

    private func end(_ diversion: LoggerDiversion?, of place: NetworkNamespace) {
        do {
            try diversion?.end()
        } catch {
            logger.error("a setting of namespace \(place.name) is not put back; the next ipt-trace tries again: \(error)")
        }
    }

    /// Looks up what rules of iptables-legacy did to packets: they have to be the same now as before.
    private func decide(_ traces: Set<LegacyTrace>, received: Int64, in index: Int) async {
        var found: [LegacyTrace: LegacyStep] = [:]
        defer { send(.legacyDecided(index, received: received, found)) }
        guard let place = namespace(index), sessions[index] != nil else { return }
        do {
            let begun = EventLoop.clock()
            let rules = try await LegacyRules(of: place)
            sessions[index]?.legacyRules.add(rules, begun: begun, ended: EventLoop.clock())
        } catch {
            return logger.warning("the rules of iptables-legacy in \(place.name) cannot be read: \(error)")
        }
        guard let history = sessions[index]?.legacyRules else { return }
        for trace in traces { found[trace] = history.step(at: trace.place, time: trace.time) }
    }

    private func refuse(_ index: Int, _ place: NetworkNamespace, _ reason: String) {
        sessions[index] = nil
        guard refused.insert(index).inserted else { return }
        logger.warning("rules are not traced in namespace \(place.name), so that none is named: \(reason)")
    }

    private func read(_ places: Set<RulePlace>, in index: Int) async {
        guard let place = namespace(index) else { return }
        if texts == nil { texts = await RuleTexts() }
        do {
            let found = try await texts?.read(places, in: place) ?? [:]
            let named = found.mapValues {
                RuleText(
                    text: $0.text, position: $0.position, accepting: $0.accepting, isProbe: $0.isProbe)
            }
            send(.rulesNamed(index, places, named))
        } catch {
            logger.warning("the rules that dropped packets in \(place.name) cannot be read: \(error)")
            send(.rulesNamed(index, places, [:]))
        }
    }

    private func endIdle() {
        for (index, session) in sessions where session.until < .now { end(session, index) }
    }

    private func end(_ session: Session, _ index: Int) {
        session.table.end()
        if let place = namespace(index) { end(session.logger, of: place) }
        sessions[index] = nil
        send(.ruleTraces(index, nil))
    }

    /// Takes all tables away.
    func end() {
        hasEnded = true
        for (index, session) in sessions { end(session, index) }
    }
}
