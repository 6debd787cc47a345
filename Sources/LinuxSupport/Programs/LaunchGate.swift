private import Glibc
private import Synchronization

/// Lets a program be started only while there are descriptors enough for it; one that would be too many waits for the others'
/// end.
enum LaunchGate {
    private struct State {
        var running = 0
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private static let state = Mutex(State())

    /// Runs `body`, which starts a program and waits for its end.
    ///
    /// - Parameter operation: the program's purpose, as a phrase behind "cannot".
    /// - Throws: `NamespaceError.descriptors` where there are too few although nothing else runs.
    static func pass<Result>(_ operation: String, _ body: () async throws -> Result) async throws -> Result {
        while !enter() { await othersEnd() }
        defer { leave() }
        try DescriptorLimit.require(DescriptorLimit.perProgram, to: operation)
        try tryPipes(operation)
        return try await body()
    }

    private static func enter() -> Bool {
        state.withLock { state in
            // Running programs may have opened only a part of the descriptors that they need.
            let needed = (state.running + 1) * DescriptorLimit.perProgram
            guard state.running == 0 || DescriptorLimit.free(upTo: needed) >= needed else { return false }
            state.running += 1
            return true
        }
    }

    private static func othersEnd() async {
        await withCheckedContinuation { continuation in
            let mustWait = state.withLock { state in
                if state.running > 0 { state.waiting.append(continuation) }
                return state.running > 0
            }
            if !mustWait { continuation.resume() }
        }
    }

    private static func leave() {
        let waiting = state.withLock { state in
            state.running -= 1
            defer { state.waiting.removeAll() }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Makes the pipes that starting a program takes and closes them: the limits of the whole system and of the user's pipes
    /// (`fs.file-max`, `fs.pipe-user-pages-hard`) show in no other way.
    private static func tryPipes(_ operation: String) throws(NamespaceError) {
        var ends: [Int32] = []
        defer { for end in ends { close(end) } }
        for _ in 0..<3 {
            var pair: [Int32] = [-1, -1]
            guard unsafe pipe(&pair) == 0 else { throw .exhausted(operation: operation, code: errno) }
            ends += pair
        }
    }
}
