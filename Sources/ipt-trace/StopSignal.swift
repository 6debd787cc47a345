import Dispatch
import Glibc

/// SIGINT and SIGTERM as something to wait for, so that whatever has to be put back is put back.
final class StopSignal: @unchecked Sendable {
    // Only kept, never used again: that is what makes it Sendable.
    private let sources: [any DispatchSourceSignal]
    private let stream: AsyncStream<Int32>
    private let continuation: AsyncStream<Int32>.Continuation

    init() {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
        self.stream = stream
        self.continuation = continuation
        sources = [SIGINT, SIGTERM, SIGHUP].map { number in
            // The default action would end the process before anything is put back.
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(number) }
            source.resume()
            return source
        }
    }

    /// Ends a wait as a signal would.
    func trigger() { continuation.yield(0) }

    /// Returns with the first signal, or after `seconds`.
    func wait(seconds: Double? = nil) async {
        let timer = seconds.map { seconds in
            Task { [continuation] in
                try? await Task.sleep(for: .seconds(seconds))
                if !Task.isCancelled { continuation.yield(0) }
            }
        }
        for await _ in stream { break }
        timer?.cancel()
    }
}
