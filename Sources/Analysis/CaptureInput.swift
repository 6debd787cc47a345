internal import Captures
private import Foundation
internal import Intake
internal import TraceModel
internal import WireFormat

/// A capture file: pcap or pcapng.
final class CaptureInput: TraceInput {
    let stream: ByteStream
    private var window: InputWindow
    private var decoder: CaptureDecoder
    /// The namespace that the file is of, where its interfaces do not say.
    private let label: String
    /// By interface of the file.
    private var targets: [Target?] = []
    /// By name, of the recording's namespaces: their indices here.
    private var namespaces: [String: Int] = [:]
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
    /// What stands before it and is not taken yet: it holds from that packet on.
    private var notices: [Notice] = []

    private enum Notice {
        case trace(TraceBlock, place: UInt64)
        case loss(interface: Int, packets: UInt64)
    }

    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64? {
        if pending == nil { guard try find(&problems) || !notices.isEmpty else { return nil } }
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
                let buffer = window.buffer
                if let block = TraceBlock(unsafe buffer.span.bytes, body) {
                    notices.append(.trace(block, place: window.position(of: body.lowerBound)))
                }
                window.use(upTo: offset)
            case .loss(let interface, let packets):
                notices.append(.loss(interface: interface, packets: packets))
                window.use(upTo: offset)
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
                    guard try window.continueRotated() else { return false }
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
            if !notices.isEmpty {
                for notice in notices { take(notice, &state) }
                notices = []
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
        let target = target(packet.interface, &state)
        guard target.reader >= 0 else { return }
        let buffer = window.buffer
        let bytes = unsafe buffer.span.bytes
        if packet.data.count >= 4 {
            // struct nfgenmsg: res_id is the group.
            let group = bytes.big16(packet.data.lowerBound + 2)
            if group != target.group {
                targets[packet.interface]?.group = group
                state.learn(group: group, namespace: target.reader, named: target.name)
            }
        }
        do {
            if target.isSwapped {
                let turned = CaptureDecoder.swappedAttributes(bytes, packet.data)
                try state.read(unsafe turned.span.bytes, 0..<turned.count, reader: target.reader, named: target.name, time)
            } else {
                try state.read(bytes, packet.data, reader: target.reader, named: target.name, time)
            }
        } catch {
            let place = window.position(of: packet.data.lowerBound)
            state.problems.add("\(stream.name): the packet at byte \(place) is not understood: \(error)")
        }
    }

    /// Where the packets of an interface go; worked out with the first of them.
    private func target(_ index: Int, _ state: inout AnalysisState) -> Target {
        if index < targets.count, let known = targets[index] { return known }
        let target = makeTarget(index, &state)
        while targets.count <= index { targets.append(nil) }
        targets[index] = target
        return target
    }

    private func makeTarget(_ index: Int, _ state: inout AnalysisState) -> Target {
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
        return Target(
            reader: state.reader(named: name, index: namespaces[name]), name: name, isSwapped: interface.isSwapped)
    }

    private func take(_ notice: Notice, _ state: inout AnalysisState) {
        switch notice {
        case .trace(.layout(let json), let place):
            do {
                let layout = try RecordedLayout(json: json)
                places = state.adopt(layout)
                namespaces = Dictionary(
                    zip(layout.layout.namespaces, places).filter { $0.0.medium == .nflog }.map { ($0.0.name, $0.1) },
                    uniquingKeysWith: { $1 })
                // Interfaces that had no packet under an earlier layout may belong elsewhere now.
                for index in targets.indices {
                    guard let target = targets[index], let reader = namespaces[target.name] else { continue }
                    if reader != target.reader { targets[index] = nil }
                }
            } catch {
                state.problems.add("\(stream.name): the layout at byte \(place) is not understood: \(error)")
            }
        case .trace(.note(let note), _): state.take(note, places: places)
        case .loss(let interface, let packets):
            let target = target(interface, &state)
            if target.reader >= 0 { state.noteLoss(packets, reader: target.reader) }
        }
    }
}
