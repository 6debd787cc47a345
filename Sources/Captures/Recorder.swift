private import Foundation
private import Glibc
internal import LinuxSupport
private import Synchronization
internal import TraceModel
private import WireFormat

/// Writes a collector's messages into a pcapng file, on a thread of its own, behind a queue that never blocks the
/// collector: messages that do not fit are left out and counted.
///
/// A packet's path is known only when its journey has ended, so packets are held until then, in order and within bounds of time
/// and memory (`RecordingPace`); one that had to be written before has no comment. A file that cannot take more is cut off behind
/// its last whole block, and recording goes on in a new one as soon as there is room.
public final class Recorder: Sendable {
    /// Counts of events written and left out.
    public struct Counters: Sendable, Equatable {
        public var written: UInt64 = 0
        /// Bytes of the files.
        public var bytes: UInt64 = 0
        /// Written before their path was known.
        public var withoutPath: UInt64 = 0
        public var drops = Drops()

        /// Events that are in no file.
        public var dropped: UInt64 { drops.total }

        package init(written: UInt64 = 0, withoutPath: UInt64 = 0) {
            self.written = written
            self.withoutPath = withoutPath
        }
    }

    /// Events that are in no file, by reason.
    public struct Drops: Sendable, Equatable {
        private var counts = [UInt64](repeating: 0, count: RecordingDrop.allCases.count)

        public internal(set) subscript(reason: RecordingDrop) -> UInt64 {
            get { counts[RecordingDrop.allCases.firstIndex(of: reason) ?? 0] }
            set { counts[RecordingDrop.allCases.firstIndex(of: reason) ?? 0] = newValue }
        }

        public var total: UInt64 { counts.reduce(0, +) }
    }

    public struct Status: Sendable {
        public var counters = Counters()
        public var state = RecordingState.recording
        /// Why events are left out at present; `nil` where none are.
        public var problem: String?
        /// The recording's files, except those renamed or deleted meanwhile.
        public var files: [String] = []
    }

    private struct State {
        var items: [RecordItem] = []
        /// Bytes of the datagrams in `items`.
        var bytes = 0
        /// When the first of `items` came, in milliseconds of the monotonic clock.
        var since: Int64?
        /// Events that did not fit.
        var leftOut: UInt64 = 0
        /// Namespaces of which events were left out that came last, with the time up to which that has been noted.
        var incomplete: [Int: Int64] = [:]
        /// Events that were handed over, whatever became of them.
        var offered: UInt64 = 0
        var isClosing = false
        var status = Status()
        /// When the thread's present write began, in milliseconds of the monotonic clock; `nil` while it waits.
        var writingSince: Int64?
        var hasToldOfStuckWrite = false

        /// What to tell of a write that has taken longer than `limit`, in milliseconds.
        func stuckWrite(_ path: String, limit: Int64) -> RecordingChange? {
            guard let writingSince, Clock.monotonic / 1000 - writingSince > limit else { return nil }
            return .stuck(file: status.files.last ?? path, milliseconds: limit)
        }
    }

    /// Bytes that may wait for the thread.
    private static let queueLimit = 16 << 20
    private static let itemLimit = 1 << 18
    /// Microseconds after which a loss that goes on is noted again.
    private static let lossInterval: Int64 = 200_000

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)
    private let finished = DispatchSemaphore(value: 0)
    private let files: Handover
    private let onChange = Mutex<(@Sendable (RecordingChange) -> Void)?>(nil)
    private let run: UInt64
    private let system: RecordingSystem
    private let pace: RecordingPace
    public let path: String

    /// Opens the file. Nothing is written, and no file is replaced, before `begin`.
    ///
    /// - Parameters:
    ///   - run: names the recording, which may be several files.
    ///   - overwrites: whether a file that is there already is replaced; otherwise that is an error.
    public convenience init(
        path: String, limits: RecordingLimits, run: UInt64, overwrites: Bool = false
    ) throws(CaptureError) {
        try self.init(
            path: path, limits: limits, run: run, overwrites: overwrites, system: .kernel, pace: RecordingPace())
    }

    package init(
        path: String, limits: RecordingLimits, run: UInt64, overwrites: Bool, system: RecordingSystem, pace: RecordingPace
    ) throws(CaptureError) {
        self.path = path
        self.run = run
        self.system = system
        self.pace = pace
        files = Handover(
            try RecordingFiles(path: path, limits: limits, overwrites: overwrites, system: system))
    }

    /// Files on their way to the thread, taken by one thread at a time.
    private final class Handover: @unchecked Sendable {
        private var files: RecordingFiles?
        init(_ files: consuming RecordingFiles) { self.files = consume files }
        func take() -> RecordingFiles? { files.take() }
    }

    /// Begins to write.
    ///
    /// - Parameter onChange: called on a thread of the recorder's when something happens that should be known at once.
    public func begin(_ onChange: @escaping @Sendable (RecordingChange) -> Void = { _ in }) throws(CaptureError) {
        guard var files = files.take() else { return }
        do throws(CaptureError) {
            try files.commit()
        } catch {
            files.abandon()
            throw error
        }
        self.onChange.withLock { $0 = onChange }
        let handover = Handover(files)
        let thread = Thread {
            guard let files = handover.take() else { return }
            self.work(RecordingThread(files: files, run: self.run, system: self.system, pace: self.pace), onChange)
        }
        thread.name = "record"
        thread.start()
    }

    public var status: Status {
        state.withLock { state in
            var status = state.status
            // The thread counts the messages that did not fit when it is done with a write.
            status.counters.drops[.queueFull] = max(status.counters.drops[.queueFull], state.leftOut)
            if let stuck = state.stuckWrite(path, limit: pace.longestWrite) { status.problem = "\(stuck)" }
            return status
        }
    }

    /// Takes items in their order; never waits.
    package func take(_ items: [RecordItem]) {
        let stuck = state.withLock { state -> RecordingChange? in
            if state.since == nil { state.since = Clock.monotonic / 1000 }
            for item in items { Self.add(item, to: &state) }
            guard !state.hasToldOfStuckWrite, let stuck = state.stuckWrite(path, limit: pace.longestWrite) else { return nil }
            state.hasToldOfStuckWrite = true
            return stuck
        }
        wake.signal()
        guard let stuck else { return }
        // Whoever is told may write to a terminal, and this thread waits for nobody.
        let tell = onChange.withLock { $0 }
        DispatchQueue.global().async { tell?(stuck) }
    }

    private static func add(_ item: RecordItem, to state: inout State) {
        switch item {
        case .events(let datagram):
            state.offered += UInt64(datagram.tags.count)
            guard state.bytes + datagram.bytes.count <= queueLimit else {
                state.leftOut += UInt64(datagram.tags.count)
                return noteLoss(datagram.namespace, at: datagram.time, in: &state)
            }
            if !state.incomplete.isEmpty, state.incomplete.removeValue(forKey: datagram.namespace) != nil {
                state.items.append(.note(.loss(namespace: datagram.namespace)))
            }
            state.bytes += datagram.bytes.count
            state.items.append(item)
        case .layout:
            // Of several notes in a row only the last matters to later events.
            if state.items.count >= itemLimit, case .layout = state.items.last { state.items.removeLast() }
            state.items.append(item)
        // Small and few for each datagram; without bound only where the disk hangs.
        case .note(.connection(let namespace, _, _, _)) where state.items.count >= itemLimit:
            noteLoss(namespace, at: 0, in: &state)
        case .note, .ended:
            if state.items.count < itemLimit { state.items.append(item) }
        }
    }

    /// From here on the absence of an event proves nothing to the file's readers.
    private static func noteLoss(_ namespace: Int, at time: Int64, in state: inout State) {
        if let noted = state.incomplete[namespace], time - noted < lossInterval { return }
        state.incomplete[namespace] = time
        state.items.append(.note(.loss(namespace: namespace)))
    }

    /// Writes the rest of the queue and closes the file; a write that does not return is waited for some seconds. Further calls do nothing. A
    /// recorder that was not begun leaves no file behind.
    public func close() {
        if var files = files.take() { return files.abandon() }
        let isFirst = state.withLock { state in
            defer { state.isClosing = true }
            return !state.isClosing
        }
        guard isFirst else { return }
        wake.signal()
        // Whoever is told may keep the recorder.
        defer { onChange.withLock { $0 = nil } }
        guard finished.wait(timeout: .now() + .milliseconds(Int(pace.longestClose))) == .timedOut else { return }
        state.withLock { state in
            // The queue's events and those that the thread holds are in no file that anybody could rely on.
            let counters = state.status.counters
            let accounted = counters.written + counters.dropped - counters.drops[.queueFull]
            state.leftOut = max(state.leftOut, state.offered - min(state.offered, accounted))
            state.items = []
        }
    }

    private func work(_ thread: consuming RecordingThread, _ onChange: (RecordingChange) -> Void) {
        Self.blockWriteSignals()
        var thread = thread
        while true {
            _ = wake.wait(timeout: .now() + .milliseconds(Int(thread.wait)))
            let (items, since, isClosing, bytes, leftOut) = state.withLock { state in
                let items = state.items
                let bytes = state.bytes
                let since = state.since
                state.items = []
                state.bytes = 0
                state.since = nil
                state.writingSince = Clock.monotonic / 1000
                return (items, since, state.isClosing, bytes, state.leftOut)
            }
            thread.isBehind = bytes > Self.queueLimit / 2
            thread.take(items, since: since, leftOut: leftOut, isLast: isClosing)
            publish(&thread, isLast: isClosing)
            for change in thread.takeChanges() { onChange(change) }
            if isClosing { break }
        }
        finished.signal()
    }

    private func publish(_ thread: inout RecordingThread, isLast: Bool) {
        var status = Status(
            counters: thread.counters, state: thread.state, problem: thread.obstacle.map { "\($0)" }, files: thread.names)
        if status.problem == nil, thread.isLagging {
            status.problem = "\(RecordingChange.behind(file: thread.names.last ?? path))"
        }
        state.withLock { state in
            if !isLast {
                // Published counters do not go back for events cut off: the next events make up for them.
                status.counters.written = max(status.counters.written, state.status.counters.written)
                status.counters.bytes = max(status.counters.bytes, state.status.counters.bytes)
            }
            state.status = status
            state.writingSince = nil
            state.hasToldOfStuckWrite = false
        }
    }

    /// Errors of write(2) come as codes on this thread: SIGPIPE of a FIFO without reader, SIGXFSZ of RLIMIT_FSIZE.
    private static func blockWriteSignals() {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGPIPE)
        unsafe sigaddset(&signals, SIGXFSZ)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
    }
}
