internal import TraceModel

/// A packet of a capture file: where its bytes are, and when it was captured.
public struct CapturedPacket: Equatable, Sendable {
    /// Index into `CaptureDecoder.interfaces`.
    public var interface: Int
    /// Microseconds since 1970; `nil` where the file gives no time (pcapng's simple packet block).
    public var time: Int64?
    public var data: Range<Int>

    public init(interface: Int, time: Int64?, data: Range<Int>) {
        self.interface = interface
        self.time = time
        self.data = data
    }
}

/// An interface of a capture file: pcap has one, pcapng any number, in each section anew.
public struct CaptureInterface: Equatable, Sendable {
    /// `LINKTYPE_NFLOG` (tcpdump.org/linktypes.html): what `tcpdump -i nflog:5` writes.
    public static let nflog: UInt16 = 239

    public var linkType: UInt16
    /// pcapng's `if_name`.
    public var name: String?
    /// Whether the numbers in the file have the other byte order than this machine.
    public var isSwapped: Bool
    var clock = CaptureClock()
    /// Whether its description has been read.
    var isDefined = true

    /// Holds the place of one whose description is missing.
    static let undefined = CaptureInterface(linkType: 0, name: nil, isSwapped: false, isDefined: false)
}

/// How a file's time stamps count.
struct CaptureClock: Equatable, Sendable {
    /// Ticks per second: 10^n or 2^n.
    var ticksPerSecond: UInt64 = 1_000_000
    /// Seconds to add (`if_tsoffset`).
    var offset: Int64 = 0

    func microseconds(_ ticks: UInt64) -> Int64 {
        if ticksPerSecond == 1_000_000, offset == 0, ticks < 1 << 62 { return TimeBounds.clamp(Int64(ticks)) }
        let whole = Int64(truncatingIfNeeded: ticks / ticksPerSecond)
        let rest = ticks % ticksPerSecond
        let (product, isOverflow) = rest.multipliedReportingOverflow(by: 1_000_000)
        let fraction = isOverflow ? rest / (ticksPerSecond / 1_000_000) : product / ticksPerSecond
        let seconds = min(max(whole &+ offset, 0), TimeBounds.microseconds.upperBound / 1_000_000)
        return TimeBounds.clamp(seconds * 1_000_000 + Int64(truncatingIfNeeded: fraction))
    }
}

/// What stands next in a capture file.
public enum CaptureItem: Equatable, Sendable {
    case packet(CapturedPacket)
    /// A block of ipt-trace's own (`CaptureFormat.traceBlock`): its body.
    case trace(Range<Int>)
    /// Something that holds no packet.
    case other
    /// The program that captured says that it lost packets on an interface since it said so last.
    case loss(interface: Int, packets: UInt64)
    /// Bytes that could not be understood, up to the next place where a record begins, or to the end.
    case damage(Range<Int>)
}

/// Splits a capture file into its records, whatever has happened to it: where a record makes no sense the next one that
/// does is looked for, and what lies between is named.
///
/// Formats: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), both byte orders. No I/O: it is shown a
/// window of the file, and asks for more.
public struct CaptureDecoder: Sendable {
    private enum Format {
        case pcap(PcapFraming)
        case pcapng(PcapngFraming)
    }

    private var format: Format
    /// Whether the file does not begin as its format says.
    public private(set) var isBeginningDamaged = false
    /// The interfaces met so far; later sections add theirs.
    public private(set) var interfaces: [CaptureInterface] = []

    /// - Returns: `nil` where the bytes, at least 24 of them or the whole file, are the beginning of neither format, not even of
    ///   one whose first bytes are damaged.
    public init?(beginning bytes: RawSpan) {
        // Any large file has something like a record somewhere; damage at the beginning of a capture is short.
        let searched = bytes.extracting(0..<min(bytes.byteCount, CaptureFormat.longestDamagedBeginning))
        if let framing = PcapFraming(bytes) {
            format = .pcap(framing)
            interfaces = [framing.interface]
        } else if bytes.byteCount >= 12, bytes.native32(0) == CaptureFormat.sectionHeader {
            format = .pcapng(PcapngFraming())
        } else if let framing = PcapngFraming(damagedBeginning: searched) {
            format = .pcapng(framing)
            isBeginningDamaged = true
        } else if let framing = PcapFraming(damagedBeginning: searched) {
            format = .pcap(framing)
            interfaces = [framing.interface]
            isBeginningDamaged = true
        } else {
            return nil
        }
    }

    /// Whether all packets of the file are of one interface.
    public var isOfOneInterface: Bool {
        if case .pcap = format { true } else { false }
    }

    /// The item at `offset`, which moves behind it.
    ///
    /// - Parameters:
    ///   - bytes: a window of the file; the first one begins where the file does.
    ///   - isLast: whether the window reaches to the end of the file.
    /// - Returns: `nil` where more bytes are needed, or, with `isLast`, at the end.
    public mutating func next(in bytes: RawSpan, at offset: inout Int, isLast: Bool) -> CaptureItem? {
        switch format {
        case .pcap(var framing):
            let item = framing.next(in: bytes, at: &offset, isLast: isLast)
            format = .pcap(framing)
            return item
        case .pcapng(var framing):
            let item = framing.next(in: bytes, at: &offset, isLast: isLast, interfaces: &interfaces)
            format = .pcapng(framing)
            return item
        }
    }

    /// Puts the packet at `offset` into `packet`, and moves `offset` behind it, where it has the form that nearly all packets of a
    /// recording have.
    ///
    /// - Returns: `false` for anything else, which is for `next`.
    @inline(__always)
    public func nextPacket(in bytes: RawSpan, at offset: inout Int, into packet: inout CapturedPacket) -> Bool {
        guard case .pcapng(let framing) = format else { return false }
        return framing.nextPacket(in: bytes, at: &offset, into: &packet, interfaces: interfaces)
    }

    /// A packet's bytes as a machine of this byte order would have captured them: in a file of the other order the lengths
    /// and types of NFLOG's attributes are turned round, as libpcap does (`swap_nflog_data`).
    public static func swappedAttributes(_ bytes: RawSpan, _ range: Range<Int>) -> [UInt8] {
        var copy = range.map { bytes.byte($0) }
        var offset = 4
        while copy.count - offset >= 4 {
            copy.swapAt(offset, offset + 1)
            copy.swapAt(offset + 2, offset + 3)
            let length = Int(copy.octets.native16(offset))
            guard length >= 4 else { break }
            offset += (length + 3) & ~3
        }
        return copy
    }
}

/// Numbers of the formats.
public enum CaptureFormat {
    public static let sectionHeader: UInt32 = 0x0A0D_0D0A
    public static let interfaceDescription: UInt32 = 1
    public static let obsoletePacket: UInt32 = 2
    public static let simplePacket: UInt32 = 3
    public static let nameResolution: UInt32 = 4
    public static let interfaceStatistics: UInt32 = 5
    public static let enhancedPacket: UInt32 = 6
    /// From the range that the format leaves to local use (most significant bit set): a recording's blocks that are no packets.
    public static let traceBlock: UInt32 = 0x8069_7074
    public static let byteOrderMagic: UInt32 = 0x1A2B_3C4D
    /// Larger blocks are taken for damage, as Wireshark does.
    static let longestBlock = 16 << 20
    /// Longest block of a packet or an interface that is looked for among damaged bytes.
    static let longestPacketBlock = 1 << 19
    /// `shb_userappl` of recordings.
    public static let application = "ipt-trace"
    /// Larger packets are taken for damage: tcpdump's largest snapshot length.
    static let longestPacket: UInt32 = 262_144
    /// Interfaces of one file at most.
    static let mostInterfaces = 1 << 14
    /// Bytes that a search for the next record leaves to be searched again with more of the file behind them.
    static let searchOverlap = 1 << 16
    /// Bytes at the beginning of a file in which the first sound block or record is looked for.
    static let longestDamagedBeginning = 1 << 16
}
