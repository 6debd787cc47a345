internal import Engine
internal import HostLayout
internal import LinuxSupport
internal import Synchronization
internal import TraceModel

/// Has the kernel asked how it routes packets.
extension Collector {
    func makeRouteReader() -> RouteReader {
        RouteReader(logger: logger) { [weak self, indexing] in
            guard let self else { return [:] }
            var found: [Int: RouteReader.Place] = [:]
            for (index, place) in state.withLock({ $0.places }).enumerated() {
                guard let namespace = place.namespace, let watch = place.routes else { continue }
                found[indexing.index(of: index)] = RouteReader.Place(namespace: namespace, watch: watch)
            }
            return found
        } interfaces: { [registry] index in
            registry.current.namespace(index)?.interfaces ?? [:]
        } send: { [mailbox] in
            mailbox.send($0)
        }
    }

    /// - Returns: asks `reader`, without waiting.
    func startRouteReader(_ reader: RouteReader) -> @Sendable ([RouteLookup]) -> Void {
        // Unbounded, since a trace asks for `RouteIndex.mostLookups` routes at most.
        let (stream, continuation) = AsyncStream.makeStream(of: [RouteLookup].self)
        let asking = Task { for await lookups in stream { await reader.look(up: lookups) } }
        let following = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: .milliseconds(200))
                if !Task.isCancelled { await reader.follow() }
            }
        }
        state.withLock {
            $0.endRouteReader = {
                following.cancel()
                asking.cancel()
                continuation.finish()
            }
        }
        return { continuation.yield($0) }
    }
}
