internal import Engine
internal import Logging

/// A source of events of the whole machine, which the event loop drives beside the sockets of the namespaces. A new one is a type of
/// its own and a line in `LiveSources.all`.
protocol LiveSource: AnyObject {
    /// Readable when there is something to drain.
    var descriptor: Int32 { get }

    /// Takes a bounded part of what waits.
    ///
    /// - Parameter now: microseconds since 1970.
    func drain(into buffer: inout [UInt8], now: Int64, _ engine: inout TraceEngine)

    /// The registry has a new layout: a prefix may stand for another probe now.
    func layoutChanged()

    var counts: LiveSourceCounts { get }

    /// Nothing is received any more: what the source has set up goes now, since the process may end at any time.
    func end()
}

/// Counts of a source's input.
struct LiveSourceCounts {
    var intake = IntakeCounters()
    /// How often the kernel overwrote or dropped what had not been received.
    var overflows: UInt64 = 0
    /// Events with a prefix that no rule has, by prefix.
    var unresolved: [String: UInt64] = [:]
}

enum LiveSources {
    /// Each gives its source where the options ask for it, and throws where that cannot be opened although it has to be.
    private static let all: [@Sendable (Collector.Options, LayoutRegistry, Logger) throws -> (any LiveSource)?] = [
        { options, registry, _ in try KernelLogSource.open(options, registry) },
        { options, _, logger in DropReasonSource.open(options, logger) },
    ]

    /// Opens those that are asked for.
    static func open(_ options: Collector.Options, _ registry: LayoutRegistry, _ logger: Logger) throws -> Handover {
        Handover(sources: try all.compactMap { try $0(options, registry, logger) })
    }

    /// On their way to the event loop, which alone uses them from then on.
    struct Handover: @unchecked Sendable {
        let sources: [any LiveSource]
    }
}
