internal import Captures
internal import Engine
private import Foundation
internal import TraceModel
internal import WireFormat

extension InputFormat {
    /// Any text may be one: lines that no rule wrote are passed over.
    static let kernelLogs = InputFormat { (file) throws(CaptureError) in
        guard file.isText else { return nil }
        let now = Date()
        return RecognisedInput(
            input: LogInput(
                file.stream, window: file.window,
                context: LogLine.Context(
                    reference: Int64(now.timeIntervalSince1970), zone: Int64(TimeZone.current.secondsFromGMT(for: now)))))
    }
}

/// A kernel log as text: lines of any of the forms that `LogLine` knows, or entries of journalctl and dmesg (`JournalEntry`).
final class LogInput: TraceInput {
    let stream: ByteStream
    let channel = EventChannel.kernelLog
    private var window: InputWindow
    private var context: LogLine.Context
    private var clock = LogClock()
    private var lineNumber: UInt64 = 0
    private var entryLines = JournalEntryLines()
    private(set) var isExhausted = false

    private struct Pending {
        var time: Int64
        var message: Range<Int>
        /// The message, where it is not in the window as it is.
        var text: [UInt8]?
        var end: Int
    }

    private var pending: Pending?

    init(_ stream: ByteStream, window: InputWindow, context: LogLine.Context) {
        self.stream = stream
        self.window = window
        self.context = context
    }

    var consumed: UInt64 { stream.consumed }

    func begin() {}
    func end() {}
    func stopFollowing() { window.end() }

    /// Longer lines are cut: no packet's line comes near.
    private static let longestLine = 1 << 16

    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64? {
        if let pending { return pending.time }
        while !isExhausted {
            let start = window.range.lowerBound
            if let end = lineEnd() {
                pending = read(start..<end, end: end + 1, &problems)
                return pending?.time
            }
            if window.isLast || window.range.count > Self.longestLine {
                if !window.range.isEmpty {
                    pending = read(start..<window.range.upperBound, end: window.range.upperBound, &problems)
                    return pending?.time
                }
                if let problem = stream.problem {
                    problems.add("\(stream.name): \(problem); what was readable has been analysed")
                }
                if let entry = entryLines.finish() {
                    pending = pending(entry, end: start)
                    return pending?.time
                }
                isExhausted = true
                return nil
            }
            if try !window.fill(), !window.isLast {
                guard try window.continueRotated() else { return nil }
                lineNumber = 0
            }
            // A log that is followed is being written: its year is today's.
            context.reference = max(context.reference, Int64(Date().timeIntervalSince1970))
        }
        return nil
    }

    private func lineEnd() -> Int? {
        let buffer = window.buffer
        return Self.newline(buffer.octets, window.range)
    }

    /// Eight bytes at a time: a byte that equals a newline is 0 in the word's difference, and only such a byte borrows.
    private static func newline(_ bytes: RawSpan, _ range: Range<Int>) -> Int? {
        var offset = range.lowerBound
        while range.upperBound - offset >= 8 {
            let word = bytes.little64(offset) ^ 0x0A0A_0A0A_0A0A_0A0A
            let zero = (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
            if zero != 0 { return offset + zero.trailingZeroBitCount / 8 }
            offset += 8
        }
        while offset < range.upperBound {
            if bytes.byte(offset) == 0x0A { return offset }
            offset += 1
        }
        return nil
    }

    private func read(_ line: Range<Int>, end: Int, _ problems: inout Problems) -> Pending {
        lineNumber += 1
        let buffer = window.buffer
        let bytes = buffer.octets
        var line = line
        if line.count > 0, bytes.byte(line.upperBound - 1) == 0x0D { line = line.lowerBound..<line.upperBound - 1 }
        // Record separators of JSON text sequences (RFC 7464): journalctl -o json-seq.
        while line.count > 0, bytes.byte(line.lowerBound) == 0x1E { line = line.lowerBound + 1..<line.upperBound }
        let nothing = Pending(time: clock.last, message: line.lowerBound..<line.lowerBound, text: nil, end: end)
        let isObject = line.count > 1 && bytes.byte(line.lowerBound) == UInt8(ascii: "{")
        if isObject || entryLines.mayTake(bytes, line) {
            let text = line.map { bytes.byte($0) }
            let step =
                isObject
                ? JournalEntry(json: text).map { JournalEntryLines.Step.entry($0) } ?? .damaged : entryLines.take(text)
            switch step {
            case .none: break
            case .part: return nothing
            case .entry(let entry):
                if entry.message.isEmpty { noteUnread(bytes, line, &problems) }
                return pending(entry, end: end)
            case .damaged:
                problems.add("\(stream.name): line \(lineNumber) is not an entry of journalctl -o json or dmesg --json")
                return nothing
            }
        }
        let parsed = LogLine(parsing: bytes, line, context: context)
        if parsed.message.isEmpty { noteUnread(bytes, line, &problems) }
        return Pending(time: clock.time(of: parsed), message: parsed.message, text: nil, end: end)
    }

    /// Says of a line that holds what LOG rules write, and that no kernel wrote as far as its beginning tells: anybody may write such
    /// lines into a log, so that they are not read.
    private func noteUnread(_ bytes: RawSpan, _ line: Range<Int>, _ problems: inout Problems) {
        guard Self.logWords.allSatisfy({ Self.holds($0, bytes, line) }) else { return }
        problems.add(
            "\(stream.name): line \(lineNumber) holds what a LOG rule writes, but its beginning is none that is known of the kernel's "
                + "lines: what another program wrote is not taken for the kernel's. Give the kernel's log (journalctl -k, dmesg)"
        )
    }

    private static let logWords = [" SRC=", " DST=", " PROTO="].map { Array($0.utf8) }

    private static func holds(_ word: [UInt8], _ bytes: RawSpan, _ range: Range<Int>) -> Bool {
        guard range.count >= word.count else { return false }
        for start in range.lowerBound...range.upperBound - word.count
        where bytes.isEqual(at: start, to: word.octets, at: 0, count: word.count) {
            return true
        }
        return false
    }

    private func pending(_ entry: JournalEntry, end: Int) -> Pending {
        Pending(time: clock.time(of: entry), message: 0..<entry.message.count, text: entry.message, end: end)
    }

    func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError) {
        var left = count
        while left > 0, let time = try nextTime(&state.problems), time <= limit, let next = pending {
            pending = nil
            left -= 1
            state.move(to: time)
            do {
                if let text = next.text {
                    try state.logReader.read(
                        text.octets, next.message, now: time, into: &state.engine.correlator)
                } else {
                    let buffer = window.buffer
                    try state.logReader.read(
                        buffer.octets, next.message, now: time, into: &state.engine.correlator)
                }
            } catch {
                state.problems.add("\(stream.name): line \(lineNumber) is cut short or damaged: \(Self.text(error, next))")
            }
            window.use(upTo: next.end)
        }
    }

    /// The error with places counted from the message's beginning.
    private static func text(_ error: ParseError, _ next: Pending) -> String {
        guard case .missingField(_, let name) = error else { return "\(error)" }
        return "\(name)= is missing or not understood"
    }
}

/// Times of a log's lines, which never go back: coarse ones of the wall clock are refined by the kernel's own.
struct LogClock {
    private(set) var last: Int64 = 0
    /// What to add to a time since boot.
    private var wallClockAtBoot: Int64?
    /// By how much the log's clock was put back in all.
    private var shift: Int64 = 0

    mutating func time(of line: LogLine) -> Int64 {
        if let distance = line.sinceBefore { return time(wall: last &+ distance, boot: nil) }
        return time(wall: line.wallTime, boot: line.bootTime)
    }
    mutating func time(of entry: JournalEntry) -> Int64 { time(wall: entry.realtime, boot: entry.monotonic) }

    private static let allowedBack: Int64 = 10_000_000
    /// A hundred years: nothing is that late.
    private static let furthestAhead: Int64 = 3_155_760_000_000_000

    private mutating func time(wall: Int64?, boot: Int64?) -> Int64 {
        let time: Int64
        switch (wall, boot) {
        case (let wall?, let boot?):
            let offset = wall &- boot
            // The two differ by the logger's delay and resolution; by more after another boot.
            if let known = wallClockAtBoot, (offset &- known).magnitude < 5_000_000 {
                time = boot &+ known
            } else {
                wallClockAtBoot = offset
                time = wall
            }
        case (let wall?, nil): time = wall
        case (nil, let boot?): time = boot &+ (wallClockAtBoot ?? 0)
        case (nil, nil): time = last
        }
        var shifted = TimeBounds.clamp(time &+ shift)
        // A line from days ahead is damaged, not early: it would hold up all that follow.
        if last > 0, shifted > last, shifted - last > Self.furthestAhead, wall != nil { shifted = last }
        if shifted < last - Self.allowedBack {
            // The clock was put back, or the machine started again: from here on it goes on from where it was.
            shift = shift &+ (last - shifted)
            shifted = last
        }
        last = max(last, shifted)
        return last
    }
}
