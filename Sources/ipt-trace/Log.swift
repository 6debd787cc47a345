import ArgumentParser
import Logging
import Synchronization

/// Warnings and notes to stderr, which is not where results go.
enum Log {
    /// How much is said.
    static var level: Logger.Level {
        get { levels[chosen.load(ordering: .relaxed)] }
        set { chosen.store(levels.firstIndex(of: newValue) ?? info, ordering: .relaxed) }
    }

    /// Made once: the level is asked for with each datagram that is received.
    private static let levels = Logger.Level.allCases
    private static let info = 2
    /// An index into `levels`.
    private static let chosen = Atomic(info)

    static let logger = Logger(label: "ipt-trace")

    /// Has all modules log through this. Once, before anything is logged.
    static func begin() { LoggingSystem.bootstrap { _ in PlainLog() } }

    /// `warning: …`, without a time, for a person at a terminal and for journald, which has times of its own.
    private struct PlainLog: LogHandler {
        var metadata: Logger.Metadata = [:]
        /// One level for all loggers, which may be older than the choice of it.
        var logLevel: Logger.Level {
            get { Log.level }
            set {}
        }
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            Terminal.say(lines: event.level == .info ? "\(event.message)" : "\(event.level): \(event.message)")
        }
    }
}

/// How much is said on stderr.
struct LogOptions: ParsableArguments {
    enum Level: String, ExpressibleByArgument, CaseIterable {
        case warning, info, debug, trace

        var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
    }

    @Option(
        name: .customLong("log-level"),
        help: """
            What is said on stderr: warning; info; debug, with the programs that are run, the rules that are read, the packets \
            whose end is not known and the choices among several that might be one packet; trace, with each message of netlink \
            and each packet.
            """)
    var level: Level = .info

    @Flag(name: [.customShort("v"), .customLong("verbose")], help: "As --log-level debug.")
    var isVerbose = false

    @Flag(name: [.customShort("q"), .customLong("quiet")], help: "As --log-level warning.")
    var isQuiet = false

    func validate() throws {
        guard [level != .info, isVerbose, isQuiet].count(where: \.self) <= 1 else {
            throw ValidationError("give one of --log-level, --verbose and --quiet.")
        }
        // Here, since every command with these options comes by, before it does anything.
        Log.level = isVerbose ? .debug : isQuiet ? .warning : level.level
    }
}
