private import CLinux
internal import Engine
private import Foundation
private import Glibc
internal import LinuxSupport
internal import Logging
private import Synchronization
internal import WireFormat

/// Why the kernel drops packets: its tracepoints, read through an instance of tracefs.
final class DropReasonSource: LiveSource {
    private let instance: TraceInstance
    /// Absent until the names of the kernel's functions have been read, which takes a moment.
    private var reader: KernelDropReader?
    private let loading = Loading()
    private let decoder: KernelTraceDecoder
    private var malformed: UInt64 = 0

    /// The names, once they have been read.
    private final class Loading: Sendable {
        let symbols = Mutex<KernelSymbols?>(nil)
    }

    /// Negative, and so passed over, as long as nothing could be done with what there is.
    var descriptor: Int32 {
        if reader == nil, !instance.isClosed, let symbols = loading.symbols.withLock({ $0 }) {
            reader = KernelDropReader(symbols: symbols, reasons: decoder.reasons)
        }
        return reader == nil ? -1 : instance.descriptor
    }

    /// The source, where it is asked for and can be had; why it cannot is logged, since counters and rules tell a part of the same.
    static func open(_ options: Collector.Options, _ logger: Logger) -> (any LiveSource)? {
        guard options.followsDropReasons else { return nil }
        do {
            return try DropReasonSource()
        } catch {
            // An ipt-trace that began at the same time may have taken the instance away before it was open.
            if let second = try? DropReasonSource() { return second }
            logger.info("the kernel is not asked why it drops packets, so that its counters alone tell: \(error)")
            return nil
        }
    }

    /// - Throws: `TraceInstance.Failure`, or an error of Foundation's.
    private init() throws {
        instance = try TraceInstance()
        // A second of 20,000 drops on one processor; 16 MiB in all.
        try instance.write("\(max(64, min(1024, 16_384 / max(1, instance.processors))))", to: "buffer_size_kb")
        // A reader is woken by the first event, and not by a buffer half full. Kernels before 5.0 have no such file.
        try? instance.write("0", to: "buffer_percent")
        // The clock of NFLOG's stamps, but for leap seconds.
        try instance.write("tai", to: "trace_clock")
        var decoder = KernelTraceDecoder()
        for (name, isNeeded, filter) in Self.events {
            do {
                let text = try instance.read("events/\(name)/format")
                guard let format = KernelTraceFormat(text), decoder.learn(name, format) else {
                    throw TraceInstance.Failure(
                        description: "the kernel describes its event \(name) in another way than is known")
                }
                if let filter = filter(format) { try instance.write(filter, to: "events/\(name)/filter") }
                try instance.write("1", to: "events/\(name)/enable")
            } catch {
                // Without the others, which older kernels lack, fewer drops are told apart.
                if isNeeded { throw error }
            }
        }
        try instance.watch()
        self.decoder = decoder
        Thread.detachNewThread { [loading] in
            // Without names drops have their reasons.
            let read = (try? KernelSymbols()) ?? KernelSymbols([])
            loading.symbols.withLock { $0 = read }
        }
    }

    /// The events, whether they have to be there, and which of them are wanted.
    ///
    /// A packet for another namespace finds nothing in the table of local addresses (255), which says nothing; the answer to a datagram,
    /// looked up with ports and an interface, does.
    private static let events: [(name: String, isNeeded: Bool, filter: @Sendable (KernelTraceFormat) -> String?)] = [
        ("skb/kfree_skb", true, { dropFilter($0) }),
        ("fib/fib_table_lookup", false, { _ in "err != 0 && tb_id != 255" }),
        ("fib6/fib6_table_lookup", false, { _ in "err != 0 && (tb_id != 255 || (oif != 0 && sport != 0 && dport != 0))" }),
        ("icmp/icmp_send", false, { _ in nil }), ("tcp/tcp_send_reset", false, { _ in nil }),
        ("tcp/tcp_bad_csum", false, { _ in nil }),
    ]

    /// IP packets alone, and none that a socket had received and did not read before it was closed.
    private static func dropFilter(_ format: KernelTraceFormat) -> String {
        let purge = format.names.first { $0.value == "QUEUE_PURGE" }?.key
        return "(protocol == 0x800 || protocol == 0x86dd)" + (purge.map { " && reason != \($0)" } ?? "")
    }

    func layoutChanged() {}

    func end() {
        reader = nil
        instance.close()
    }

    var counts: LiveSourceCounts {
        var counts = LiveSourceCounts()
        counts.intake.malformed = malformed
        return counts
    }

    func drain(into buffer: inout [UInt8], now: Int64, _ engine: inout TraceEngine) {
        guard reader != nil else { return }
        // Whole seconds: reading one clock after the other tells the rest wrongly.
        let offset = Int64((Double(Clock.wall - Clock.atomic) / 1_000_000).rounded()) * 1_000_000
        for processor in instance.readyProcessors {
            // Bounded, so that a storm of drops cannot hold up the other sources: 3,000 in a turn.
            for _ in 0..<32 {
                let count = instance.read(processor, into: &buffer)
                guard count > 0 else { break }
                take(buffer.octets.extracting(0..<count), processor, offset: offset, now: now, &engine)
            }
        }
    }

    private func take(_ page: RawSpan, _ processor: Int, offset: Int64, now: Int64, _ engine: inout TraceEngine) {
        do {
            let lost = try decoder.decode(page) { event in
                if let drop = reader?.take(event, processor: processor, offset: offset) { engine.sink.dropReasons.take(drop) }
            }
            guard lost != 0 else { return }
            reader?.noteLoss(processor: processor)
            engine.sink.dropReasons.noteLoss(lost ?? 1, now: now)
        } catch {
            malformed += 1
            engine.sink.dropReasons.noteLoss(0, now: now)
        }
    }
}
