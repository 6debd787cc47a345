internal import Engine
internal import HostLayout
internal import LinuxSupport
internal import Synchronization
internal import TraceModel

/// Has the kernel trace packets through the rules.
extension Collector {
    /// Returns when the kernel traces the packets that were named beforehand, wherever it can; keeps it at that.
    func traceFromTheBeginning(_ tracer: RuleTracer) async {
        let traced = options.traced
        @Sendable func arm(_ indices: [Int]) async {
            await withTaskGroup(of: Void.self) { group in
                for index in indices { group.addTask { await tracer.take(.trace(index, traced)) } }
            }
        }
        await arm(followedIndices)
        let keeper = Task { [weak self] in
            while !Task.isCancelled {
                // Elements expire after `RuleTraceTable.timeout`; a namespace that appears waits no longer than this.
                try? await Task.sleep(for: .seconds(RuleTraceTable.timeout / 6))
                guard let self, !Task.isCancelled else { return }
                await arm(followedIndices)
            }
        }
        state.withLock { $0.tracingKeeper = keeper }
    }

    /// The namespaces that are followed, by their indices in the layout.
    var followedIndices: [Int] {
        state.withLock { state in
            state.places.indices.filter { state.places[$0].namespace != nil }.map(indexing.index(of:))
        }
    }

    /// What traces rules, if that is wanted.
    func makeRuleTracer() -> RuleTracer? {
        guard options.ruleTracing != .off else { return nil }
        let oneIn: UInt32? = if case .oneIn(let number) = options.ruleTracing { number } else { nil }
        return RuleTracer(logger: logger) { [weak self, indexing] index in
            self?.state.withLock { state in
                state.places.indices.first { indexing.index(of: $0) == index }.flatMap { state.places[$0].namespace }
            }
        } extent: { [registry] index in
            let layout = registry.current
            let facts = layout.namespaces.indices.contains(index) ? layout.namespaces[index].facts : nil
            var extent = RuleTraceTable.Extent(facts?.otherChains ?? [], oneIn: oneIn)
            extent.dropsInvalid = facts?.invalidDrops.isEmpty == false
            return extent
        } send: { [mailbox] in
            mailbox.send($0)
        }
    }

    /// - Returns: asks `tracer` for something, without waiting.
    func startRuleTracer(_ tracer: RuleTracer) -> @Sendable (RuleTracer.Request) -> Void {
        // At most 256 requests wait. A later one is discarded; the next packet that is dropped makes it again.
        let (stream, continuation) = AsyncStream.makeStream(of: RuleTracer.Request.self, bufferingPolicy: .bufferingOldest(256))
        let task = Task {
            for await request in stream { await tracer.take(request) }
            await tracer.end()
        }
        let clock = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                continuation.yield(.tick)
            }
        }
        state.withLock {
            $0.endRuleTracer = {
                clock.cancel()
                continuation.finish()
                await task.value
            }
        }
        return { continuation.yield($0) }
    }
}
