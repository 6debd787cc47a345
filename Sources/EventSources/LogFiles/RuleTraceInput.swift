internal import Captures
internal import Correlation
internal import Engine
internal import TraceModel
internal import WireFormat

extension InputFormat {
    static let ruleTraces = InputFormat { (file) throws(CaptureError) in
        guard file.isText, RuleTraceInput.begins(String(decoding: file.beginning, as: UTF8.self)) else { return nil }
        return RecognisedInput(input: RuleTraceInput(file.stream, window: file.window))
    }
}

/// What `nft monitor trace` or `xtables-monitor --trace` printed: each chain that a packet met is a step, and the rule or policy that
/// dropped it its last one.
///
/// The lines have no times: those in reports count microseconds by the lines. Chains of tables that are not iptables' are no
/// steps, and are counted as prefixes that nothing explains; what ended in them is told at the step before.
final class RuleTraceInput: TraceInput {
    let stream: ByteStream
    private var lines: TextLines
    private var isDone = false
    private var line: String?
    private var lineNumber: Int64 = 0
    private var packets: [UInt32: Known] = [:]

    private struct Known {
        var packet: RuleTraceLine.TracedPacket
        /// Where it was last.
        var hook: Hook?
        var chain: String?
        /// The last chain of iptables' that it was in.
        var step: (line: RuleTraceLine, table: Table, hook: Hook)?
    }

    /// Packets that are remembered; past it all are forgotten.
    private static let mostPackets = 1 << 16

    init(_ stream: ByteStream, window: InputWindow) {
        self.stream = stream
        lines = TextLines(window)
    }

    /// Whether a file that begins so is a trace, be it one with damaged lines.
    static func begins(_ text: String) -> Bool {
        text.split(whereSeparator: \.isNewline).prefix(4).contains { line in
            ["trace id ", "PACKET: ", " PACKET: ", " TRACE: "].contains { line.hasPrefix($0) } || RuleTraceLine(line) != nil
        }
    }

    var consumed: UInt64 { stream.consumed }
    var isExhausted: Bool { isDone && line == nil }

    func begin() {}
    func end() {}
    func stopFollowing() { lines.end() }

    func nextTime(_ problems: inout Problems) throws(CaptureError) -> Int64? {
        guard line == nil else { return lineNumber }
        switch try lines.next() {
        case .line(let text):
            line = text
            lineNumber += 1
            return lineNumber
        case .nothingYet: return nil
        case .end:
            isDone = true
            return nil
        }
    }

    func deliver(upTo limit: Int64, count: Int, into state: inout AnalysisState) throws(CaptureError) {
        var left = count
        while left > 0, let time = try nextTime(&state.problems), time <= limit, let text = line {
            line = nil
            left -= 1
            state.move(to: time)
            guard !text.isEmpty else { continue }
            guard let parsed = RuleTraceLine(text) else {
                state.problems.add("\(stream.name): line \(time) is no line of nft monitor trace or xtables-monitor")
                continue
            }
            take(parsed, time, &state)
        }
    }

    private func take(_ line: RuleTraceLine, _ time: Int64, _ state: inout AnalysisState) {
        if case .packet(let packet) = line.content {
            if packets.count >= Self.mostPackets { packets.removeAll(keepingCapacity: true) }
            var known = packets[line.id] ?? Known(packet: packet)
            known.packet = packet
            known.chain = nil
            packets[line.id] = known
        }
        guard var known = packets[line.id], !line.table.isEmpty else { return }
        let place = "\(line.tableFamily) \(line.table) \(line.chain)"
        guard let table = Table(name: line.table), ["ip", "ip6"].contains(line.tableFamily),
            let hook = Hook(name: line.chain) ?? known.hook
        else {
            // A drop there is told where the packet was last; without such a place there is nothing to tell it of.
            guard let decision = Self.decision(line), let step = known.step else {
                return state.ruleTraces.countUnresolved(place)
            }
            return report(step.line, step.table, step.hook, known, time, decision: decision, &state)
        }
        if known.chain != place {
            report(line, table, hook, known, time, decision: nil, &state)
            known.hook = hook
            known.chain = place
            known.step = (line, table, hook)
            packets[line.id] = known
        }
        if let decision = Self.decision(line) { report(line, table, hook, known, time, decision: decision, &state) }
    }

    /// What drops the packet; `nil` where it goes on.
    private static func decision(_ line: RuleTraceLine) -> RuleDecision? {
        switch line.content {
        case .rule(let text, let handle, .drop): RuleDecision(.rule, at: place(line, handle), text: text)
        case .policy(.drop): RuleDecision(.policy, at: place(line))
        case .packet, .rule, .policy, .end: nil
        }
    }

    private static func place(_ line: RuleTraceLine, _ handle: UInt64? = nil) -> RulePlace {
        RulePlace(tableFamily: line.tableFamily, table: line.table, chain: line.chain, handle: handle)
    }

    private func report(
        _ line: RuleTraceLine, _ table: Table, _ hook: Hook, _ known: Known, _ time: Int64, decision: RuleDecision?,
        _ state: inout AnalysisState
    ) {
        let family = known.packet.packet.tuple.source.family
        let rule = decision.map { "\($0.place.table):\($0.place.chain):\($0.text ?? "policy") \($0.place.handle ?? 0)" }
        state.ruleTraces.take(
            known.packet.packet, (known.packet.inInterface, known.packet.outInterface), time: time,
            into: &state.engine.correlator
        ) { namespace in
            Probe(
                namespace: namespace, family: family, table: table, chain: line.chain, hook: hook, backend: .nft,
                prefix: "TRACE: \(table.name):\(line.chain)\(rule.map { ":\($0)" } ?? "")", coverage: .everyRule,
                decision: decision)
        }
    }
}
