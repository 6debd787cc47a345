internal import DequeModule
private import Foundation
internal import LinuxSupport
internal import TraceModel
private import WireFormat

/// State of the recorder's thread.
struct RecordingThread: ~Copyable {
    private var files: RecordingFiles
    private let run: UInt64
    private let system: RecordingSystem
    private let pace: RecordingPace
    private let machine = MachineIdentity.current
    private var writer = CaptureWriter()
    private var layout = Layout()
    private var ownPort: OwnPort?
    /// The interface that stands for each namespace in the present section.
    private var interfaces: [Int: UInt32] = [:]
    /// Reply tuples by the connection's original tuple.
    private var connections = ConnectionMap<PacketTuple>()
    private static let mostConnections = 1 << 16
    /// With the milliseconds at which each item came.
    private var waiting = Deque<(item: RecordItem, time: Int64)>()
    private var waitingBytes = 0
    /// Datagrams taken in all, and of those the ones that are no longer waiting.
    private var taken: UInt64 = 0
    private var done: UInt64 = 0
    /// By leg.
    private var paths: [UInt64: UInt64] = [:]
    /// How many tags of the first waiting datagram have a path, and the last of those tags.
    private var confirmed = 0
    private var knownTag = UInt64.max
    /// Legs whose path is not needed once as many datagrams are done.
    private var retired = Deque<(done: UInt64, leg: UInt64)>()

    private enum Phase {
        case recording
        /// No file is open.
        ///
        /// - Parameters:
        ///   - nextTry: milliseconds of the monotonic clock.
        ///   - delay: between the tries.
        case suspended(reason: RecordingDrop, nextTry: Int64, delay: Int64)
        case ended(reason: RecordingDrop)
    }

    private var phase = Phase.recording
    /// Milliseconds of the monotonic clock.
    private var now: Int64
    private var lookedAt: Int64
    /// Since when `writer` holds bytes.
    private var pendingSince: Int64?
    /// When the present file was begun, in microseconds since 1970, and the latest event was received, and up to when everything
    /// has been.
    private var begunAt: Int64 = 0
    private var latest: Int64 = 0
    private var complete: Int64 = 0
    /// `complete` when everything was last in the file.
    private var settled: Int64 = 0
    /// Events missing since the last file.
    private var gap: RecordingGap?
    /// How long the next suspension lasts at least.
    private var retryDelay: Int64
    /// Packets in `writer`.
    private var unflushed: UInt64 = 0
    /// Packets that were given to the present file.
    private var inFile: UInt64 = 0
    private(set) var counters = Recorder.Counters()
    /// Why nothing is written; `nil` where it is.
    private(set) var obstacle: RecordingChange?
    /// When an event was left out last because writing did not keep up, and how many were before that began; `nil` while it does.
    private var lag: (latest: Int64, before: UInt64)?
    /// Changes since the last call.
    private var changes: [RecordingChange] = []
    /// Names of the files that hold something, or will.
    private(set) var names: [String]

    /// Bytes of packets that wait for their path at most.
    private static let waitingLimit = 24 << 20
    /// Bytes of blocks after which they are handed on: about the size of a core's cache.
    private static let writeSize = 1 << 18
    /// Bytes left for the last note of a file.
    private static let endSize = 64
    /// Between two looks at the clock while something waits to be written.
    private static let tick: Int64 = 50

    var isBehind: Bool {
        get { files.isBehind }
        set { files.isBehind = newValue }
    }

    init(files: consuming RecordingFiles, run: UInt64, system: RecordingSystem, pace: RecordingPace) {
        names = [files.name]
        self.files = files
        self.run = run
        self.system = system
        self.pace = pace
        now = Clock.monotonic / 1000
        lookedAt = now
        retryDelay = pace.retry
        beginSection(gap: nil)
    }

    var state: RecordingState {
        switch phase {
        case .recording: .recording
        case .suspended: .suspended
        case .ended: .ended
        }
    }

    mutating func takeChanges() -> [RecordingChange] {
        defer { changes.removeAll() }
        return changes
    }

    /// Milliseconds until there is something to do, if nothing comes.
    var wait: Int64 {
        if !waiting.isEmpty || pendingSince != nil || files.gatheredSince != nil { return min(Self.tick, pace.flush) }
        if case .suspended(_, let nextTry, _) = phase { return min(max(1, nextTry - now), pace.look) }
        return pace.look
    }

    /// - Parameters:
    ///   - since: when the first of the items came, in milliseconds of the monotonic clock.
    ///   - leftOut: events of the whole recording so far that did not get here.
    mutating func take(_ items: [RecordItem], since: Int64?, leftOut: UInt64, isLast: Bool) {
        now = Clock.monotonic / 1000
        noteLag(leftOut)
        for item in items { add(item, since ?? now) }
        lookAfterFile()
        while let first = waiting.first, isLast || isDue(first.item, since: first.time) {
            waiting.removeFirst()
            confirmed = 0
            knownTag = UInt64.max
            write(first.item)
        }
        while let first = retired.first, first.done <= done {
            retired.removeFirst()
            paths[first.leg] = nil
        }
        let oldest = [pendingSince, files.gatheredSince].compactMap { $0 }.min()
        if isLast {
            finish(.closed)
        } else if let oldest, now - oldest >= pace.flush {
            flush(all: true)
        }
    }

    /// Whether events are left out at present because writing does not keep up.
    var isLagging: Bool { lag != nil }

    private mutating func noteLag(_ leftOut: UInt64) {
        let before = counters.drops[.queueFull]
        counters.drops[.queueFull] = leftOut
        if leftOut != before {
            if lag == nil { changes.append(.behind(file: files.name)) }
            lag = (now, lag?.before ?? before)
        } else if let lag, now - lag.latest >= pace.calm {
            self.lag = nil
            changes.append(.caughtUp(leftOut: leftOut - lag.before))
        }
    }

    private mutating func add(_ item: RecordItem, _ time: Int64) {
        switch item {
        case .ended(let leg, let path):
            paths[leg] = path
            // The datagram that it ended with may be the next one.
            retired.append((taken + 1, leg))
        case .events(let datagram):
            waitingBytes += datagram.bytes.count
            taken += 1
            waiting.append((item, time))
        case .note, .layout:
            waiting.append((item, time))
        }
    }

    private mutating func isDue(_ item: RecordItem, since: Int64) -> Bool {
        guard case .events(let datagram) = item else { return true }
        if waitingBytes > Self.waitingLimit || now - since >= pace.hold { return true }
        while confirmed < datagram.tags.count {
            let tag = datagram.tags[confirmed]
            guard tag == UInt64.max || tag == knownTag || paths[tag] != nil else { return false }
            knownTag = tag
            confirmed += 1
        }
        return true
    }

    // MARK: Sections

    private mutating func beginSection(gap: RecordingGap?) {
        interfaces = [:]
        inFile = 0
        begunAt = max(latest, complete)
        writer.section(application: "ipt-trace")
        writeLayout()
        writer.note(.begin(part: UInt64(files.count), time: latest, gap: gap))
        writeConnections()
        pendingSince = pendingSince ?? now
    }

    private mutating func writeLayout() {
        // A layout consists of plain values; one that cannot be encoded cannot be either.
        if let json = try? RecordedLayout(layout, run: run, machine: machine, ownPort: ownPort).json() {
            writer.layout(json: json)
        }
    }

    /// Writes the connections that there are, so that a file can be read without those before it.
    private mutating func writeConnections() {
        let limit = writer.bytes.count + Int(min(files.headLimit, UInt64(Self.mostConnections * 128)))
        var notes: [RecordedNote] = []
        connections.forEach { namespace, original, reply in
            notes.append(.connection(namespace: namespace, original: original, reply: reply, isNew: true))
        }
        for note in notes where writer.bytes.count + 128 <= limit { writer.note(note) }
    }

    private mutating func note(_ note: RecordedNote) {
        guard case .connection(let namespace, let original, let reply, let isNew) = note else { return }
        if !isNew {
            connections[original, in: namespace] = nil
        } else if connections.count < Self.mostConnections || connections[original, in: namespace] != nil {
            connections[original, in: namespace] = reply
        }
    }

    // MARK: Writing

    private mutating func write(_ item: RecordItem) {
        switch item {
        case .ended: break
        case .note(let note):
            self.note(note)
            if case .complete(let time) = note { complete = time }
            guard makeRoom(for: note.bytes.count + 40) else { return }
            writer.note(note)
        case .layout(let layout, let ownPort):
            self.layout = layout
            self.ownPort = ownPort
            // The next section has it in any case.
            guard makeRoom(for: layout.probes.count * 250) else { return }
            writeLayout()
        case .events(let datagram):
            waitingBytes -= datagram.bytes.count
            done += 1
            latest = max(latest, datagram.time)
            // Blocks are larger than messages by less than half.
            guard makeRoom(for: datagram.bytes.count * 3 / 2, at: datagram.time) else {
                return leaveOut(UInt64(datagram.tags.count))
            }
            write(datagram)
        }
        pendingSince = pendingSince ?? now
        if writer.bytes.count >= Self.writeSize { flush() }
    }

    private mutating func leaveOut(_ events: UInt64) {
        switch phase {
        case .recording: break
        case .suspended(let reason, _, _), .ended(let reason):
            counters.drops[reason] += events
            gap?.events += events
        }
    }

    /// - Returns: whether the item can be written.
    private mutating func makeRoom(for count: Int, at time: Int64? = nil) -> Bool {
        guard case .recording = phase else { return false }
        let seconds = time.map { $0 / 1_000_000 }
        switch files.room(for: writer.bytes.count + count + Self.endSize, hasPackets: inFile + unflushed > 0, at: seconds) {
        case .here: return true
        case .none:
            finish(.limit)
            guard case .recording = phase else { return false }
            stop(.ended(reason: .limit), .limitReached(file: files.name))
            return false
        case .next:
            finish(.continued)
            guard case .recording = phase else { return false }
            return goOn(at: seconds)
        }
    }

    private mutating func write(_ datagram: RecordedDatagram) {
        let interface = interface(of: datagram.namespace)
        let bytes = datagram.bytes.octets
        var offset = 0
        var number = 0
        // A packet's events mostly follow one another.
        var latestTag = UInt64.max
        var latestPath: UInt64? = 0
        // The collector has counted malformed messages.
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

    /// Hands on the blocks put together so far.
    ///
    /// - Parameter all: whether it is brought into the file, too.
    private mutating func flush(all: Bool = false) {
        guard case .recording = phase else { return }
        let appended = files.write(writer.bytes, now: pendingSince ?? now)
        counters.written += unflushed
        counters.bytes += UInt64(writer.bytes.count)
        inFile += unflushed
        unflushed = 0
        pendingSince = nil
        defer { writer.removeAll() }
        guard appended.code == 0 else {
            return fail(.cannotWrite(file: files.name, code: appended.code), rest: writer.bytes[appended.count...])
        }
        guard all else { return }
        do throws(CaptureError) {
            try files.flush()
            settled = complete
        } catch {
            fail(error, rest: [])
        }
    }

    /// Ends the present file with a note that says why.
    private mutating func finish(_ end: RecordingEnd) {
        guard case .recording = phase else { return }
        writer.note(.end(end, time: max(latest, complete), leftOut: counters.drops[.queueFull]))
        flush(all: true)
        guard case .recording = phase else { return }
        do throws(CaptureError) {
            try files.leave()
        } catch {
            suspend(error)
        }
    }

    // MARK: Errors

    /// A file cannot take more.
    private mutating func fail(_ error: CaptureError, rest: ArraySlice<UInt8>) {
        var note = CaptureWriter()
        note.note(.end(.failed, time: max(latest, complete), leftOut: counters.drops[.queueFull]))
        let name = files.name
        let lost = files.cut(rest: rest, note: note.bytes)
        counters.written -= min(counters.written, lost.packets)
        counters.bytes -= min(counters.bytes, lost.bytes)
        if lost.isWhole { names.removeAll { $0 == name } }
        // A file that was hardly begun when it was full: the next one is tried later.
        retryDelay = inFile > lost.packets ? pace.retry : min(retryDelay * 2, pace.longestRetry)
        if files.isRegular {
            suspend(error)
        } else {
            stop(.ended(reason: error.isNoSpace ? .noSpace : .writeFailed), .ended(error))
        }
        leaveOut(lost.packets)
    }

    /// No file is open: events are left out until one can be written.
    private mutating func suspend(_ error: CaptureError) {
        let reason: RecordingDrop = error.isNoSpace ? .noSpace : .writeFailed
        gap = RecordingGap(since: settled, events: 0)
        // A file that is too large says nothing of the next one.
        let isTooLarge = error.isTooLarge && retryDelay == pace.retry
        stop(
            .suspended(reason: reason, nextTry: isTooLarge ? now : now + retryDelay, delay: retryDelay), .suspended(error))
    }

    private mutating func stop(_ phase: Phase, _ change: RecordingChange) {
        self.phase = phase
        obstacle = change
        changes.append(change)
    }

    private mutating func lookAfterFile() {
        switch phase {
        case .recording: look()
        case .suspended(let reason, let nextTry, let delay):
            guard now >= nextTry else { return }
            phase = .suspended(reason: reason, nextTry: now + delay, delay: delay)
            resume()
        case .ended: break
        }
    }

    /// Tries to go on in a new file.
    private mutating func resume() {
        guard files.hasRoom(for: layout.probes.count * 250 + connections.count * 128) else { return }
        do throws(CaptureError) {
            try files.beginAgain(at: nil)
        } catch {
            return
        }
        beginSection(gap: gap)
        let appended = files.write(writer.bytes, now: now)
        let head = UInt64(writer.bytes.count)
        writer.removeAll()
        pendingSince = nil
        guard appended.code == 0 else { return files.discard() }
        do throws(CaptureError) {
            try files.flush()
        } catch {
            return files.discard()
        }
        counters.bytes += head
        phase = .recording
        obstacle = nil
        names.append(files.name)
        changes.append(.resumed(file: files.name, missing: gap?.events ?? 0))
        gap = nil
    }

    /// Looks from time to time whether the file is still where others will look for it.
    private mutating func look() {
        guard now - lookedAt >= pace.look else { return }
        lookedAt = now
        let name = files.name
        switch files.place() {
        case .same: break
        case .elsewhere:
            names.removeAll { $0 == name }
            writer.note(.end(.continued, time: max(latest, complete), leftOut: counters.drops[.queueFull]))
            flush(all: true)
            guard case .recording = phase else { return }
            files.forget()
            if goOn(at: nil) { changes.append(.moved(file: name, next: files.name)) }
        case .gone:
            names.removeAll { $0 == name }
            let events = inFile + unflushed
            counters.drops[.fileRemoved] += events
            writer.removeAll()
            pendingSince = nil
            unflushed = 0
            files.forget()
            let lost = RecordingGap(since: begunAt, events: events)
            if goOn(at: nil, gap: lost) { changes.append(.removed(file: name, events: events, next: files.name)) }
        }
    }

    /// Begins the next file, behind one that was left.
    private mutating func goOn(at seconds: Int64?, gap: RecordingGap? = nil) -> Bool {
        do throws(CaptureError) {
            try files.beginAgain(at: seconds, isWorthless: gap != nil)
        } catch {
            suspend(error)
            if let gap { self.gap = gap }
            return false
        }
        names.append(files.name)
        beginSection(gap: gap)
        return true
    }
}
