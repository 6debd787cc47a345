internal import DequeModule
private import Foundation
private import Synchronization
internal import TraceModel
private import WireFormat

/// Writes what a collector receives into a pcapng file, on a thread of its own, behind a queue that never blocks the
/// collector: what does not fit is left out and counted.
///
/// A packet's path is known only when its journey has ended, so packets are held until then, in order and within bounds;
/// one that had to be written before has no comment.
public final class Recorder: Sendable {
    /// What has become of the messages.
    public struct Counters: Sendable, Equatable {
        public var written: UInt64 = 0
        /// Not written, because the queue was full, the limit was reached, or the file could not be written.
        public var dropped: UInt64 = 0
        /// Written before their path was known.
        public var withoutPath: UInt64 = 0

        package init(written: UInt64 = 0, dropped: UInt64 = 0, withoutPath: UInt64 = 0) {
            self.written = written
            self.dropped = dropped
            self.withoutPath = withoutPath
        }
    }

    private struct State {
        var items: [RecordItem] = []
        /// Of the datagrams in `items`.
        var bytes = 0
        var counters = Counters()
        var failure: CaptureError?
        var isFull = false
        var isClosing = false
    }

    /// Bytes that may wait for the thread.
    private static let queueLimit = 16 << 20
    private static let itemLimit = 1 << 18

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)
    private let finished = DispatchSemaphore(value: 0)
    public let path: String

    /// - Parameter run: names the recording, which may be several files.
    public init(path: String, limits: RecordingLimits, run: UInt64) throws(CaptureError) {
        self.path = path
        let files = try RecordingFiles(path: path, limits: limits)
        let handover = Handover(files)
        let thread = Thread { [weak self] in
            guard let self, let files = handover.take() else { return }
            self.work(RecordingThread(files: files, run: run))
        }
        thread.name = "record"
        thread.start()
    }

    /// Files on their way to the thread.
    private final class Handover: @unchecked Sendable {
        private var files: RecordingFiles?
        init(_ files: consuming RecordingFiles) { self.files = consume files }
        func take() -> RecordingFiles? { files.take() }
    }

    public var counters: Counters { state.withLock { $0.counters } }

    /// Why recording has ended before its time, if it has.
    public var problem: String? {
        state.withLock { state in
            if let failure = state.failure { return "\(failure)" }
            return state.isFull ? "\(path) has reached its limit (--record-limit); what came later is not in it" : nil
        }
    }

    /// Takes items in their order; never waits.
    package func take(_ items: [RecordItem]) {
        state.withLock { state in
            for item in items {
                guard case .events(let datagram) = item else {
                    // Small and few for each datagram; without bound only where the disk hangs.
                    if state.items.count < Self.itemLimit { state.items.append(item) }
                    continue
                }
                guard state.bytes + datagram.bytes.count <= Self.queueLimit else {
                    state.counters.dropped += UInt64(datagram.tags.count)
                    continue
                }
                state.bytes += datagram.bytes.count
                state.items.append(item)
            }
        }
        wake.signal()
    }

    /// Writes what is left, and closes the file. Further calls do nothing.
    public func close() {
        let isFirst = state.withLock { state in
            defer { state.isClosing = true }
            return !state.isClosing
        }
        guard isFirst else { return }
        wake.signal()
        finished.wait()
    }

    private func work(_ thread: consuming RecordingThread) {
        var thread = thread
        while true {
            let isIdle = wake.wait(timeout: .now() + 1) == .timedOut
            let (items, isClosing, bytes) = state.withLock { state in
                let items = state.items
                let bytes = state.bytes
                state.items = []
                state.bytes = 0
                return (items, state.isClosing, bytes)
            }
            thread.isBehind = bytes > Self.queueLimit / 2
            thread.take(items, isLast: isClosing, isIdle: isIdle)
            state.withLock { state in
                state.counters.written = thread.counters.written
                state.counters.dropped += thread.takeDropped()
                state.counters.withoutPath = thread.counters.withoutPath
                state.failure = thread.failure
                state.isFull = thread.isFull
            }
            if isClosing { break }
        }
        finished.signal()
    }
}

/// What the recorder's thread keeps.
private struct RecordingThread: ~Copyable {
    private var files: RecordingFiles
    private let run: UInt64
    private let machine = MachineIdentity.current
    private var writer = CaptureWriter()
    private var layout = Layout()
    private var ownPort: OwnPort?
    /// Of the present section: the interface of each namespace.
    private var interfaces: [Int: UInt32] = [:]
    private var waiting = Deque<RecordItem>()
    private var waitingBytes = 0
    /// Datagrams taken in all, and of those the ones that are no longer waiting.
    private var taken: UInt64 = 0
    private var done: UInt64 = 0
    private var latest: Int64 = 0
    /// `latest` when everything was last in the file.
    private var syncedAt: Int64 = 0
    /// Packets that were handed on since then, and may be in memory only.
    private var unsynced: UInt64 = 0
    /// By segment.
    private var paths: [UInt64: UInt64] = [:]
    /// Of the first datagram that waits: how many of its tags have a path, and the last of those.
    private var confirmed = 0
    private var knownTag = UInt64.max
    /// Segments whose path is not needed once as many datagrams are done.
    private var retired = Deque<(done: UInt64, segment: UInt64)>()
    /// Whether the present file holds any.
    private var hasPackets = false
    /// Packets in `writer`.
    private var unflushed: UInt64 = 0
    private(set) var counters = Recorder.Counters()
    private(set) var failure: CaptureError?
    private(set) var isFull = false

    /// Bytes of packets that wait for their path at most, and microseconds at most: what a journey can take, and a second.
    private static let waitingLimit = 24 << 20
    private static let patience: Int64 = 5_500_000
    /// Bytes of blocks after which they are handed on: what a core's cache holds.
    private static let writeSize = 1 << 18

    var isBehind: Bool {
        get { files.isBehind }
        set { files.isBehind = newValue }
    }

    init(files: consuming RecordingFiles, run: UInt64) {
        self.files = files
        self.run = run
        beginSection()
    }

    private mutating func beginSection() {
        interfaces = [:]
        writer.section(application: "ipt-trace")
        writeLayout()
    }

    private mutating func writeLayout() {
        // A layout consists of plain values; one that cannot be encoded cannot be either.
        if let json = try? RecordedLayout(layout, run: run, machine: machine, ownPort: ownPort).json() {
            writer.layout(json: json)
        }
    }

    mutating func take(_ items: [RecordItem], isLast: Bool, isIdle: Bool) {
        for item in items {
            switch item {
            case .ended(let segment, let path):
                paths[segment] = path
                // The datagram that it ended with may be the next one.
                retired.append((taken + 1, segment))
            case .events(let datagram):
                waitingBytes += datagram.bytes.count
                latest = max(latest, datagram.time)
                taken += 1
                waiting.append(item)
            case .note, .layout:
                waiting.append(item)
            }
        }
        while let first = waiting.first, isLast || isDue(first) {
            waiting.removeFirst()
            confirmed = 0
            knownTag = UInt64.max
            write(first)
        }
        while let first = retired.first, first.done <= done {
            retired.removeFirst()
            paths[first.segment] = nil
        }
        // What comes slowly is in the file a second later.
        guard isLast || latest - syncedAt > 1_000_000 || isIdle else { return }
        flush()
        sync()
    }

    /// What was left out since the last call.
    mutating func takeDropped() -> UInt64 {
        defer { counters.dropped = 0 }
        return counters.dropped
    }

    private mutating func isDue(_ item: RecordItem) -> Bool {
        guard case .events(let datagram) = item else { return true }
        if waitingBytes > Self.waitingLimit || latest - datagram.time > Self.patience { return true }
        while confirmed < datagram.tags.count {
            let tag = datagram.tags[confirmed]
            guard tag == UInt64.max || tag == knownTag || paths[tag] != nil else { return false }
            knownTag = tag
            confirmed += 1
        }
        return true
    }

    private mutating func write(_ item: RecordItem) {
        switch item {
        case .ended: break
        case .note(let note):
            if makeRoom(for: note.bytes.count + 40) { writer.note(note) }
        case .layout(let layout, let ownPort):
            self.layout = layout
            self.ownPort = ownPort
            // The next section has it in any case.
            if makeRoom(for: layout.probes.count * 250) { writeLayout() }
        case .events(let datagram):
            waitingBytes -= datagram.bytes.count
            done += 1
            // Blocks are larger than messages by less than half.
            guard makeRoom(for: datagram.bytes.count * 3 / 2, at: datagram.time) else {
                counters.dropped += UInt64(datagram.tags.count)
                return
            }
            write(datagram)
            if writer.bytes.count >= Self.writeSize { flush() }
        }
    }

    /// - Returns: false where nothing more is written.
    private mutating func makeRoom(for count: Int, at time: Int64? = nil) -> Bool {
        guard failure == nil, !isFull else { return false }
        let seconds = time.map { $0 / 1_000_000 }
        switch files.room(for: writer.bytes.count + count, hasPackets: hasPackets, at: seconds) {
        case .here: break
        case .none: isFull = true
        case .next:
            flush()
            do throws(CaptureError) {
                try files.beginNext(at: seconds)
            } catch {
                fail(error)
                return false
            }
            unsynced = 0
            hasPackets = false
            beginSection()
        }
        return !isFull
    }

    private mutating func write(_ datagram: RecordedDatagram) {
        hasPackets = true
        let interface = interface(of: datagram.namespace)
        let bytes = unsafe datagram.bytes.span.bytes
        var offset = 0
        var number = 0
        // A packet's events mostly follow one another.
        var latestTag = UInt64.max
        var latestPath: UInt64? = 0
        // The collector has counted what is malformed.
        while let message = try? NetlinkMessage.next(in: bytes, at: &offset) {
            guard message.type == NFLogMessage.packetType else { continue }
            let tag = number < datagram.tags.count ? datagram.tags[number] : UInt64.max
            number += 1
            if tag != latestTag {
                latestPath = tag == UInt64.max ? 0 : paths[tag]
                latestTag = tag
            }
            let path = latestPath
            if path == nil { counters.withoutPath += 1 }
            let comment = path.flatMap { $0 == 0 ? nil : (prefix: "path " as StaticString, number: $0) }
            writer.packet(interface: interface, time: datagram.time, bytes, message.body, comment: comment)
            unflushed += 1
        }
    }

    private mutating func interface(of namespace: Int) -> UInt32 {
        if let known = interfaces[namespace] { return known }
        let number = UInt32(interfaces.count)
        interfaces[namespace] = number
        let known = namespace < layout.namespaces.count ? layout.namespaces[namespace] : nil
        writer.interface(
            name: known?.name ?? "namespace \(namespace)",
            description: "network namespace, inode \(known?.inode ?? 0)")
        return number
    }

    private mutating func flush() {
        defer {
            writer.removeAll()
            unflushed = 0
        }
        guard !writer.bytes.isEmpty, failure == nil else {
            counters.dropped += unflushed
            return
        }
        do throws(CaptureError) {
            try files.write(writer.bytes)
            counters.written += unflushed
            unsynced += unflushed
        } catch {
            fail(error)
            counters.dropped += unflushed
        }
    }

    private mutating func sync() {
        syncedAt = latest
        guard failure == nil else { return }
        do throws(CaptureError) {
            try files.flush()
            unsynced = 0
        } catch {
            fail(error)
        }
    }

    /// What was handed on may not be in the file.
    private mutating func fail(_ error: CaptureError) {
        failure = error
        counters.written -= unsynced
        counters.dropped += unsynced
        unsynced = 0
    }
}
