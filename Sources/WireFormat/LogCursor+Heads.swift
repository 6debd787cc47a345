/// Heads of log lines that only some programs write, one function each.
extension LogCursor {
    private func isDigit(_ bytes: RawSpan, _ distance: Int) -> Bool { peek(bytes, distance) &- UInt8(ascii: "0") <= 9 }

    // MARK: File names

    /// `/var/log/kern.log:` and `/var/log/kern.log:12:`, as `grep -H` and `grep -n` put them before a line.
    mutating func skipFileName(_ bytes: RawSpan) {
        _ = attempt { cursor -> Void? in
            let start = cursor.offset
            var hasSlash = false
            while cursor.offset < cursor.end, cursor.peek(bytes) > UInt8(ascii: " "), cursor.peek(bytes) != UInt8(ascii: ":") {
                hasSlash = hasSlash || cursor.peek(bytes) == UInt8(ascii: "/")
                cursor.offset += 1
            }
            let isLog = cursor.offset - start > 4 && bytes.text(cursor.offset - 4..<cursor.offset) == ".log"
            guard hasSlash || isLog, cursor.take(bytes, ":") else { return nil }
            _ = cursor.attempt { number -> Void? in
                number.number(bytes) != nil && number.take(bytes, ":") ? () : nil
            }
            return ()
        }
    }

    // MARK: Dates

    /// `02-07 20:13:05.123     0     0 W         : ` of Android's `logcat -b kernel`, with a user's name before the process in some
    /// versions (`android_log_formatLogLine`). The kernel's lines are of process 0.
    mutating func androidHead(_ bytes: RawSpan, _ context: LogLine.Context) -> (time: Int64, isKernel: Bool)? {
        guard isDigit(bytes, 0), isDigit(bytes, 1), peek(bytes, 2) == UInt8(ascii: "-"), isDigit(bytes, 3), isDigit(bytes, 4),
            peek(bytes, 5) == UInt8(ascii: " ")
        else { return nil }
        return attempt { cursor in
            guard let month = cursor.number(bytes, 2), (1...12).contains(month), cursor.take(bytes, "-"),
                let day = cursor.number(bytes, 2), cursor.take(bytes, " "), let time = cursor.clock(bytes)
            else { return nil }
            cursor.skipBlanks(bytes)
            if cursor.word(bytes) != nil { cursor.skipBlanks(bytes) }
            guard let process = cursor.number(bytes, 10), cursor.take(bytes, " ") else { return nil }
            cursor.skipBlanks(bytes)
            guard cursor.number(bytes, 10) != nil, cursor.take(bytes, " "), cursor.offset < cursor.end else { return nil }
            // The level, one letter; then a tag, empty for the kernel's.
            cursor.offset += 1
            guard cursor.take(bytes, " ") else { return nil }
            while cursor.offset < cursor.end, cursor.peek(bytes) != UInt8(ascii: ":") { cursor.offset += 1 }
            guard cursor.take(bytes, ":") else { return nil }
            _ = cursor.take(bytes, " ")
            let year = Self.latestYear(month, day, time / 1_000_000, context)
            return ((Self.day(year, month, day) * 86_400 - context.zone) * 1_000_000 + time, process == 0)
        }
    }

    /// Whether `2026-` stands next.
    func startsWithISODate(_ bytes: RawSpan) -> Bool {
        (0..<4).allSatisfy { isDigit(bytes, $0) } && peek(bytes, 4) == UInt8(ascii: "-")
    }

    /// Whether a month's name stands next.
    func startsWithMonth(_ bytes: RawSpan) -> Bool {
        var cursor = self
        return cursor.month(bytes) != nil
    }

    /// `2026 `, behind a date and a blank that has been taken.
    mutating func trailingYear(_ bytes: RawSpan) -> Int64? {
        attempt { cursor in
            let start = cursor.offset
            guard let year = cursor.number(bytes, 4), cursor.offset - start == 4, (1970...2200).contains(year),
                cursor.take(bytes, " ")
            else { return nil }
            return year
        }
    }

    /// `2026 Nov 21 10:59:20 `
    mutating func yearFirst(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        guard let year = number(bytes, 4), (1970...2200).contains(year), take(bytes, " "), let month = month(bytes),
            take(bytes, " ")
        else { return nil }
        skipBlanks(bytes)
        guard let day = number(bytes, 2), take(bytes, " "), let time = clock(bytes), take(bytes, " ") else { return nil }
        return (Self.day(year, month, day) * 86_400 - context.zone) * 1_000_000 + time
    }

    /// `1732183160.123456 ` of journalctl's short-unix, seconds since 1970.
    mutating func unixTime(_ bytes: RawSpan) -> Int64? {
        let start = offset
        guard let seconds = number(bytes, 11), offset - start >= 9, take(bytes, "."), let fraction = fraction(bytes),
            take(bytes, " ")
        else { return nil }
        return seconds * 1_000_000 + fraction
    }

    /// `[Nov21 10:59] ` of `dmesg -H`, to the minute.
    mutating func humanDate(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        guard take(bytes, "["), let month = month(bytes) else { return nil }
        skipBlanks(bytes)
        guard let day = number(bytes, 2), take(bytes, " "), let hours = number(bytes, 2), take(bytes, ":"),
            let minutes = number(bytes, 2), take(bytes, "]")
        else { return nil }
        _ = take(bytes, " ")
        isDatedByDmesg = true
        let seconds = (hours * 60 + minutes) * 60
        let year = Self.latestYear(month, day, seconds, context)
        return (Self.day(year, month, day) * 86_400 - context.zone + seconds) * 1_000_000
    }

    /// `[  +0.000123] ` of `dmesg -H`, in microseconds since the line before.
    mutating func bracketedDistance(_ bytes: RawSpan) -> Int64? {
        attempt { cursor in
            guard cursor.take(bytes, "[") else { return nil }
            cursor.skipBlanks(bytes)
            guard cursor.take(bytes, "+"), let seconds = cursor.number(bytes, 9), cursor.take(bytes, "."),
                let fraction = cursor.fraction(bytes), cursor.take(bytes, "]")
            else { return nil }
            _ = cursor.take(bytes, " ")
            return seconds * 1_000_000 + fraction
        }
    }

    /// ` <    0.000012>` within dmesg's brackets (`dmesg -d`).
    mutating func skipDelta(_ bytes: RawSpan) {
        _ = attempt { cursor -> Void? in
            cursor.skipBlanks(bytes)
            guard cursor.take(bytes, "<") else { return nil }
            cursor.skipBlanks(bytes)
            guard cursor.number(bytes, 12) != nil, cursor.take(bytes, "."), cursor.fraction(bytes) != nil,
                cursor.take(bytes, ">")
            else { return nil }
            return ()
        }
    }

    /// The latest year in which the date exists and is not after the reference, with a day's grace for clocks that differ.
    static func latestYear(_ month: Int64, _ day: Int64, _ seconds: Int64, _ context: LogLine.Context) -> Int64 {
        let latest = context.reference + 86_400
        func exists(_ year: Int64) -> Bool {
            month != 2 || day != 29 || (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
        }
        var year = 1970 + latest / 31_556_952 + 1
        while year > 1970, !exists(year) || Self.day(year, month, day) * 86_400 - context.zone + seconds > latest { year -= 1 }
        return year
    }

    // MARK: Tags

    /// `klogd: `, busybox' and old syslogd's tag of the kernel.
    mutating func takeKlogdTag(_ bytes: RawSpan) -> Bool {
        guard end - offset >= 6, bytes.text(offset..<offset + 6) == "klogd:" else { return false }
        offset += 6
        _ = take(bytes, " ")
        return true
    }

    /// ` PROCID MSGID SD `, behind an RFC 5424 head's APP-NAME: each `-` or a word, the last `-` or elements in brackets.
    ///
    /// - Returns: false for anything else.
    mutating func skipStructuredHead(_ bytes: RawSpan) -> Bool {
        for _ in 0..<2 {
            guard take(bytes, " ") else { return false }
            let start = offset
            while offset < end, peek(bytes) > UInt8(ascii: " ") { offset += 1 }
            guard offset > start else { return false }
        }
        guard take(bytes, " ") else { return false }
        if !take(bytes, "-") {
            guard peek(bytes) == UInt8(ascii: "[") else { return false }
            while take(bytes, "[") {
                var isQuoted = false
                while offset < end {
                    let character = peek(bytes)
                    offset += 1
                    if character == UInt8(ascii: "\\"), isQuoted { offset = min(end, offset + 1) }
                    if character == UInt8(ascii: "\"") { isQuoted.toggle() }
                    if character == UInt8(ascii: "]"), !isQuoted { break }
                }
            }
        }
        guard take(bytes, " ") || offset == end else { return false }
        // The message may begin with a byte order mark.
        if peek(bytes) == 0xEF, peek(bytes, 1) == 0xBB, peek(bytes, 2) == 0xBF { offset += 3 }
        return true
    }

    /// `192.168.1.1 Nov 21 10:59:20 router kernel: `: a relay's host name, then the head that the origin wrote.
    ///
    /// - Returns: the time of the origin.
    mutating func relayedHead(_ bytes: RawSpan, _ context: LogLine.Context) -> Int64? {
        attempt { cursor in
            cursor.skipBlanks(bytes)
            let start = cursor.offset
            while cursor.offset < cursor.end, cursor.peek(bytes) > UInt8(ascii: " ") { cursor.offset += 1 }
            guard cursor.offset > start, cursor.take(bytes, " ") else { return nil }
            cursor.skipPriority(bytes)
            guard let seconds = cursor.date(bytes, context), cursor.skipThroughTag(bytes) else { return nil }
            return seconds
        }
    }

    /// The host's name before a line of ulogd2's syslogemu, which has no tag; it ends in `MARK=0x0 ` (printpkt.c).
    mutating func skipHostOfEmulation(_ bytes: RawSpan) -> Bool {
        var last = end
        while last > offset, bytes.byte(last - 1) == UInt8(ascii: " ") { last -= 1 }
        var word = last
        while word > offset, bytes.byte(word - 1) > UInt8(ascii: " ") { word -= 1 }
        guard bytes.text(word..<last).hasPrefix("MARK=") else { return false }
        return attempt { cursor -> Void? in
            cursor.skipBlanks(bytes)
            let start = cursor.offset
            while cursor.offset < cursor.end, cursor.peek(bytes) > UInt8(ascii: " ") { cursor.offset += 1 }
            guard cursor.offset > start, bytes.byte(cursor.offset - 1) != UInt8(ascii: ":"), cursor.take(bytes, " ") else {
                return nil
            }
            // Behind the host another program's tag is one word with a colon: anybody may write those. A prefix of one word with a
            // colon cannot be told from it.
            let tag = cursor.offset
            var copy = cursor
            while copy.offset < copy.end, copy.peek(bytes) > UInt8(ascii: " ") { copy.offset += 1 }
            return copy.offset > tag && bytes.byte(copy.offset - 1) == UInt8(ascii: ":") ? nil : ()
        } != nil
    }
}
