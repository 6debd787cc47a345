internal import Correlation
internal import Engine
private import Glibc
internal import LinuxSupport
internal import WireFormat

/// Follows `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): one record per read, from now on.
final class KernelLogSource: LiveSource {
    let descriptor: Int32
    private var reader: LogReader
    /// How often the kernel overwrote records before they were read.
    private var overruns: UInt64 = 0
    private var nextSequence: UInt64?
    /// What to add to the records' times for microseconds since 1970. Their clock is one of its own, which may stand still
    /// while the machine is suspended, so it is set by when they are read.
    private var clockOffset: Int64?
    private let path: String

    init(reader: LogReader, path: String = "/dev/kmsg") throws {
        self.reader = reader
        self.path = path
        descriptor = FileCalls.open(path, O_RDONLY | O_NONBLOCK)
        guard descriptor >= 0 else { throw CollectorFailure.cannotReadKernelLog(path: path, code: errno) }
        skipWhatIsThere()
    }

    deinit { close(descriptor) }

    /// The source, where it is asked for.
    static func open(_ options: Collector.Options, _ registry: LayoutRegistry) throws -> (any LiveSource)? {
        guard options.followsKernelLog else { return nil }
        return try KernelLogSource(reader: LogReader(seed: UInt64.random(in: 0...UInt64.max), registry: registry))
    }

    func layoutChanged() { reader.layoutChanged() }

    func end() {}

    var counts: LiveSourceCounts {
        LiveSourceCounts(intake: reader.counters, overflows: overruns, unresolved: reader.unresolved.events)
    }

    /// Records that were logged before are not asked for; its last number tells how much is missing, should the first records that are
    /// asked for be overwritten before they are read.
    private func skipWhatIsThere() {
        var buffer = [UInt8](repeating: 0, count: 8192)
        // Bounded, should lines come faster than they are skipped.
        for _ in 0..<1 << 17 {
            let count = FileCalls.read(descriptor, into: &buffer)
            if count < 0, errno == EPIPE || errno == EINTR { continue }
            guard count > 0 else { return }
            let line = LogLine(
                parsing: buffer.octets, 0..<count, context: LogLine.Context(reference: 0, zone: 0))
            nextSequence = line.sequence.map { $0 + 1 }
        }
        lseek(descriptor, 0, SEEK_END)
    }

    /// Takes the waiting records.
    ///
    /// - Parameter now: microseconds since 1970.
    func drain(into buffer: inout [UInt8], now: Int64, _ engine: inout TraceEngine) {
        // Bounded, so that a storm of lines cannot hold up the other sources.
        for _ in 0..<4096 {
            let count = FileCalls.read(descriptor, into: &buffer)
            if count < 0 {
                // EPIPE: records were overwritten; the next read has the oldest that is left. EINTR: again.
                if errno == EPIPE { overruns += 1 }
                guard errno == EPIPE || errno == EINTR else { return }
                continue
            }
            guard count > 0 else { return }
            take(buffer.octets.extracting(0..<count), now, &engine.correlator)
        }
    }

    private func take(_ bytes: RawSpan, _ now: Int64, _ correlator: inout Correlator) {
        // Lines behind the first are the record's dictionary.
        let end = (0..<bytes.byteCount).first { bytes.byte($0) == UInt8(ascii: "\n") } ?? bytes.byteCount
        let line = LogLine(parsing: bytes, 0..<end, context: LogLine.Context(reference: 0, zone: 0))
        if let sequence = line.sequence {
            if let nextSequence, sequence > nextSequence {
                // Which namespaces the missing lines were from nobody knows.
                reader.noteLoss(sequence - nextSequence)
                for namespace in reader.namespaces { correlator.noteLoss(namespace: namespace) }
            }
            nextSequence = sequence + 1
        }
        let time = line.bootTime ?? 0
        if clockOffset.map({ abs(now - time - $0) > 1_000_000 }) ?? true { clockOffset = now - time }
        // One that cannot be parsed is counted by the reader.
        _ = try? reader.read(bytes, line.message, now: time + (clockOffset ?? 0), into: &correlator)
    }
}
