internal import Captures
internal import Engine
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
        /// Records are missing up to this time, in microseconds since 1970.
        case missing(until: Int64, mayHideLayout: Bool)
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
        /// Its time is not the one of the file (`straightenTimes`).
        var isDisplaced = false
        /// Where the window has the message, for who watches.
        var data: Range<Int32> = 0..<0
    }

    struct Failure: Sendable {
        var error: ParseError
        /// Offset of the packet in the (unpacked) file, in bytes.
        var place: UInt64
    }

    /// What records stand for beside their reports, in the order of the records.
    struct Asides: Sendable {
        var notices: [Notice] = []
        var failures: [Failure] = []
        /// Packets that `records` name as new.
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

    /// Replaces times that do not fit those of the records around them: a damaged time, or records that stand in the wrong place,
    /// would let time pass for everything that is under way, or put a file's records before those of all others.
    ///
    /// - Parameter tolerance: microseconds by which records may be out of order.
    mutating func straightenTimes(tolerance: Int64) {
        guard count > 0 else { return }
        var times = records[..<count].map(\.time)
        // Too late: no record behind reaches it. The last ones may be the wrong ones themselves.
        var latest = times.suffix(8).max() ?? 0
        for index in times.indices.reversed() {
            if times[index] > latest, times[index] - latest > tolerance { times[index] = latest }
            latest = max(latest, times[index])
        }
        // Too early.
        latest = times[0]
        for index in times.indices {
            if times[index] < latest, latest - times[index] > tolerance { times[index] = latest }
            latest = max(latest, times[index])
        }
        // A clock that was set back is none of these.
        guard times.indices.count(where: { times[$0] != records[$0].time }) * 2 < count else { return }
        for index in times.indices where times[index] != records[index].time {
            records[index].time = times[index]
            records[index].isDisplaced = true
        }
    }

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
