import Captures
import EventSources
import Foundation
import HTTPServer
import LinuxSupport
import Ruleset
import Testing
import TraceModel
import WireFormat

/// A parser with samples of its input.
struct FuzzTarget: Sendable, CustomTestStringConvertible {
    var name: String
    /// Gives the samples, or pieces of files elsewhere.
    var corpus: @Sendable () throws -> [[UInt8]]
    /// Whether the input was understood; what matters is that it returns.
    @discardableResult
    func parse(_ bytes: [UInt8]) -> Bool { body(bytes) }

    private var body: @Sendable ([UInt8]) -> Bool

    var testDescription: String { name }

    private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    private static let fixtures = tests.deletingLastPathComponent().appendingPathComponent("Fixtures")

    private static func file(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: fixtures.appendingPathComponent(name)))
    }

    /// The files of a folder of the corpus.
    private static func folder(_ name: String) throws -> [[UInt8]] {
        let path = tests.appendingPathComponent("Corpus/\(name)")
        return try FileManager.default.contentsOfDirectory(atPath: path.path).sorted().map {
            Array(try Data(contentsOf: path.appendingPathComponent($0)))
        }
    }

    /// Lines of a fixture that differ in form.
    private static func lines(_ name: String) throws -> [[UInt8]] {
        try file(name).split(separator: 0x0A).map { Array($0) }
    }

    static let all = [nflog, packet, conntrack, ruleTrace, capture, recordingBlocks, logLine, ruleDump, links, http]

    /// The messages of a capture: `struct nfgenmsg` and attributes, as nfnetlink_log sends them.
    private static func messages() throws -> [[UInt8]] {
        let bytes = try file("ping/guest.pcap")
        guard var decoder = CaptureDecoder(beginning: bytes.octets) else { return [] }
        var offset = 0
        var messages: [[UInt8]] = []
        while let item = decoder.next(in: bytes.octets, at: &offset, isLast: true) {
            if case .packet(let packet) = item { messages.append(Array(bytes[packet.data])) }
        }
        return messages
    }

    private static let nflog = FuzzTarget(name: "nflog") {
        try messages()
    } body: { bytes in
        (try? NFLogMessage(parsing: bytes.octets, body: 0..<bytes.count)) != nil
    }

    private static let packet = FuzzTarget(name: "packet") {
        try messages().compactMap { bytes in
            let message = try NFLogMessage(parsing: bytes.octets, body: 0..<bytes.count)
            return Array(bytes[message.payload])
        } + folder("packet")
    } body: { bytes in
        (try? PacketParser().parse(bytes.octets, 0..<bytes.count)) != nil
    }

    private static let conntrack = FuzzTarget(name: "conntrack") {
        try folder("conntrack")
    } body: { bytes in
        (try? ConntrackMessage(parsing: bytes.octets, body: 0..<bytes.count)) != nil
    }

    /// As nf_tables_trace.c writes it: table, chain, rule, verdict, id and the packet's headers.
    private static let ruleTrace = FuzzTarget(name: "rule trace") {
        var request = NetlinkRequest()
        request.append(NetlinkRequest.nfgenmsg(family: 2))
        request.attribute(1, text: "filter")
        request.attribute(2, text: "FORWARD")
        request.attribute(3, big: UInt64(29))
        request.attribute(4, big: UInt32(3))
        request.nest(5) { $0.attribute(1, big: UInt32(0)) }
        request.attribute(6, big: UInt32(7))
        request.attribute(8, [0x45, 0, 0, 60, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
        request.attribute(9, [0x03, 0xE8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0xA0, 0x02, 0xFF, 0xFF, 0, 0, 0, 0])
        return [request.bytes]
    } body: { bytes in
        let span = bytes.octets
        guard let message = try? RuleTraceMessage(parsing: span, body: 0..<bytes.count) else { return false }
        return message.packet(in: span, parser: PacketParser()) != nil
    }

    private static let capture = FuzzTarget(name: "capture") {
        try [Array(file("ping/guest.pcap").prefix(1500)), Array(file("ping/recording.pcapng").prefix(24_000))]
    } body: { bytes in
        guard var decoder = CaptureDecoder(beginning: bytes.octets) else { return false }
        var offset = 0
        var packets = 0
        while true {
            let before = offset
            guard let item = decoder.next(in: bytes.octets, at: &offset, isLast: true) else { break }
            if case .packet = item { packets += 1 }
            // Whatever comes, it goes on.
            guard offset > before, offset <= bytes.count else {
                Issue.record("the decoder stands still at \(before)")
                return false
            }
        }
        return packets > 0
    }

    private static let recordingBlocks = FuzzTarget(name: "recording blocks") {
        let tuple = PacketTuple(
            source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: 3, destinationPort: 4, transport: 6)
        var writer = CaptureWriter()
        writer.note(.connection(namespace: 1, original: tuple, reply: tuple.reversed, isNew: true))
        let note = Array(writer.bytes.dropFirst(8).dropLast(4))
        let ends: [RecordedNote] = [
            .begin(part: 2, time: 5, gap: RecordingGap(since: 3, events: 4)), .end(.failed, time: 5, leftOut: 6),
        ]
        let bodies = ends.map { end in
            writer.removeAll()
            writer.note(end)
            return Array(writer.bytes.dropFirst(8).dropLast(4))
        }
        writer.removeAll()
        let json = try RecordedLayout(
            Layout(namespaces: [NamespaceLayout(name: "a", inode: 1)]), run: 1, machine: MachineIdentity(), ownPort: nil
        ).json()
        writer.layout(json: json)
        return [note, Array(writer.bytes.dropFirst(8).dropLast(4))] + bodies
    } body: { bytes in
        switch TraceBlock(bytes.octets, 0..<bytes.count) {
        case .layout(let json):
            guard let layout = try? RecordedLayout(json: json) else { return false }
            return layout.layout.probes.allSatisfy { $0.namespace < layout.layout.namespaces.count }
        case .note: return true
        case nil: return false
        }
    }

    private static let logLine = FuzzTarget(name: "kernel log") {
        try lines("ping/kernel.log") + lines("classic-ping.log") + folder("log")
    } body: { bytes in
        let line = LogLine(
            parsing: bytes.octets, 0..<bytes.count, context: LogLine.Context(reference: 1_795_262_400, zone: 0))
        return (try? LogPacket(parsing: bytes.octets, message: line.message, seed: 1)) != nil
    }

    private static let ruleDump = FuzzTarget(name: "iptables-save") {
        try [file("ping/host.rules"), file("ping/guest.rules")] + folder("rules")
    } body: { bytes in
        guard let dump = try? RuleDump(parsing: String(decoding: bytes, as: UTF8.self)) else { return false }
        var result = ProbeSurvey.Result()
        for content in dump.tables {
            guard let table = content.table else { continue }
            ProbeSurvey.survey(content, table, .ipv4, .nft, namespace: 0, into: &result)
        }
        return true
    }

    private static let links = FuzzTarget(name: "ip -json link") {
        try [file("ping/host.links")]
    } body: { bytes in
        var book = OfflineLinks()
        return (try? book.add(bytes, namespace: "a", file: "sample")) != nil
    }

    private static let http = FuzzTarget(name: "http") {
        try folder("http")
    } body: { bytes in
        var parser = RequestParser()
        var requests = 0
        var rest = bytes[...]
        // In pieces, as a network delivers them.
        while !rest.isEmpty {
            parser.append(rest.prefix(33))
            rest = rest.dropFirst(33)
            reading: while true {
                switch parser.next() {
                case .needsMore: break reading
                case .request: requests += 1
                case .refused: return false
                }
            }
        }
        return requests > 0
    }

    private init(
        name: String, corpus: @escaping @Sendable () throws -> [[UInt8]], body: @escaping @Sendable ([UInt8]) -> Bool
    ) {
        self.name = name
        self.corpus = corpus
        self.body = body
    }
}
