import Captures
import Foundation
import Glibc
import LinuxSupport
import Synchronization
import Testing
import TraceModel
import WireFormat

/// A disk with a given room, and its error where there is none.
private final class ScriptedDisk: Sendable {
    private let state: Mutex<(room: Int, code: Int32, largestWrite: Int)>

    init(room: Int, code: Int32, largestWrite: Int = .max) { state = Mutex((room, code, largestWrite)) }

    func setRoom(_ room: Int) { state.withLock { $0.room = room } }

    var system: RecordingSystem {
        unsafe RecordingSystem { descriptor, bytes in
            self.state.withLock { state in
                let count = min(bytes.count, state.room, state.largestWrite)
                guard count > 0 else { return -Int(state.code) }
                let written = unsafe write(descriptor, bytes.baseAddress, count)
                state.room -= written
                return written
            }
        } space: { _ in
            self.state.withLock { (UInt64($0.room), 1 << 40) }
        }
    }
}

private let pace: RecordingPace = {
    var pace = RecordingPace()
    pace.hold = 20
    pace.flush = 5
    pace.look = 20
    pace.retry = 10
    pace.longestWrite = 50
    pace.longestClose = 200
    return pace
}()

/// A recorder in a folder of its own, with its messages.
private final class Trial: Sendable {
    let folder: String
    let recorder: Recorder
    private let told = Mutex<[RecordingChange]>([])
    var path: String { "\(folder)/trace.pcapng" }
    var changes: [RecordingChange] { told.withLock { $0 } }

    init(_ limits: RecordingLimits = RecordingLimits(), system: RecordingSystem = .kernel, overwrites: Bool = false) throws {
        folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        recorder = try Recorder(
            path: "\(folder)/trace.pcapng", limits: limits, run: 9, overwrites: overwrites, system: system, pace: pace)
        try recorder.begin { [self] change in told.withLock { $0.append(change) } }
        recorder.take([
            .layout(layout, ownPort: nil), .note(.connection(namespace: 0, original: tuple, reply: tuple6, isNew: true)),
        ])
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    /// Waits for a condition that holds within milliseconds.
    func wait(for what: String, _ condition: () -> Bool) throws {
        for _ in 0..<1000 where !condition() { usleep(10_000) }
        try #require(condition(), "waited for \(what) in vain: \(recorder.status)")
    }

    func send(_ numbers: Range<UInt8>, count: Int = 200) {
        recorder.take(numbers.map { datagram([$0], time: 1_000_000 + Int64($0), tags: [7], count: count) })
    }

    func waitUntilHandled(_ events: UInt64) throws {
        try wait(for: "\(events) events") {
            let counters = recorder.status.counters
            return counters.written + counters.dropped - counters.drops[.fileRemoved] >= events
        }
    }

    func contents(_ name: String = "trace.pcapng") -> [UInt8] {
        FileManager.default.contents(atPath: "\(folder)/\(name)").map { Array($0) } ?? []
    }
}

private func notes(_ blocks: [TraceBlock]) -> [RecordedNote] {
    blocks.compactMap { if case .note(let note) = $0 { note } else { nil } }
}

private func gap(_ blocks: [TraceBlock]) -> RecordingGap? {
    for case .begin(_, _, let gap?) in notes(blocks) { return gap }
    return nil
}

private func ends(_ blocks: [TraceBlock]) -> [RecordingEnd] {
    notes(blocks).compactMap { if case .end(let end, _, _) = $0 { end } else { nil } }
}

private func mode(_ path: String) -> UInt32 {
    var status = stat()
    return unsafe lstat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
}

@Suite struct RecorderTroubleTests {
    struct Refusal: Sendable, CustomTestStringConvertible {
        var name: String
        var room: Int
        var code: Int32
        var largestWrite = Int.max
        var reason: RecordingDrop
        var testDescription: String { name }
    }

    static let refusals: [Refusal] = [
        Refusal(name: "disk full in the middle of a block", room: 5001, code: ENOSPC, reason: .noSpace),
        Refusal(name: "disk full at the end of the first section's head", room: 1300, code: ENOSPC, reason: .noSpace),
        Refusal(name: "disk full after short writes", room: 5001, code: ENOSPC, largestWrite: 7, reason: .noSpace),
        Refusal(name: "quota exceeded", room: 9000, code: EDQUOT, reason: .noSpace),
        Refusal(name: "file too large", room: 7777, code: EFBIG, reason: .noSpace),
        Refusal(name: "I/O error", room: 6000, code: EIO, reason: .writeFailed),
        Refusal(name: "read-only file system at once", room: 0, code: EROFS, reason: .writeFailed),
    ]

    @Test(
        "a file that cannot take more ends in a whole block, and recording goes on in a new one that says what is missing",
        arguments: refusals)
    func goesOn(_ refusal: Refusal) throws {
        let disk = ScriptedDisk(room: refusal.room, code: refusal.code, largestWrite: refusal.largestWrite)
        let trial = try Trial(system: disk.system)
        trial.send(0..<100)
        try trial.wait(for: "the refusal") { trial.recorder.status.state == .suspended }
        let status = trial.recorder.status
        #expect(status.problem?.contains(ErrorNumber.text(refusal.code)) == true)
        trial.send(100..<120)
        try trial.waitUntilHandled(120)
        disk.setRoom(1 << 30)
        try trial.wait(for: "room") { trial.recorder.status.state == .recording }
        #expect(trial.recorder.status.problem == nil)
        trial.send(120..<150)
        trial.recorder.close()

        let counters = trial.recorder.status.counters
        #expect(counters.written + counters.dropped == 150 && counters.dropped == counters.drops[refusal.reason])
        let names = try FileManager.default.contentsOfDirectory(atPath: trial.folder).sorted()
        // A file in which nothing was left is not kept.
        let isKept = names.count == 2
        #expect(names == (isKept ? ["trace-00002.pcapng", "trace.pcapng"] : ["trace.pcapng"]))
        let before = read(isKept ? trial.contents() : [])
        let after = read(trial.contents(isKept ? "trace-00002.pcapng" : "trace.pcapng"))
        #expect((before.isWhole || !isKept) && after.isWhole)
        #expect(before.numbers == Array(0..<UInt8(before.numbers.count)) && after.numbers.suffix(30) == Array(120..<150))
        #expect(before.numbers.count + after.numbers.count == Int(counters.written))
        // Each can be read alone.
        #expect(gap(after.blocks)?.events == counters.dropped && ends(after.blocks) == [.closed])
        #expect(notes(after.blocks).contains(.connection(namespace: 0, original: tuple, reply: tuple6, isNew: true)))
        #expect(after.names == ["host"])
        guard trial.changes.count == 2, case .suspended = trial.changes[0], case .resumed(_, let missing) = trial.changes[1]
        else {
            Issue.record("it told \(trial.changes)")
            return
        }
        #expect(missing == counters.dropped)
    }

    @Test("a full disk leaves room for the end note, made by cutting events off")
    func endNote() throws {
        let folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        // Room by position in the file, as a real disk has it.
        let limit = 8191
        let system = unsafe RecordingSystem { descriptor, bytes in
            let position = Int(lseek(descriptor, 0, SEEK_CUR))
            let count = min(bytes.count, limit - position)
            return count > 0 ? unsafe write(descriptor, bytes.baseAddress, count) : -Int(ENOSPC)
        } space: { _ in
            (0, 1 << 30)
        }
        let recorder = try Recorder(
            path: "\(folder)/t.pcapng", limits: RecordingLimits(), run: 1, overwrites: false, system: system, pace: pace)
        try recorder.begin()
        recorder.take([.layout(layout, ownPort: nil)])
        recorder.take((0..<100).map { datagram([$0], time: 1, tags: [UInt64.max], count: 200) })
        recorder.close()
        let bytes = FileManager.default.contents(atPath: "\(folder)/t.pcapng").map { Array($0) } ?? []
        let capture = read(bytes)
        #expect(bytes.count <= limit && capture.isWhole && ends(capture.blocks) == [.failed])
        #expect(capture.numbers.count == Int(recorder.status.counters.written) && capture.numbers.count > 20)
    }

    @Test("a disk without enough room is not tried again and again with tiny files")
    func littleRoom() throws {
        let disk = ScriptedDisk(room: 5000, code: ENOSPC)
        let trial = try Trial(system: disk.system)
        trial.send(0..<100)
        try trial.wait(for: "the refusal") { trial.recorder.status.state == .suspended }
        disk.setRoom(100_000)
        usleep(200_000)
        #expect(trial.recorder.status.state == .suspended)
        #expect(try FileManager.default.contentsOfDirectory(atPath: trial.folder) == ["trace.pcapng"])
        trial.recorder.close()
        #expect(trial.recorder.status.problem?.contains("no space left") == true)
    }

    enum Deed: String, CaseIterable, Sendable {
        case deleted, renamed, rotatedAndCreated, replaced, cutShort, cutShortUnderTraffic
    }

    @Test("a file that somebody moved or deleted is noticed, and recording goes on in a new one", arguments: Deed.allCases)
    func moved(_ deed: Deed) throws {
        let trial = try Trial()
        trial.send(0..<10)
        try trial.wait(for: "the first events") { read(trial.contents()).numbers.count == 10 }
        var next = "trace.pcapng"
        switch deed {
        case .deleted: unsafe unlink(trial.path)
        case .renamed: unsafe rename(trial.path, "\(trial.folder)/old")
        case .rotatedAndCreated:
            unsafe rename(trial.path, "\(trial.folder)/old")
            close(unsafe open(trial.path, O_CREAT | O_WRONLY, 0o644))
        case .replaced:
            // In one step: between two, the recorder may have made the file anew, and it would be that one that is overwritten.
            let other = "\(trial.folder)/other"
            try Data("evidence".utf8).write(to: URL(fileURLWithPath: other))
            unsafe link(trial.path, "\(trial.folder)/old")
            unsafe rename(other, trial.path)
            next = "trace-00002.pcapng"
        case .cutShort: unsafe truncate(trial.path, 0)
        case .cutShortUnderTraffic:
            unsafe truncate(trial.path, 0)
            trial.send(5..<10)
        }
        try trial.wait(for: "the new file") { !trial.changes.isEmpty }
        trial.send(10..<20)
        trial.recorder.close()
        let after = read(trial.contents(next))
        #expect(after.isWhole && mode("\(trial.folder)/\(next)") == 0o600)
        let isGone = deed == .deleted || deed == .cutShort || deed == .cutShortUnderTraffic
        let removed: UInt64 = isGone ? 10 : 0
        let counters = trial.recorder.status.counters
        if deed == .cutShortUnderTraffic {
            // What came meanwhile is in the one file or in the other.
            #expect(after.numbers.suffix(10) == Array(10..<20))
            #expect(counters.drops[.fileRemoved] + UInt64(after.numbers.count) == 25)
        } else {
            #expect(after.numbers == Array(10..<20) && counters.drops[.fileRemoved] == removed)
            #expect(gap(after.blocks)?.events == (isGone ? removed : nil))
        }
        #expect(trial.changes.count == 1 && trial.changes[0].isTrouble == isGone)
        if !isGone {
            let old = read(Array(FileManager.default.contents(atPath: "\(trial.folder)/old") ?? Data()))
            #expect(old.numbers == Array(0..<10) && old.isWhole && ends(old.blocks) == [.continued])
        }
        if deed == .replaced { #expect(trial.contents() == Array("evidence".utf8)) }
    }

    @Test("a folder that is gone suspends recording until it is back")
    func folderGone() throws {
        let trial = try Trial()
        trial.send(0..<10)
        try trial.wait(for: "the first events") { read(trial.contents()).numbers.count == 10 }
        try FileManager.default.removeItem(atPath: trial.folder)
        try trial.wait(for: "the loss") { trial.recorder.status.state == .suspended }
        trial.send(10..<20)
        try trial.waitUntilHandled(20)
        try FileManager.default.createDirectory(atPath: trial.folder, withIntermediateDirectories: true)
        try trial.wait(for: "the new file") { trial.recorder.status.state == .recording }
        trial.send(20..<30)
        trial.recorder.close()
        let after = read(trial.contents())
        #expect(after.numbers == Array(20..<30) && gap(after.blocks)?.events == 20)
    }

    @Test("an event whose journey does not end is in the file within its bound, without anything else coming")
    func bounded() throws {
        let trial = try Trial()
        trial.send(0..<1)
        try trial.wait(for: "the event") { read(trial.contents()).numbers == [0] }
        trial.recorder.close()
    }

    @Test("events that do not fit into the queue are noted where they are missing, and told of once")
    func queueFull() throws {
        let trial = try Trial()
        trial.recorder.take((0..<40).map { datagram([$0], time: Int64($0), tags: [UInt64.max], count: 1 << 20) })
        try trial.waitUntilHandled(40)
        trial.recorder.close()
        let capture = read(trial.contents())
        let leftOut = trial.recorder.status.counters.drops[.queueFull]
        #expect(leftOut > 0 && trial.changes == [.behind(file: trial.path)])
        let losses = notes(capture.blocks).count { $0 == .loss(namespace: 0) }
        #expect(losses == 1)
        guard case .end(.closed, _, leftOut: leftOut) = notes(capture.blocks).last else {
            Issue.record("the last note is \(String(describing: notes(capture.blocks).last))")
            return
        }
    }

    @Test("the limit is told at once, and the file ends with a note that says so")
    func limit() throws {
        let trial = try Trial(RecordingLimits(total: 6000))
        trial.send(0..<100)
        try trial.wait(for: "the limit") { trial.recorder.status.state == .ended }
        #expect(trial.changes == [.limitReached(file: trial.path)])
        trial.recorder.close()
        let capture = read(trial.contents())
        #expect(capture.isWhole && ends(capture.blocks) == [.limit] && trial.contents().count <= 6000)
        #expect(trial.recorder.status.counters.drops[.limit] == UInt64(100 - capture.numbers.count))
    }

    // MARK: Existing files

    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = "\(NSTemporaryDirectory())ipt-trace-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    @Test("a file that exists is refused, whatever it is, and stays as it is")
    func existing() throws {
        try withFolder { folder in
            let path = "\(folder)/a.pcapng"
            try Data("evidence".utf8).write(to: URL(fileURLWithPath: path))
            #expect(throws: CaptureError.exists(file: path)) { try Recorder(path: path, limits: RecordingLimits(), run: 1) }
            unsafe symlink(path, "\(folder)/link")
            for overwrites in [false, true] {
                #expect(throws: CaptureError.isLink(file: "\(folder)/link")) {
                    try Recorder(path: "\(folder)/link", limits: RecordingLimits(), run: 1, overwrites: overwrites)
                }
            }
            #expect(FileManager.default.contents(atPath: path) == Data("evidence".utf8))
        }
    }

    @Test("a file that is to be overwritten is replaced by one of mode 0600 when recording begins, not before")
    func overwritten() throws {
        try withFolder { folder in
            let path = "\(folder)/a.pcapng"
            try Data("evidence".utf8).write(to: URL(fileURLWithPath: path))
            unsafe chmod(path, 0o644)
            unsafe link(path, "\(folder)/other-name")
            try Recorder(path: path, limits: RecordingLimits(), run: 1, overwrites: true).close()
            #expect(FileManager.default.contents(atPath: path) == Data("evidence".utf8))
            let recorder = try Recorder(path: path, limits: RecordingLimits(), run: 1, overwrites: true)
            try recorder.begin()
            recorder.close()
            #expect(mode(path) == 0o600 && read(Array(FileManager.default.contents(atPath: path) ?? Data())).isWhole)
            #expect(FileManager.default.contents(atPath: "\(folder)/other-name") == Data("evidence".utf8))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).count == 2)
        }
    }

    @Test("a recorder that was not begun leaves no file")
    func notBegun() throws {
        try withFolder { folder in
            try Recorder(path: "\(folder)/a.pcapng", limits: RecordingLimits(), run: 1).close()
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        }
    }

    @Test("a FIFO is written to as it is")
    func fifo() throws {
        try withFolder { folder in
            let path = "\(folder)/fifo"
            unsafe mkfifo(path, 0o600)
            // A reader that waits would hold up the opening.
            let reader = unsafe open(path, O_RDONLY | O_NONBLOCK)
            defer { close(reader) }
            let recorder = try Recorder(path: path, limits: RecordingLimits(), run: 1)
            try recorder.begin()
            recorder.take([.layout(layout, ownPort: nil), datagram([1, 2], time: 5, tags: [1, 2])])
            recorder.close()
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = unsafe Glibc.read(reader, &bytes, bytes.count)
            #expect(read(Array(bytes.prefix(max(0, count)))).numbers == [1, 2])
        }
    }

    @Test("a write that does not return is told, counted and not waited for at the end")
    func stuckWrite() throws {
        let gate = DispatchSemaphore(value: 0)
        let system = unsafe RecordingSystem { descriptor, bytes in
            gate.wait()
            return unsafe write(descriptor, bytes.baseAddress, bytes.count)
        } space: { _ in
            (1 << 30, 1 << 40)
        }
        let trial = try Trial(system: system)
        let numbers = [UInt8](repeating: 1, count: 1000)
        var offered: UInt64 = 0
        for number in 0..<400 where trial.changes.isEmpty {
            offered += UInt64(numbers.count)
            trial.recorder.take([datagram(numbers, time: Int64(number), tags: numbers.map(UInt64.init))])
            usleep(5000)
        }
        #expect(trial.changes.first?.isTrouble == true)
        #expect(trial.recorder.status.problem?.contains("has not returned for 0.05 s") == true)
        trial.recorder.close()
        let counters = trial.recorder.status.counters
        #expect(counters.written + counters.dropped == offered)
        for _ in 0..<1000 { gate.signal() }
    }
}
