import Aggregation
import Foundation
import Glibc
import LinuxSupport
import Logging
import Reports
import Synchronization

/// The live view on a terminal: its screen, its keys, and the terminal as it was before in the end.
final class LiveTerminal: Sendable {
    /// Whether there is a terminal that can show it, for input and output, and nothing else is to be shown all the time.
    static var isPossible: Bool {
        guard Log.level > .debug else { return false }
        let kind = ProcessInfo.processInfo.environment["TERM"] ?? ""
        return isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0 && !kind.isEmpty && kind != "dumb"
    }

    private let style: Style
    private let isEnding = Atomic(false)

    init(isColored: Bool) { style = Style(isColored: isColored) }

    /// Shows snapshots, one a second, until the person leaves or `end` is called.
    ///
    /// What is said meanwhile is said afterwards: a line in between would be gone with the next picture.
    func show(_ title: String, _ snapshot: @escaping @Sendable () async -> TraceSnapshot?) async {
        guard let saved = TerminalMode.quiet() else { return }
        Terminal.hold()
        Terminal.write(Array("\u{1B}[?1049h\u{1B}[?25l".utf8))
        var screen = LiveScreen(title: title)
        var lastLook = Int64.min / 2
        var figures: (time: Int64, seconds: Double)?
        while !isEnding.load(ordering: .relaxed) {
            let now = Clock.monotonic
            var isNew = false
            if now - lastLook >= 1_000_000 {
                lastLook = now
                if let taken = await snapshot() {
                    screen.take(taken, Self.cost(now, &figures))
                    isNew = true
                }
            }
            let keys = LiveKey.read(TerminalMode.input(milliseconds: 100))
            guard keys.allSatisfy({ screen.take($0) }) else { break }
            if isNew || !keys.isEmpty { draw(screen) }
        }
        Terminal.write(Array("\u{1B}[?25h\u{1B}[?1049l".utf8))
        saved.restore()
        Terminal.release()
    }

    func end() { isEnding.store(true, ordering: .relaxed) }

    private func draw(_ screen: LiveScreen) {
        let size = TerminalMode.size
        let lines = screen.lines(columns: size.columns, rows: size.rows, style).map { "\($0)\u{1B}[K" }
        Terminal.write(Array("\u{1B}[H\(lines.joined(separator: "\r\n"))\u{1B}[J".utf8))
    }

    private static func cost(_ now: Int64, _ last: inout (time: Int64, seconds: Double)?) -> LiveScreen.Cost? {
        guard let current = ProcessFigures.current() else { return nil }
        defer { last = (now, current.processorSeconds) }
        guard let last, now > last.time else { return nil }
        let share = (current.processorSeconds - last.seconds) * 1_000_000 / Double(now - last.time)
        return LiveScreen.Cost(processorShare: share, memory: current.residentMemory)
    }
}

/// How a terminal treats what is typed (termios(3)).
private struct TerminalMode {
    private let before: termios

    /// Has keys read one by one, and not shown; Ctrl-C goes on to be a signal.
    ///
    /// - Returns: the mode as it was; `nil` where it cannot be changed.
    static func quiet() -> TerminalMode? {
        var mode = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &mode) == 0 else { return nil }
        let before = mode
        mode.c_lflag &= ~tcflag_t(ICANON | ECHO)
        guard unsafe tcsetattr(STDIN_FILENO, TCSANOW, &mode) == 0 else { return nil }
        return TerminalMode(before: before)
    }

    func restore() {
        var mode = before
        _ = unsafe tcsetattr(STDIN_FILENO, TCSANOW, &mode)
    }

    /// What was typed, within this time.
    static func input(milliseconds: Int32) -> [UInt8] {
        var waited = [pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)]
        SocketCalls.poll(&waited, milliseconds: milliseconds)
        guard waited[0].revents & Int16(POLLIN) != 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = FileCalls.read(STDIN_FILENO, into: &bytes)
        return Array(bytes.prefix(max(0, count)))
    }

    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }
}
