private import Engine
private import Foundation
internal import LinuxSupport
internal import Logging
private import Ruleset
internal import TraceModel

/// Has packets traced through the rules of their namespaces, and reads the rules that the traces name.
///
/// Apart from the event loop, which must not wait for programs: that asks for what it needs, and gets messages.
actor RuleTracer {
    /// What is asked for, of a namespace by its index in the layout.
    enum Request: Sendable {
        case trace(Int, [TracedTraffic])
        case read(Int, Set<RulePlace>)
        /// Time has passed: sessions that trace nothing any more may end.
        case tick
    }

    private struct Session {
        var table: RuleTraceTable
        /// When its last element expires.
        var until: ContinuousClock.Instant
    }

    private let logger: Logger
    private let namespace: @Sendable (Int) -> NetworkNamespace?
    private let send: @Sendable (LoopMessage) -> Void
    private var sessions: [Int: Session] = [:]
    /// Where rules cannot be traced: said once.
    private var refused: Set<Int> = []
    /// Namespaces whose table is being made.
    private var beginning: Set<Int> = []
    /// Nothing is begun any more.
    private var hasEnded = false
    private var texts: RuleTexts?

    /// - Parameters:
    ///   - namespace: the one with an index; `nil` where it is gone.
    ///   - send: hands a message to the event loop.
    init(
        logger: Logger, namespace: @escaping @Sendable (Int) -> NetworkNamespace?,
        send: @escaping @Sendable (LoopMessage) -> Void
    ) {
        self.logger = logger
        self.namespace = namespace
        self.send = send
    }

    func take(_ request: Request) async {
        switch request {
        case .trace(let index, let traffic): await trace(traffic, in: index)
        case .read(let index, let places): await read(places, in: index)
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
        send(.ruleTraces(index, socket))
        let table = try await RuleTraceTable(in: place)
        try table.trace(traffic)
        guard try await table.isThere(in: place), !hasEnded else {
            table.end()
            send(.ruleTraces(index, nil))
            guard !hasEnded else { return }
            return refuse(index, place, "the kernel or nft refuses a table that goes with its owner (kernel 5.12, nft 0.9.9)")
        }
        sessions[index] = Session(table: table, until: .now)
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
            let named = found.mapValues { RuleTraceIndex.RuleText(text: $0.text, position: $0.position) }
            send(.rulesNamed(index, places, named))
        } catch {
            logger.warning("the rules that dropped packets in \(place.name) cannot be read: \(error)")
            send(.rulesNamed(index, places, [:]))
        }
    }

    private func endIdle() {
        for (index, session) in sessions where session.until < .now {
            session.table.end()
            sessions[index] = nil
            send(.ruleTraces(index, nil))
        }
    }

    /// Takes all tables away.
    func end() {
        hasEnded = true
        for session in sessions.values { session.table.end() }
        sessions = [:]
    }
}
