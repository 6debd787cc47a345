internal import Captures
internal import Intake
internal import WireFormat

/// Turns a capture file into batches. Needs nothing but the file, so that it may run on another thread than what takes them.
struct CaptureDecodeStage: ~Copyable {
    private let stream: ByteStream
    private var window: InputWindow
    private var framing: CaptureDecoder
    private let parser: PacketParser
    // By interface of the file.
    private var decoders: [NFLogDecoder] = []
    private var kinds: [InterfaceKind] = []
    private var lastTime: Int64 = 0
    private var damage: Range<UInt64>?
    /// What holds from the next packet on.
    private var held: [CaptureBatch.Notice] = []
    private var isExhausted = false

    init(_ stream: ByteStream, window: InputWindow, framing: CaptureDecoder, parser: PacketParser) {
        self.stream = stream
        self.window = window
        self.framing = framing
        self.parser = parser
    }

    mutating func stopFollowing() { window.end() }

    /// Lends the bytes that the records of the last batch are from.
    func lend(_ body: (RawSpan) -> Void) {
        let buffer = window.buffer
        body(unsafe buffer.span.bytes)
    }

    /// Puts the next records into `batch`, which is empty.
    ///
    /// - Returns: `false` where there are none for now, of a file that may grow.
    mutating func fill(_ batch: inout CaptureBatch) throws(CaptureError) -> Bool {
        while batch.records.isEmpty, !isExhausted {
            decode(into: &batch)
            // What is in the batch may still be looked at where it is.
            guard batch.records.isEmpty else { break }
            if window.isLast {
                if let problem = stream.problem {
                    held.append(.problem("\(stream.name): \(problem); what was readable has been analysed"))
                }
                reportDamage()
                release(&batch)
                isExhausted = true
            } else if try !window.fill(), !window.isLast {
                guard try window.continueRotated() else {
                    release(&batch)
                    guard batch.records.isEmpty else { break }
                    return false
                }
            }
        }
        batch.interfaces = framing.interfaces
        batch.consumed = stream.consumed
        batch.isLast = isExhausted
        return true
    }

    private mutating func decode(into batch: inout CaptureBatch) {
        let limit = window.range.upperBound
        var offset = window.range.lowerBound
        let isLast = window.isLast
        let buffer = window.buffer
        let bytes = unsafe buffer.span.bytes.extracting(0..<limit)
        var used = offset
        while batch.records.count < CaptureBatch.size {
            guard let item = framing.next(in: bytes, at: &offset, isLast: isLast) else { break }
            used = offset
            switch item {
            case .packet(let packet):
                if damage != nil { reportDamage() }
                take(packet, bytes, &batch)
            case .trace(let body):
                if let block = TraceBlock(bytes, body) {
                    held.append(.trace(block, place: window.position(of: body.lowerBound)))
                }
            case .loss(let interface, let packets): held.append(.loss(interface: interface, packets: packets))
            case .other: break
            case .damage(let range):
                let place = window.position(of: range.lowerBound)..<window.position(of: range.upperBound)
                damage = (damage?.lowerBound ?? place.lowerBound)..<place.upperBound
            }
        }
        window.use(upTo: used)
    }

    @inline(__always)
    private mutating func take(_ packet: CapturedPacket, _ bytes: RawSpan, _ batch: inout CaptureBatch) {
        lastTime = packet.time ?? lastTime
        if !held.isEmpty { release(&batch) }
        let group = packet.data.count >= 4 ? bytes.big16(packet.data.lowerBound + 2) : 0
        var record = CaptureBatch.Record(
            time: lastTime, report: .none, interface: Int32(truncatingIfNeeded: packet.interface), group: group,
            kind: .report,
            data: Int32(truncatingIfNeeded: packet.data.lowerBound)..<Int32(truncatingIfNeeded: packet.data.upperBound))
        while decoders.count <= packet.interface { addInterface() }
        if kinds[packet.interface] == .foreign {
            record.kind = .foreign
        } else {
            do {
                record.report = try decode(packet, bytes, &batch)
            } catch {
                record.kind = .failure
                batch.failures.append(.init(error: error, place: window.position(of: packet.data.lowerBound)))
            }
        }
        batch.records.append(record)
    }

    @inline(__always)
    private mutating func decode(
        _ packet: CapturedPacket, _ bytes: RawSpan, _ batch: inout CaptureBatch
    ) throws(ParseError) -> NFLogReport {
        let index = packet.interface
        let place = window.position(of: packet.data.lowerBound)
        guard kinds[index] == .swapped else {
            return try decoders[index].decode(bytes, packet.data, interface: index, place, &batch)
        }
        let turned = CaptureDecoder.swappedAttributes(bytes, packet.data)
        return try decoders[index].decode(unsafe turned.span.bytes, 0..<turned.count, interface: index, place, &batch)
    }

    private enum InterfaceKind {
        case nflog
        /// In the other byte order.
        case swapped
        /// Its packets say nothing of chains.
        case foreign
    }

    private mutating func addInterface() {
        let interface = framing.interfaces[decoders.count]
        decoders.append(NFLogDecoder(parser: parser))
        kinds.append(
            interface.linkType != CaptureInterface.nflog ? .foreign : interface.isSwapped ? .swapped : .nflog)
    }

    /// A packet comes, or nothing for now.
    private mutating func release(_ batch: inout CaptureBatch) {
        for notice in held {
            batch.notices.append(notice)
            batch.records.append(
                CaptureBatch.Record(time: lastTime, report: .none, interface: 0, group: 0, kind: .notice, data: 0..<0))
        }
        held.removeAll()
    }

    private mutating func reportDamage() {
        guard let damage else { return }
        held.append(
            .problem(
                "\(stream.name): \(damage.count) bytes from byte \(damage.lowerBound) on are not what the format says; skipped")
        )
        self.damage = nil
    }
}

extension NFLogDecoder {
    /// Decodes a message, and puts what the report names for the first time into `batch`.
    @inline(__always)
    fileprivate mutating func decode(
        _ bytes: RawSpan, _ body: Range<Int>, interface: Int, _ place: UInt64, _ batch: inout CaptureBatch
    ) throws(ParseError) -> NFLogReport {
        let report = try decode(bytes, body: body)
        if report.isNewOrigin { batch.origins.append((interface, origin(Int(report.origin)))) }
        if report.isNewPacket { batch.packets.append((interface, packet(report.packet))) }
        if !report.hasPacket, let problem { batch.failures.append(.init(error: problem, place: place)) }
        return report
    }
}
