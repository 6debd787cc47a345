internal import Correlation
private import Glibc
internal import Intake
internal import Netlink
internal import WireFormat

/// Follows `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): one record per read, from now on.
struct KernelLogSource: ~Copyable {
    let descriptor: Int32
    var reader: LogReader
    /// How often the kernel overwrote records before they were read.
    private(set) var overruns: UInt64 = 0
    private var nextSequence: UInt64?
    private let wallClockAtBoot: Int64
    private let path: String

    /// - Parameter wallClockAtBoot: what to add to the records' times, which count from boot, for microseconds since 1970.
    init(reader: LogReader, wallClockAtBoot: Int64, path: String = "/dev/kmsg") throws {
        self.reader = reader
        self.wallClockAtBoot = wallClockAtBoot
        self.path = path
        descriptor = unsafe open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { throw CollectorFailure.cannotReadKernelLog(path: path, code: errno) }
        // What was logged before is not asked for.
        lseek(descriptor, 0, SEEK_END)
    }

    deinit { close(descriptor) }

    /// Takes what is there.
    mutating func drain(into buffer: inout [UInt8], _ correlator: inout Correlator) {
        // Bounded, so that a storm of lines cannot hold up the other sources.
        for _ in 0..<4096 {
            let count = unsafe read(descriptor, &buffer, 8192)
            if count < 0 {
                // EPIPE: records were overwritten; the next read has the oldest that is left. EINTR: again.
                if errno == EPIPE { overruns += 1 }
                guard errno == EPIPE || errno == EINTR else { return }
                continue
            }
            guard count > 0 else { return }
            take(unsafe buffer.span.bytes.extracting(0..<count), &correlator)
        }
    }

    private mutating func take(_ bytes: RawSpan, _ correlator: inout Correlator) {
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
        // One that cannot be parsed is counted by the reader.
        _ = try? reader.read(bytes, line.message, now: (line.bootTime ?? 0) + wallClockAtBoot, into: &correlator)
    }
}
