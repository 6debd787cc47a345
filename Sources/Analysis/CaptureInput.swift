internal import Captures
private import Foundation
internal import Intake
internal import WireFormat

/// A capture file: pcap or pcapng.
final class CaptureInput: TraceInput {
    let stream: ByteStream
    private var window: InputWindow
    private var decoder: CaptureDecoder
    /// The namespace that the file is of, where its interfaces do not say.
    private let label: String
    /// By interface of the file.
    private var targets: [Target] = []
    /// By namespace of the recording.
    private var places: [Int] = []
    private(set) var isExhausted = false
    private var lastTime: Int64 = 0
    private var damage: Range<UInt64>?

    private struct Target {
        /// Index of the reader; -1 for an interface whose packets say nothing of chains.
        var reader: Int
        var name: String
        var isSwapped: Bool
        /// The group that was seen last.
        var group: UInt16?
    }

    init(_ stream: ByteStream, window: InputWindow, decoder: CaptureDecoder, label: String) {
        self.stream = stream
        self.window = window
        self.decoder = decoder
        self.label = label
    }

    func stopFollowing() { window.end() }

    /// The record that is next, not taken yet, with where it ends.
    private var pending: (packet: CapturedPacket, end: Int)?
    private var pendingBlock: (body: Range<Int>, end: Int)?

    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64? {
        if pending != nil || pendingBlock != nil { return pending?.packet.time ?? lastTime }
        guard try find(&problems) else { return nil }
        return pending?.packet.time ?? lastTime
    }

    /// Looks for the next record that counts.
    private func find(_ problems: inout Problems) throws(CaptureError) -> Bool {
        while !isExhausted {
            let (item, offset) = decode()
            switch item {
            case .packet(let packet):
                pending = (packet, offset)
                reportDamage(&problems)
                return true
            case .trace(let body):
                pendingBlock = (body, offset)
                return true
            case .other:
                window.use(upTo: offset)
            case .damage(let range):
                let place = window.position(of: range.lowerBound)..<window.position(of: range.upperBound)
                damage = (damage?.lowerBound ?? place.lowerBound)..<place.upperBound
                window.use(upTo: offset)
            case nil:
                if window.isLast {
                    if let problem = stream.problem {
                        problems.add("\(stream.name): \(problem); what was readable has been analysed")
                    }
                    reportDamage(&problems)
                    isExhausted = true
                    return false
                }
                if try !window.fill(), !window.isLast {
                    if stream.reopenIfRotated() {
                        window.startOver()
                        continue
                    }
                    return false
                }
            }
        }
        return false
    }

    private func decode() -> (CaptureItem?, end: Int) {
        let buffer = window.buffer
        var offset = window.range.lowerBound
        let item = decoder.next(
            in: unsafe buffer.span.bytes.extracting(0..<window.range.upperBound), at: &offset, isLast: window.isLast)
        return (item, offset)
    }

    private func reportDamage(_ problems: inout Problems) {
        guard let damage else { return }
        problems.add(
            "\(stream.name): \(damage.count) bytes from byte \(damage.lowerBound) on are not what the format says; skipped")
        self.damage = nil
    }

    func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError) {
        var left = count
        while left > 0, let time = try nextTime(&state.problems), time <= limit {
            if let block = pendingBlock {
                pendingBlock = nil
                take(block.body, &state)
                window.use(upTo: block.end)
                continue
            }
            guard let next = pending else { return }
            pending = nil
            left -= 1
            lastTime = time
            state.move(to: time)
            take(next.packet, time, &state)
            window.use(upTo: next.end)
        }
    }

    private func take(_ packet: CapturedPacket, _ time: Int64, _ state: inout AnalysisState) {
        while targets.count < decoder.interfaces.count { targets.append(target(targets.count, &state)) }
        let target = targets[packet.interface]
        guard target.reader >= 0 else {
            state.foreign += 1
            return
        }
        let buffer = window.buffer
        let bytes = unsafe buffer.span.bytes
        if packet.data.count >= 4 {
            // struct nfgenmsg: res_id is the group.
            let group = bytes.big16(packet.data.lowerBound + 2)
            if group != target.group {
                targets[packet.interface].group = group
                state.learn(group: group, namespace: target.reader, named: target.name)
            }
        }
        do {
            if target.isSwapped {
                let turned = CaptureDecoder.swappedAttributes(bytes, packet.data)
                try state.readers[target.reader]?.read(
                    captured: unsafe turned.span.bytes, 0..<turned.count, now: time, into: &state.engine.correlator)
            } else {
                try state.readers[target.reader]?.read(
                    captured: bytes, packet.data, now: time, into: &state.engine.correlator)
            }
        } catch {
            let place = window.position(of: packet.data.lowerBound)
            state.problems.add("\(stream.name): the packet at byte \(place) is not understood: \(error)")
        }
    }

    private func target(_ index: Int, _ state: inout AnalysisState) -> Target {
        let interface = decoder.interfaces[index]
        guard interface.linkType == CaptureInterface.nflog else {
            state.problems.add(
                "\(stream.name): interface \(interface.name ?? "\(index)") has link type \(interface.linkType); only NFLOG "
                    + "(239) says in which chain a packet was, so its packets are left out. Capture with: "
                    + "tcpdump -i nflog:5 -w FILE")
            return Target(reader: -1, name: "", isSwapped: false)
        }
        // tcpdump and dumpcap call it nflog:5.
        let named = interface.name.flatMap { $0.hasPrefix("nflog") || $0.isEmpty ? nil : $0 }
        let name = named ?? label
        return Target(reader: state.reader(named: name), name: name, isSwapped: interface.isSwapped)
    }

    private func take(_ body: Range<Int>, _ state: inout AnalysisState) {
        let buffer = window.buffer
        switch TraceBlock(unsafe buffer.span.bytes, body) {
        case .layout(let json):
            do {
                places = state.adopt(try RecordedLayout(json: json))
            } catch {
                let place = window.position(of: body.lowerBound)
                state.problems.add("\(stream.name): the layout at byte \(place) is not understood")
            }
        case .note(let note): state.take(note, places: places)
        case nil: break
        }
    }
}
