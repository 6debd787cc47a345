private import Foundation
private import Synchronization

/// Threads for answers that would hold up the server's own thread. An answer that waits for something holds none of them.
final class AnswerWorkers: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        /// Tasks that have not ended.
        var tasks = 0
        var isStopping = false

        var hasEnded: Bool { isStopping && tasks == 0 }
    }

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)
    private let threads: Int

    init(threads: Int, name: String) {
        self.threads = threads
        for _ in 0..<threads {
            let thread = Thread { [self] in
                while let job = nextJob() { unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
            }
            thread.name = name
            thread.start()
        }
    }

    /// Runs `body` on these threads.
    func run(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        state.withLock { $0.tasks += 1 }
        return Task(executorPreference: self) { [self] in
            await body()
            end { $0.tasks -= 1 }
        }
    }

    /// Ends the threads behind the last task.
    func stop() { end { $0.isStopping = true } }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        state.withLock { $0.jobs.append(job) }
        wake.signal()
    }

    private func nextJob() -> UnownedJob? {
        while true {
            wake.wait()
            let (job, hasEnded) = state.withLock { state in
                (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.hasEnded)
            }
            if let job { return job }
            if hasEnded { return nil }
        }
    }

    private func end(_ change: (inout sending State) -> Void) {
        let hasEnded = state.withLock { state in
            change(&state)
            return state.hasEnded
        }
        guard hasEnded else { return }
        for _ in 0..<threads { wake.signal() }
    }
}
