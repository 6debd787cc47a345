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
        var time: Int64 = 0
        var report = NFLogReport.none
        var interface: Int32 = 0
        /// Of NFLOG; as the message says.
        var group: UInt16 = 0
        var kind = Kind.notice
        /// Where the window has the message, for who watches.
        var data: Range<Int32> = 0..<0
    }

    struct Failure: Sendable {
        var error: ParseError
        /// Of the packet in the (unpacked) file.
        var place: UInt64
    }

    /// What records stand for beside their reports, in the order of the records.
    struct Asides: Sendable {
        var notices: [Notice] = []
        var failures: [Failure] = []
        /// Those that records name as new.
        var packets: [(interface: Int, packet: Packet)] = []
        /// Origins that reports name from here on, in the order of their numbers.
        var origins: [NFLogOrigin] = []
    }

    /// The first `count` of these are the batch's: they are written where they stay, over those of an earlier batch.
    private(set) var records: [Record] = []
    private(set) var count = 0
    var asides = Asides()
    /// The interfaces of the file, as far as they are known at the end of the batch.
    var interfaces: [CaptureInterface] = []
    /// Bytes of the file, as it is on the disk, that have been read so far.
    var consumed: UInt64 = 0
    /// Nothing comes behind it.
    var isLast = false

    /// Records of one batch: enough to be worth handing over, and few enough to stay in the processor's cache.
    static let size = 2048

    /// Adds a record.
    ///
    /// - Parameter write: gets an earlier batch's record, and sets all of it.
    @inline(__always)
    mutating func add(_ write: (inout Record, inout Asides) -> Void) {
        if count == records.count { records.append(Record()) }
        write(&records[count], &asides)
        count += 1
    }

    mutating func removeAll() {
        count = 0
        asides.notices.removeAll(keepingCapacity: true)
        asides.failures.removeAll(keepingCapacity: true)
        asides.packets.removeAll(keepingCapacity: true)
        asides.origins.removeAll(keepingCapacity: true)
    }
}
