/// A line of a kernel log taken apart: the time of writing and the kernel's message.
///
/// The forms: `/dev/kmsg`, `dmesg` (with `-x`, `-T`, `--time-format iso` too), `journalctl -k -o short`, `short-iso`,
/// `short-precise`, `short-monotonic`, and syslog's files, with RFC 3164 or RFC 3339 times and with or without the
/// kernel's own time behind `kernel:`. `LogCursor+Heads.swift` has rarer ones.
public struct LogLine: Equatable, Sendable {
    /// Microseconds since 1970; `nil` where the line does not say.
    public var wallTime: Int64?
    /// Microseconds since the machine started.
    public var bootTime: Int64?
    /// Microseconds since the line before, where that is all that the line says (`dmesg -H`).
    public var sinceBefore: Int64?
    /// `/dev/kmsg`'s sequence number.
    public var sequence: UInt64?
    /// The kernel's message, with LOG's prefix at its beginning.
    public var message: Range<Int>

    /// What lines leave out.
    public struct Context: Sendable {
        /// The year of a line without one is that which makes it the latest before this, in seconds since 1970.
        public var reference: Int64
        /// Seconds east of Greenwich for times without a zone.
        public var zone: Int64

        public init(reference: Int64, zone: Int64) {
            self.reference = reference
            self.zone = zone
        }
    }

    public init(parsing bytes: RawSpan, _ line: Range<Int>, context: Context) {
        var cursor = LogCursor(line)
        message = line
        if let record = cursor.kernelRecord(bytes) {
            sequence = record.sequence
            bootTime = record.microseconds
            message = cursor.rest
            return
        }
        cursor.skipFileName(bytes)
        if let head = cursor.androidHead(bytes, context) {
            wallTime = head.time
            bootTime = cursor.bracketedTime(bytes)
            message = head.isKernel ? cursor.rest : line.upperBound..<line.upperBound
            return
        }
        cursor.skipPriority(bytes)
        cursor.skipFacility(bytes)
        cursor.skipWeekday(bytes)
        if let seconds = cursor.date(bytes, context) ?? cursor.bracketedDate(bytes, context) {
            wallTime = seconds
        } else if let microseconds = cursor.bracketedTime(bytes) {
            bootTime = microseconds
        } else if let microseconds = cursor.bracketedDistance(bytes) {
            sinceBefore = microseconds
        }
        // `host kernel: `; only dmesg has none.
        var hasTag = cursor.skipThroughTag(bytes)
        if !hasTag, wallTime != nil, let seconds = cursor.relayedHead(bytes, context) {
            wallTime = seconds
            hasTag = true
        }
        if !hasTag, wallTime != nil, cursor.skipHostOfEmulation(bytes) { hasTag = true }
        guard hasTag || wallTime == nil || cursor.isDatedByDmesg else {
            // Another program's: anybody may write those.
            message = line.upperBound..<line.upperBound
            return
        }
        if bootTime == nil, let microseconds = cursor.bracketedTime(bytes) { bootTime = microseconds }
        message = cursor.rest
    }
}

/// Walks along the beginning of a line.
struct LogCursor {
    var offset: Int
    let end: Int
    /// Whether the date has a form that dmesg prints, which puts no tag behind it.
    var isDatedByDmesg = false

    init(_ line: Range<Int>) {
        offset = line.lowerBound
        end = line.upperBound
    }

    var rest: Range<Int> { offset..<end }

    func peek(_ bytes: RawSpan, _ distance: Int = 0) -> UInt8 {
        offset + distance < end ? bytes.byte(offset + distance) : 0
    }

    mutating func skipBlanks(_ bytes: RawSpan) { while peek(bytes) == UInt8(ascii: " ") { offset += 1 } }

    /// A decimal number, of at most `digits` digits.
    mutating func number(_ bytes: RawSpan, _ digits: Int = 18) -> Int64? {
        var value: Int64 = 0
        var count = 0
        while count < digits, offset < end, case let digit = peek(bytes) &- UInt8(ascii: "0"), digit <= 9 {
            value = value * 10 + Int64(digit)
            offset += 1
            count += 1
        }
        return count > 0 ? value : nil
    }

    mutating func take(_ bytes: RawSpan, _ character: Unicode.Scalar) -> Bool {
        guard offset < end, peek(bytes) == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    /// Takes back what `body` consumed where it fails.
    mutating func attempt<Value>(_ body: (inout LogCursor) -> Value?) -> Value? {
        var copy = self
        guard let value = body(&copy) else { return nil }
        self = copy
        return value
    }

    /// `level,sequence,microseconds,flags;message` (Documentation/ABI/testing/dev-kmsg).
    mutating func kernelRecord(_ bytes: RawSpan) -> (sequence: UInt64, microseconds: Int64)? {
        guard peek(bytes) &- UInt8(ascii: "0") <= 9 else { return nil }
        return attempt { cursor in
            guard cursor.number(bytes, 4) != nil, cursor.take(bytes, ","), let sequence = cursor.number(bytes),
                cursor.take(bytes, ","),
                let microseconds = cursor.number(bytes), cursor.take(bytes, ",")
            else { return nil }
            while cursor.offset < cursor.end, cursor.peek(bytes) != UInt8(ascii: ";") { cursor.offset += 1 }
            guard cursor.take(bytes, ";") else { return nil }
            return (UInt64(sequence), microseconds)
        }
    }

    /// `<4>`, and RFC 5424's version behind it.
    mutating func skipPriority(_ bytes: RawSpan) {
        _ = attempt { cursor -> Void? in
            guard cursor.take(bytes, "<"), cursor.number(bytes, 3) != nil, cursor.take(bytes, ">") else { return nil }
            return ()
        }
        _ = attempt { cursor -> Void? in
            guard cursor.take(bytes, "1"), cursor.take(bytes, " ") else { return nil }
            return ()
        }
    }

    /// `kern  :warn  : `
    mutating func skipFacility(_ bytes: RawSpan) {
        _ = attempt { cursor -> Void? in
            guard cursor.take(bytes, "k"), cursor.take(bytes, "e"), cursor.take(bytes, "r"), cursor.take(bytes, "n") else {
                return nil
            }
            cursor.skipBlanks(bytes)
            guard cursor.take(bytes, ":") else { return nil }
            while cursor.peek(bytes) >= UInt8(ascii: "a"), cursor.peek(bytes) <= UInt8(ascii: "z") { cursor.offset += 1 }
            cursor.skipBlanks(bytes)
            guard cursor.take(bytes, ":") else { return nil }
            cursor.skipBlanks(bytes)
            return ()
        }
    }

    /// `[12345.678901] `, in microseconds.
    mutating func bracketedTime(_ bytes: RawSpan) -> Int64? {
        guard peek(bytes) == UInt8(ascii: "[") else { return nil }
        return attempt { cursor in
            guard cursor.take(bytes, "[") else { return nil }
            cursor.skipBlanks(bytes)
            guard let seconds = cursor.number(bytes, 12), cursor.take(bytes, "."), let fraction = cursor.fraction(bytes) else {
                return nil
            }
            cursor.skipDelta(bytes)
            // printk's caller, where it is switched on: [ 12.345678][  T123]
            guard cursor.take(bytes, "]") else { return nil }
            if cursor.peek(bytes) == UInt8(ascii: "["), cursor.peek(bytes, 1) == UInt8(ascii: " ") {
                while cursor.offset < cursor.end, !cursor.take(bytes, "]") { cursor.offset += 1 }
            }
            _ = cursor.take(bytes, " ")
            return seconds * 1_000_000 + fraction
        }
    }

    /// Digits behind a decimal point, as microseconds.
    mutating func fraction(_ bytes: RawSpan) -> Int64? {
        let start = offset
        guard var value = number(bytes, 6) else { return nil }
        for _ in offset - start..<6 { value *= 10 }
        _ = number(bytes)
        return value
    }

    /// `Sat `, before a date of journalctl's short-full.
    mutating func skipWeekday(_ bytes: RawSpan) {
        let start = offset
        _ = attempt { cursor -> Void? in
            guard cursor.word(bytes) != nil, cursor.offset - start == 3, cursor.take(bytes, " "),
                cursor.startsWithISODate(bytes) || cursor.startsWithMonth(bytes)
            else { return nil }
            return ()
        }
    }

    /// `Nov 21 10:59:20`, `2026-11-21T10:59:20.123456+01:00`, or `2026-11-21 10:59:20`.
    mutating func date(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        switch peek(bytes) {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            attempt { $0.isoDate(bytes, context) } ?? attempt { $0.unixTime(bytes) } ?? attempt { $0.yearFirst(bytes, context) }
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): attempt { $0.syslogDate(bytes, context) }
        default: nil
        }
    }

    /// `[Sat Nov 21 10:59:20 2026] `
    mutating func bracketedDate(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        guard peek(bytes) == UInt8(ascii: "["), peek(bytes, 1) >= UInt8(ascii: "A") else { return nil }
        if let minute = attempt({ $0.humanDate(bytes, context) }) { return minute }
        return attempt { cursor in
            cursor.offset += 1
            guard cursor.word(bytes) != nil, cursor.take(bytes, " "), let month = cursor.month(bytes), cursor.take(bytes, " ")
            else { return nil }
            cursor.skipBlanks(bytes)
            guard let day = cursor.number(bytes, 2), cursor.take(bytes, " "), let time = cursor.clock(bytes),
                cursor.take(bytes, " "),
                let year = cursor.number(bytes, 4), cursor.take(bytes, "]")
            else { return nil }
            _ = cursor.take(bytes, " ")
            cursor.isDatedByDmesg = true
            return (Self.day(year, month, day) * 86_400 - context.zone) * 1_000_000 + time
        }
    }

    private mutating func isoDate(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        guard let year = number(bytes, 4), take(bytes, "-"), let month = number(bytes, 2), take(bytes, "-"),
            let day = number(bytes, 2), take(bytes, "T") || take(bytes, " "),
            let time = clock(bytes)
        else { return nil }
        guard (1...12).contains(month) else { return nil }
        var zone = context.zone
        if take(bytes, "Z") {
            zone = 0
        } else if peek(bytes) == UInt8(ascii: "+") || peek(bytes) == UInt8(ascii: "-") {
            let isWest = peek(bytes) == UInt8(ascii: "-")
            offset += 1
            guard let hours = number(bytes, 2) else { return nil }
            _ = take(bytes, ":")
            zone = (hours * 60 + (number(bytes, 2) ?? 0)) * 60 * (isWest ? -1 : 1)
        }
        guard take(bytes, " ") else { return nil }
        if peek(bytes) == UInt8(ascii: "U"), peek(bytes, 1) == UInt8(ascii: "T"), peek(bytes, 2) == UInt8(ascii: "C") {
            zone = 0
        }
        return (Self.day(year, month, day) * 86_400 - zone) * 1_000_000 + time
    }

    private mutating func syslogDate(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        guard let month = month(bytes), take(bytes, " ") else { return nil }
        skipBlanks(bytes)
        guard let day = number(bytes, 2), take(bytes, " "), let time = clock(bytes), take(bytes, " ") else { return nil }
        // OpenWrt's logread and ctime(3) put the year behind the time.
        if let year = trailingYear(bytes) { return (Self.day(year, month, day) * 86_400 - context.zone) * 1_000_000 + time }
        let year = Self.latestYear(month, day, time / 1_000_000, context)
        return (Self.day(year, month, day) * 86_400 - context.zone) * 1_000_000 + time
    }

    /// `10:59:20`, with a fraction behind a point or comma, in microseconds.
    mutating func clock(_ bytes: RawSpan) -> Int64? {
        guard let hours = number(bytes, 2), take(bytes, ":"), let minutes = number(bytes, 2), take(bytes, ":"),
            let seconds = number(bytes, 2)
        else { return nil }
        var time = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
        if peek(bytes) == UInt8(ascii: ".") || peek(bytes) == UInt8(ascii: ",") {
            isDatedByDmesg = peek(bytes) == UInt8(ascii: ",")
            offset += 1
            guard let fraction = fraction(bytes) else { return nil }
            time += fraction
        }
        return time
    }

    /// Letters, as a number of up to eight bytes.
    mutating func word(_ bytes: RawSpan) -> UInt64? {
        var value: UInt64 = 0
        var count: UInt64 = 0
        while count < 8, peek(bytes) >= UInt8(ascii: "A"), peek(bytes) <= UInt8(ascii: "z") {
            value |= UInt64(peek(bytes)) << (8 * count)
            offset += 1
            count += 1
        }
        return count > 0 ? value : nil
    }

    mutating func month(_ bytes: RawSpan) -> Int64? {
        guard let word = word(bytes) else { return nil }
        return Self.months.firstIndex(of: word).map { Int64($0) + 1 }
    }

    private static let months: [UInt64] = [
        LogKey.key("Jan"), LogKey.key("Feb"), LogKey.key("Mar"), LogKey.key("Apr"), LogKey.key("May"), LogKey.key("Jun"),
        LogKey.key("Jul"), LogKey.key("Aug"), LogKey.key("Sep"), LogKey.key("Oct"), LogKey.key("Nov"), LogKey.key("Dec"),
    ]

    /// Days since 1970-01-01 of a date of the Gregorian calendar; years are counted from March.
    static func day(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let shifted = month > 2 ? year : year - 1
        let monthFromMarch = (month + 9) % 12
        return 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * monthFromMarch + 2) / 5 + day - 719_469
    }

    /// Behind `kernel: ` (or `kernel - - - `), where that is what stands next or behind a zone's and a host's name.
    ///
    /// - Returns: whether it was there.
    mutating func skipThroughTag(_ bytes: RawSpan) -> Bool {
        attempt { cursor -> Void? in
            for _ in 0..<3 {
                cursor.skipBlanks(bytes)
                if cursor.takeTag(bytes) { return () }
                let start = cursor.offset
                while cursor.offset < cursor.end, cursor.peek(bytes) != UInt8(ascii: " ") { cursor.offset += 1 }
                guard cursor.offset > start else { return nil }
            }
            return nil
        } != nil
    }

    mutating func takeTag(_ bytes: RawSpan) -> Bool {
        if takeKlogdTag(bytes) { return true }
        guard end - offset >= 7, bytes.little32(offset) == 0x6E72_656B else { return false }  // "kern"
        return attempt { cursor -> Void? in
            for character in "kernel".utf8 {
                guard cursor.peek(bytes) == character else { return nil }
                cursor.offset += 1
            }
            // syslogd's process id, if it gives one
            if cursor.take(bytes, "[") {
                _ = cursor.number(bytes)
                guard cursor.take(bytes, "]") else { return nil }
            }
            if cursor.take(bytes, ":") {
                _ = cursor.take(bytes, " ")
                return ()
            }
            return cursor.skipStructuredHead(bytes) ? () : nil
        } != nil
    }
}
