internal import Captures
internal import Engine
internal import WireFormat

/// Turns a capture file into batches. Needs nothing but the file, so that it may run on another thread than what takes them.
struct CaptureDecodeStage: ~Copyable {
    private let stream: ByteStream
    private var window: InputWindow
    private var framing: CaptureDecoder
    private let parser: PacketParser
    // By interface of the file.
    private var decoders: [NFLogDecoder] = []
    private var vocabulary = TemplateRegistry()
    private var kinds: [InterfaceKind] = []
    private var lastTime: Int64 = 0
    /// The one that is being taken.
    private var packet = CapturedPacket(interface: 0, time: nil, data: 0..<0)
    private var damage: Range<UInt64>?
    /// Whether the damaged bytes may have been a layout's.
    private var mayHideLayout = false
    /// Whether time has gone back by more than `tolerance` in the batch.
    private var isOutOfOrder = false
    /// Microseconds by which records of one file may be out of order: the kernel gathers messages for a second.
    private static let tolerance: Int64 = 2_000_000
    /// What holds from the next packet on.
    private var held: [CaptureBatch.Notice] = []
    /// The gap in front of the next record; its packets came after the last one that was read.
    private var missing: CaptureBatch.Notice?
    /// Whether ipt-trace has recorded the file.
    private var isRecording = false
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
        body(buffer.octets)
    }

    /// Puts the next records into `batch`, which is empty.
    ///
    /// - Returns: `false` where there are none for now, of a file that may grow.
    mutating func fill(_ batch: inout CaptureBatch) throws(CaptureError) -> Bool {
        while batch.count == 0, !isExhausted {
            decode(into: &batch)
            // The batch's bytes may still be read in place.
            guard batch.count == 0 else { break }
            if window.isLast {
                if let problem = stream.problem {
                    held.append(.problem("\(stream.name): \(problem); what was readable has been analysed"))
                }
                if damage != nil || stream.problem != nil { reportMissing(until: .max) }
                reportDamage()
                release(&batch)
                isExhausted = true
            } else if try !window.fill(), !window.isLast {
                guard try window.continueRotated() else {
                    release(&batch)
                    guard batch.count == 0 else { break }
                    return false
                }
            }
        }
        if isOutOfOrder {
            batch.straightenTimes(tolerance: Self.tolerance)
            isOutOfOrder = false
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
        let bytes = buffer.octets.extracting(0..<limit)
        var used = offset
        while batch.count < CaptureBatch.size {
            if framing.nextPacket(in: bytes, at: &offset, into: &packet) {
                used = offset
                takePacket(bytes, &batch)
                continue
            }
            guard let item = framing.next(in: bytes, at: &offset, isLast: isLast) else { break }
            used = offset
            switch item {
            case .packet(let next):
                packet = next
                takePacket(bytes, &batch)
            case .trace(let body):
                if let block = TraceBlock(bytes, body) {
                    isRecording = true
                    if case .note(let note) = block, let time = note.time { lastTime = max(lastTime, time) }
                    held.append(.trace(block, place: window.position(of: body.lowerBound)))
                } else if isRecording {
                    addDamage(bytes, body.lowerBound - 8..<body.upperBound + 4)
                }
            case .loss(let interface, let packets): held.append(.loss(interface: interface, packets: packets))
            case .other: break
            case .damage(let range): addDamage(bytes, range)
            }
        }
        window.use(upTo: used)
    }

    private mutating func addDamage(_ bytes: RawSpan, _ range: Range<Int>) {
        let place = window.position(of: range.lowerBound)..<window.position(of: range.upperBound)
        damage = (damage?.lowerBound ?? place.lowerBound)..<place.upperBound
        mayHideLayout = mayHideLayout || TraceBlock.mayHideLayout(bytes, range)
    }

    /// Records are missing between the last packet and one that is at `time`.
    private mutating func reportMissing(until time: Int64) {
        missing = .missing(until: time, mayHideLayout: mayHideLayout)
        mayHideLayout = false
    }

    @inline(__always)
    private mutating func takePacket(_ bytes: RawSpan, _ batch: inout CaptureBatch) {
        let time = packet.time ?? lastTime
        if time < lastTime, lastTime - time > Self.tolerance { isOutOfOrder = true }
        if damage != nil {
            reportMissing(until: time)
            reportDamage()
        }
        if !held.isEmpty { release(&batch, next: time) }
        lastTime = time
        while decoders.count <= packet.interface { addInterface() }
        batch.add { record, asides in
            record.time = lastTime
            record.isDisplaced = false
            record.interface = Int32(truncatingIfNeeded: packet.interface)
            record.group = packet.data.count >= 4 ? bytes.big16(packet.data.lowerBound + 2) : 0
            record.data = Int32(truncatingIfNeeded: packet.data.lowerBound)..<Int32(truncatingIfNeeded: packet.data.upperBound)
            switch kinds[packet.interface] {
            case .nflog: decode(bytes, packet.data, &record, &asides)
            case .swapped:
                let turned = CaptureDecoder.swappedAttributes(bytes, packet.data)
                decode(turned.octets, 0..<turned.count, &record, &asides)
            case .foreign:
                record.kind = .foreign
                record.report = .none
            }
        }
    }

    /// Decodes a message, and adds prefixes and interfaces that are named for the first time.
    @inline(__always)
    private mutating func decode(
        _ bytes: RawSpan, _ body: Range<Int>, _ record: inout CaptureBatch.Record, _ asides: inout CaptureBatch.Asides
    ) {
        let interface = packet.interface
        let place = window.position(of: packet.data.lowerBound)
        do {
            let news = try decoders[interface].decode(bytes, body: body, with: &vocabulary, into: &record.report)
            record.kind = .report
            if news.contains(.origin) { asides.origins.append(vocabulary.origin(Int(record.report.origin))) }
            if !news.isEmpty { Self.keep(news, of: &decoders[interface], record.report, interface, place, &asides) }
        } catch {
            record.kind = .failure
            asides.failures.append(.init(error: error, place: place))
        }
    }

    /// - Parameter decoder: lent for writing, since an array's element that is lent for reading is copied.
    @inline(never)
    private static func keep(
        _ news: MessageChanges, of decoder: inout NFLogDecoder, _ report: NFLogReport, _ interface: Int, _ place: UInt64,
        _ asides: inout CaptureBatch.Asides
    ) {
        if news.contains(.packet) { asides.packets.append((interface, decoder.packet(report.packet))) }
        if news.contains(.problem), let problem = decoder.problem {
            asides.failures.append(.init(error: problem, place: place))
        }
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
    ///
    /// - Parameter time: of the packet.
    private mutating func release(_ batch: inout CaptureBatch, next time: Int64? = nil) {
        let time = time ?? lastTime
        // In front of all that lets time pass.
        if let missing { Self.add(missing, at: lastTime == 0 ? time : min(lastTime, time), to: &batch) }
        missing = nil
        for notice in held {
            var notice = notice
            // Everything before the packet had been received, at most.
            if case .trace(.note(.complete(let complete)), let place) = notice, complete > time {
                notice = .trace(.note(.complete(time)), place: place)
            }
            Self.add(notice, at: time, to: &batch)
        }
        held.removeAll()
    }

    private static func add(_ notice: CaptureBatch.Notice, at time: Int64, to batch: inout CaptureBatch) {
        batch.add { record, asides in
            record = CaptureBatch.Record(time: time)
            asides.notices.append(notice)
        }
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
