internal import Captures
private import Foundation

/// Where decoded batches come from: made when they are asked for, or by a thread of their own meanwhile.
final class CaptureSource: @unchecked Sendable {
    /// Used by one thread alone: that of `run` once it has begun, else that of the caller.
    private var stage: CaptureDecodeStage
    // Guarded by the condition's lock.
    private let condition = NSCondition()
    private var made: [CaptureBatch] = []
    private var used: [CaptureBatch] = []
    private var failure: CaptureError?
    private var isGivenUp = false
    private let isAhead: Bool

    /// Batches that are made before they are asked for.
    private static let mostAhead = 4

    /// - Parameter isAhead: whether a thread of its own decodes, ahead of the records taken. For files that do not grow.
    init(_ stage: consuming CaptureDecodeStage, isAhead: Bool) {
        self.stage = stage
        self.isAhead = isAhead
    }

    /// Begins to decode ahead, where that is wanted.
    func begin() {
        guard isAhead else { return }
        Thread.detachNewThread { self.run() }
    }

    /// Ends the thread, whatever is left.
    func end() {
        condition.lock()
        isGivenUp = true
        condition.broadcast()
        condition.unlock()
    }

    func stopFollowing() { if !isAhead { stage.stopFollowing() } }

    /// Lends the bytes of the last batch; only of one that was not decoded ahead.
    func lend(_ body: (RawSpan) -> Void) { stage.lend(body) }

    /// Puts the next batch into `batch`, whose memory is used again.
    ///
    /// - Returns: `false` where there is nothing for now, of a file that may grow.
    func next(_ batch: inout CaptureBatch) throws(CaptureError) -> Bool {
        guard isAhead else {
            batch.removeAll()
            return try stage.fill(&batch)
        }
        condition.lock()
        defer { condition.unlock() }
        used.append(batch)
        batch = CaptureBatch()
        while made.isEmpty, failure == nil { condition.wait() }
        guard !made.isEmpty else {
            if let failure { throw failure }
            return false
        }
        batch = made.removeFirst()
        condition.broadcast()
        return true
    }

    private func run() {
        var batch = CaptureBatch()
        while true {
            do {
                batch.removeAll()
                // A file that does not grow always has more, or its end.
                guard try stage.fill(&batch) else { continue }
            } catch {
                condition.lock()
                failure = error
                condition.broadcast()
                condition.unlock()
                return
            }
            let isLast = batch.isLast
            condition.lock()
            while made.count >= Self.mostAhead, !isGivenUp { condition.wait() }
            made.append(batch)
            batch = used.popLast() ?? CaptureBatch()
            let mustStop = isLast || isGivenUp
            condition.broadcast()
            condition.unlock()
            if mustStop { return }
        }
    }
}
