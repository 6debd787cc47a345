internal import Captures
internal import Engine
private import Foundation
internal import TraceModel
internal import WireFormat

/// Takes what `CaptureDecodeStage` has decoded of a file, batch by batch, and finds out what namespaces it is of.
struct CaptureTaker: ~Copyable {
    private let source: CaptureSource
    /// The file's name, for people.
    private let name: String
    /// The namespace that the file is of, where its interfaces do not say.
    private let label: String
    /// Origins that the file's reports name.
    private var origins: [NFLogOrigin] = []
    // By interface of the file: where its packets go, `nil` where that has to be worked out with the next one; what became of its
    // packets; and, `recentCount` of each, the packets that its reports name.
    private var targets: [Target?] = []
    private var caches: [ResolverCache] = []
    private var recent: [Packet] = []
    /// By name, of the recording's namespaces: their indices here.
    private var namespaces: [String: Int] = [:]
    /// By namespace of the recording.
    private var places: [Int?] = []
    private var section: RecordedSection

    private var batch = CaptureBatch()
    // Next record of the batch.
    private var nextRecord = 0
    private var nextNotice = 0
    private var nextFailure = 0
    private var nextPacket = 0
    /// Whether records were missing in front of the next one.
    private var isAfterDamage = false
    private let isOfOneNamespace: Bool

    private struct Target {
        /// Index of the namespace, or one of the numbers below 0.
        var reader: Int
        /// The interface's packets say nothing of chains.
        static let foreign = -1
        /// There is no room for the namespace.
        static let unfollowed = -2
        var name: String
        /// The group that was seen last.
        var group: UInt16?
    }

    /// - Parameters:
    ///   - isOfOneNamespace: whether all of the file's packets are of the namespace that is called `label`.
    ///   - isFollowed: whether the file may still be written, so that it need not have an end.
    init(_ source: CaptureSource, name: String, label: String, isOfOneNamespace: Bool, isFollowed: Bool) {
        self.isOfOneNamespace = isOfOneNamespace
        section = RecordedSection(name: name, isFollowed: isFollowed)
        self.source = source
        self.name = name
        self.label = label
    }

    var consumed: UInt64 { batch.consumed }

    var isExhausted: Bool { batch.isLast && nextRecord == batch.count }

    mutating func nextTime() throws(CaptureError) -> Int64? {
        while nextRecord == batch.count {
            guard !batch.isLast else { return nil }
            (nextRecord, nextNotice, nextFailure, nextPacket) = (0, 0, 0, 0)
            guard try source.next(&batch) else { return nil }
            origins += batch.asides.origins
        }
        return batch.records[nextRecord].time
    }

    mutating func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError) {
        var left = count
        while left > 0 {
            if nextRecord == batch.count, try nextTime() == nil { return }
            let time = batch.records[nextRecord].time
            guard time <= limit else { return }
            let kind = batch.records[nextRecord].kind
            if kind == .notice {
                nextRecord += 1
                nextNotice += 1
                take(batch.asides.notices[nextNotice - 1], &state)
                continue
            }
            left -= 1
            if time - state.latest > 100_000 || batch.records[nextRecord].isDisplaced || isAfterDamage {
                doubt(kind, time, &state)
            } else {
                state.move(to: time)
            }
            take(kind, time, &state)
            nextRecord += 1
        }
    }

    /// Advances the time past a gap in the records; journeys under way are put in doubt before they can end.
    @inline(never)
    private mutating func doubt(_ kind: CaptureBatch.Kind, _ time: Int64, _ state: inout AnalysisState) {
        let record = batch.records[nextRecord]
        let interface = Int(record.interface)
        var isDoubtful = isAfterDamage || record.isDisplaced
        if kind == .report, interface < targets.count, let reader = targets[interface]?.reader, reader >= 0 {
            isDoubtful = isDoubtful || !state.follows(record.report, reader: reader)
        }
        if isDoubtful { noteMissing(until: time, &state) }
        state.move(to: time)
        // Journeys that other files began during the gap may have events in it, too.
        if isDoubtful { noteMissing(until: time, &state) }
        isAfterDamage = false
    }

    /// Records of the file are missing: all namespaces that it may be of have lost events.
    private mutating func noteMissing(until time: Int64, _ state: inout AnalysisState) {
        let end = min(time, Int64.max / 4)
        // A pcapng file names a namespace by an interface, whose description may be in the gap.
        guard isOfOneNamespace else { return state.noteMissing(until: end) }
        makeRoom(for: 0)
        if targets[0] == nil { targets[0] = target(0, &state) }
        if let reader = targets[0]?.reader, reader >= 0 { state.noteMissing(in: reader, until: end) }
    }

    /// Ends the section at the last record that was taken.
    mutating func close(into state: inout AnalysisState) { section.close(places: places, &state) }

    private static let recentCount = NFLogDecoder.recentCount
    /// Packets between asking memory for what one needs and its turn.
    private static let ahead = 2

    private mutating func makeRoom(for interface: Int) {
        while targets.count <= interface {
            targets.append(nil)
            caches.append(ResolverCache())
            recent += [Packet](repeating: .none, count: Self.recentCount)
        }
    }

    @inline(__always)
    private mutating func take(_ kind: CaptureBatch.Kind, _ time: Int64, _ state: inout AnalysisState) {
        let interface = Int(batch.records[nextRecord].interface)
        if interface >= targets.count || targets[interface]?.group != batch.records[nextRecord].group {
            prepare(interface, batch.records[nextRecord].group, &state)
        }
        let report = batch.records[nextRecord].report
        if report.isNewPacket {
            recent[interface * Self.recentCount + Int(report.packet)] = batch.asides.packets[nextPacket].packet
            nextPacket += 1
            let ahead = nextPacket + Self.ahead
            if ahead < batch.asides.packets.count { expect(batch.asides.packets[ahead], &state) }
        }
        guard let reader = targets[interface]?.reader, reader >= 0 else {
            if targets[interface]?.reader == Target.unfollowed { state.countUnfollowed() }
            return
        }
        if let observer = state.observer { return show(observer, interface, reader, kind, time, &state) }
        if kind == .report {
            _ = take(report, interface, reader, time, &state)
        } else {
            state.countMalformed(reader: reader)
        }
        if kind == .failure || !report.hasPacket { fail(&state) }
    }

    @inline(__always)
    private mutating func take(
        _ report: NFLogReport, _ interface: Int, _ reader: Int, _ time: Int64, _ state: inout AnalysisState
    )
        -> UInt64
    {
        state.take(
            report, recent[interface * Self.recentCount + Int(report.packet)], origins[Int(report.origin)],
            &caches[interface], reader: reader, time)
    }

    @inline(__always)
    private func expect(_ next: (interface: Int, packet: Packet), _ state: inout AnalysisState) {
        guard next.interface < targets.count, let reader = targets[next.interface]?.reader, reader >= 0 else { return }
        state.expect(next.packet, reader: reader)
    }

    /// Shows an observer the record that was taken.
    private mutating func show(
        _ observer: any AnalysisObserver, _ interface: Int, _ reader: Int, _ kind: CaptureBatch.Kind, _ time: Int64,
        _ state: inout AnalysisState
    ) {
        let record = batch.records[nextRecord]
        let range = Int(record.data.lowerBound)..<Int(record.data.upperBound)
        let namespace = targets[interface]?.name ?? label
        source.lend { bytes in
            guard observer.accepts(bytes, range, namespace: namespace) else {
                if record.report.isNewPacket { caches[interface].forget(record.report.packet) }
                return
            }
            guard kind == .report else { return state.countMalformed(reader: reader) }
            observer.placed(bytes, range, leg: take(record.report, interface, reader, time, &state))
        }
        if kind == .failure || !record.report.hasPacket { fail(&state) }
    }

    private mutating func fail(_ state: inout AnalysisState) {
        guard nextFailure < batch.asides.failures.count else { return }
        let failure = batch.asides.failures[nextFailure]
        nextFailure += 1
        state.problems.add("\(name): the packet at byte \(failure.place) is not understood: \(failure.error)")
    }

    // MARK: Interfaces

    /// Works out where the packets of an interface go, and whether they are of a group that is new there.
    private mutating func prepare(_ interface: Int, _ group: UInt16, _ state: inout AnalysisState) {
        makeRoom(for: interface)
        if targets[interface] == nil { targets[interface] = target(interface, &state) }
        guard let target = targets[interface], target.reader >= 0, target.group != group else { return }
        targets[interface]?.group = group
        state.learn(group: group, namespace: target.reader, named: target.name)
    }

    private mutating func target(_ index: Int, _ state: inout AnalysisState) -> Target {
        // Packets remembered for this interface may belong to another namespace.
        caches[index] = ResolverCache()
        let interface = batch.interfaces[index]
        guard interface.linkType == CaptureInterface.nflog else {
            state.problems.add(
                "\(name): interface \(interface.name ?? "\(index)") has link type \(interface.linkType); only NFLOG "
                    + "(239) says in which chain a packet was, so its packets are left out. Capture with: "
                    + "tcpdump -i nflog:5 -w FILE")
            return Target(reader: Target.foreign, name: "")
        }
        // tcpdump and dumpcap call it nflog:5.
        let named = interface.name.flatMap { $0.hasPrefix("nflog") || $0.isEmpty ? nil : $0 }
        let name = named ?? label
        guard let reader = state.reader(named: name, index: namespaces[name]) else {
            state.problems.add(
                "\(self.name): namespace \(name) is one more than the \(LayoutRegistry.mostNamespaces) that are followed; its "
                    + "packets are counted as unplaced. Analyse fewer files at once")
            return Target(reader: Target.unfollowed, name: name)
        }
        return Target(reader: reader, name: name)
    }

    private mutating func take(_ notice: CaptureBatch.Notice, _ state: inout AnalysisState) {
        switch notice {
        case .trace(.layout(let json), let place):
            do {
                let layout = try RecordedLayout(json: json)
                places = state.adopt(layout)
                section.run = layout.run
                namespaces = Dictionary(
                    zip(layout.layout.namespaces, places).compactMap { known, place in
                        known.channel == .nflog ? place.map { (known.name, $0) } : nil
                    },
                    uniquingKeysWith: { $1 })
                // Interfaces that had no packet under an earlier layout may belong elsewhere now.
                for index in targets.indices {
                    guard let target = targets[index], let reader = namespaces[target.name] else { continue }
                    if reader != target.reader { targets[index] = nil }
                }
            } catch {
                state.problems.add("\(name): the layout at byte \(place) is not understood: \(error)")
                noteMissing(until: state.latest, &state)
                state.markProbesUnreliable(of: places)
            }
        case .trace(.note(let note), _):
            section.take(note, places: places, &state)
            state.take(note, places: places)
        case .loss(let interface, let packets):
            makeRoom(for: interface)
            if targets[interface] == nil { targets[interface] = target(interface, &state) }
            if let reader = targets[interface]?.reader, reader >= 0 { state.noteLoss(packets, reader: reader) }
        case .missing(let time, let mayHideLayout):
            noteMissing(until: time, &state)
            isAfterDamage = true
            if mayHideLayout { state.markProbesUnreliable(of: places) }
        case .problem(let message): state.problems.add(message)
        }
    }
}
