internal import Captures
internal import Intake
internal import TraceModel
internal import WireFormat

/// Records of a capture file, decoded: everything that can be known of them without knowing what came before from other files.
struct CaptureBatch: Sendable {
    enum Kind: UInt8, Sendable {
        /// A packet, with its report.
        case report
        /// A packet of an interface that says nothing of chains.
        case foreign
        /// A packet that could not be understood: the next of `failures`.
        case failure
        /// Something that holds from here on: the next of `notices`.
        case notice
    }

    enum Notice: Sendable {
        case trace(TraceBlock, place: UInt64)
        case loss(interface: Int, packets: UInt64)
        case problem(String)
    }

    struct Record: Sendable {
        /// Microseconds since 1970.
        var time: Int64
        var report: NFLogReport
        var interface: Int32
        /// Of NFLOG; as the message says.
        var group: UInt16
        var kind: Kind
        /// Where the window has the message, for who watches.
        var data: Range<Int32>
    }

    struct Failure: Sendable {
        var error: ParseError
        /// Of the packet in the (unpacked) file.
        var place: UInt64
    }

    var records: [Record] = []
    var notices: [Notice] = []
    var failures: [Failure] = []
    /// Those that records name as new, in order.
    var packets: [(interface: Int, packet: Packet)] = []
    /// Origins that reports of an interface name from here on, in the order of their numbers.
    var origins: [(interface: Int, origin: NFLogOrigin)] = []
    /// The interfaces of the file, as far as they are known at the end of the batch.
    var interfaces: [CaptureInterface] = []
    /// Bytes of the file, as it is on the disk, that have been read so far.
    var consumed: UInt64 = 0
    /// Nothing comes behind it.
    var isLast = false

    /// Records of one batch: enough to be worth handing over, and few enough to stay in the processor's cache.
    static let size = 2048

    mutating func removeAll() {
        records.removeAll(keepingCapacity: true)
        notices.removeAll(keepingCapacity: true)
        failures.removeAll(keepingCapacity: true)
        packets.removeAll(keepingCapacity: true)
        origins.removeAll(keepingCapacity: true)
    }
}
