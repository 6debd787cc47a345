package import Engine
package import Ruleset
private import Synchronization
package import TraceModel

/// Last readings of each namespace, by its place. They are kept while a namespace cannot be read: an error says nothing of its
/// rules.
package final class SurveyMemory: Sendable {
    /// One kind of reading: its last value, and the state of its attempts.
    private struct Part<Value: Sendable>: Sendable {
        var value: Value?
        /// Readings in a row that failed.
        var failures = 0
        /// The reason of the first of those failures.
        var reason = ""
        /// Why the value is not to be relied on; `nil` where it is.
        var doubt: String?

        mutating func note(_ result: Result<Value, any Error>, isChange: Bool) {
            switch result {
            case .success(let value): self = Part(value: value)
            case .failure(let error):
                if failures == 0 { reason = "\(error)" }
                failures += 1
                if isChange || value == nil || failures > 1 { doubt = reason }
            }
        }
    }

    private struct Entry: Sendable {
        var links = Part<LinkGraph.Reading>()
        var rules = Part<ProbeSurvey.Result>()
        /// With settings.
        var facts = Part<NamespaceFacts>()

        var doubt: String? { links.doubt ?? rules.doubt ?? facts.doubt }
    }

    private struct State {
        var entries: [Int: Entry] = [:]
        var hasTold = false
    }

    private let state = Mutex(State())

    /// Reads interfaces; where that fails, gives those that were read last.
    ///
    /// - Parameters:
    ///   - isWanted: false where those that were read last will do.
    ///   - isChange: whether something is known to have changed; else one reading may fail before the last one is in doubt.
    package func links(
        of place: Int, isWanted: Bool, isChange: Bool, _ read: () throws -> LinkGraph.Reading
    ) -> LinkGraph.Reading {
        if !isWanted, let known = state.withLock({ $0.entries[place]?.links.value }) { return known }
        let result = Result { try read() }
        return state.withLock { state in
            state.entries[place, default: Entry()].links.note(result, isChange: isChange)
            return state.entries[place]?.links.value ?? LinkGraph.Reading()
        }
    }

    /// Reads rules, for `rules(of:)`.
    ///
    /// - Parameter isChange: as for `links`.
    /// - Returns: whether they could be read.
    package func readRules(of place: Int, isChange: Bool, _ read: () async throws -> ProbeSurvey.Result) async -> Bool {
        var result: Result<ProbeSurvey.Result, any Error>
        do {
            result = .success(try await read())
        } catch {
            result = .failure(error)
        }
        return state.withLock { [result] state in
            state.entries[place, default: Entry()].rules.note(result, isChange: isChange)
            return state.entries[place]?.rules.failures == 0
        }
    }

    /// The rules that were read last; `nil` where none ever were.
    package func rules(of place: Int) -> ProbeSurvey.Result? { state.withLock { $0.entries[place]?.rules.value } }

    /// Adds settings to the rules' facts; where they cannot be read, returns the last known facts.
    ///
    /// - Parameter isChange: as for `links`.
    package func facts(
        of place: Int, _ facts: NamespaceFacts, isChange: Bool, _ read: (inout NamespaceFacts) throws -> Void
    ) -> NamespaceFacts {
        let result = Result {
            var complete = facts
            try read(&complete)
            return complete
        }
        return state.withLock { state in
            state.entries[place, default: Entry()].facts.note(result, isChange: isChange)
            return state.entries[place]?.facts.value ?? facts
        }
    }

    /// Why a namespace's readings may be out of date; `nil` where they are current.
    package func doubt(of place: Int) -> String? { state.withLock { $0.entries[place]?.doubt } }

    /// Forgets a namespace that is gone.
    package func forget(_ place: Int) { state.withLock { $0.entries[place] = nil } }

    /// A sentence for a person when namespaces begin to be unreadable, and when all can be read again; else `nil`.
    ///
    /// - Parameter names: by place.
    package func news(_ names: [String]) -> String? {
        state.withLock { state in
            let unread = state.entries.compactMap { place, entry in entry.doubt.map { (place, $0) } }
                .filter { names.indices.contains($0.0) }.sorted { $0.0 < $1.0 }
            guard let (place, reason) = unread.first else {
                defer { state.hasTold = false }
                return state.hasTold ? "the rules and interfaces of all namespaces are read again" : nil
            }
            guard !state.hasTold else { return nil }
            state.hasTold = true
            let others = unread.count > 1 ? " and \(unread.count - 1) more" : ""
            return "the rules or interfaces of namespace \(names[place].printable)\(others) cannot be read: \(reason). "
                + "Packets there are shown as incomplete until they can."
        }
    }
}
