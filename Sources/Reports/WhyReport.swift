public import Aggregation
public import Diagnosis
public import TraceModel

/// The question that `why` answers: what becomes of packets to a destination.
public struct WhyQuestion: Sendable {
    public var destination: IPAddress
    /// `nil`: any.
    public var port: UInt16?
    public var transport: UInt8
    /// The namespace in which they begin; `nil`: any.
    public var netns: String?
    public var source: IPAddress?
    /// Source port of the packet that was sent to find out, or the query id of an ICMP echo; `nil` if none was sent.
    public var sourcePort: UInt16?

    public init(
        destination: IPAddress, port: UInt16? = nil, transport: UInt8, netns: String? = nil, source: IPAddress? = nil,
        sourcePort: UInt16? = nil
    ) {
        self.destination = destination
        self.port = port
        self.transport = transport
        self.netns = netns
        self.source = source
        self.sourcePort = sourcePort
    }
}

/// The answer: one connection, what became of its packets, and what would mend it.
public struct WhyAnswer: Codable, Sendable, Equatable {
    public enum Outcome: String, Codable, Sendable {
        /// It gets through, and an answer comes back.
        case answered
        /// It, or its answer, is dropped.
        case dropped
        /// It arrives, and is refused at once: nobody listens there.
        case refused
        /// It arrives, or leaves the traced namespaces, and no answer is seen.
        case unanswered
        /// It could not be sent.
        case notSendable = "no_route"
        /// Events were lost or probes are missing, so that it cannot be told.
        case incomplete
        /// No such packet was seen.
        case notSeen = "not_seen"
    }

    public var schema = 1
    public var outcome: Outcome
    /// The way on which it ended: `original` or `reply`; `null` where it was answered, or not seen.
    @ExplicitNull public var direction: String?
    /// What dropped it, where that is known.
    @ExplicitNull public var decidedBy: DecidedBy?
    @ExplicitNull public var path: PathReport?
    @ExplicitNull public var replyPath: PathReport?
    public var cures: [Cure]
    /// The faults that its paths show.
    public var findings: [FindingReport]
    /// The connection; `null` where none was seen.
    @ExplicitNull public var flow: FlowReport?
    /// What no packet shows, such as the error with which it could not be sent.
    @ExplicitNull public var remark: String?
    /// How the cures can be tried; `nil` where they cannot. In no report.
    public var trialPlan: TrialPlan?

    private enum CodingKeys: CodingKey {
        case schema, outcome, direction, decidedBy, path, replyPath, cures, findings, flow, remark
    }

    /// Without a packet that shows it.
    public init(_ outcome: Outcome, remark: String? = nil) {
        self.outcome = outcome
        cures = []
        findings = []
        self.remark = remark
    }

    /// Whether the kernel has said how its packets were routed.
    public var isRoutingKnown: Bool { [path, replyPath].allSatisfy { $0?.routing?.allSatisfy(\.isKnown) != false } }

    /// Whether waiting for more can change nothing: a drop may yet be traced, an answer may yet come.
    public var isSettled: Bool {
        switch outcome {
        case .answered, .refused, .notSendable: true
        // The rule of many may take a while to be read.
        case .dropped: decidedBy?.rule != nil
        case .unanswered, .incomplete, .notSeen: false
        }
    }
}

extension TraceSnapshot {
    /// What became of the latest connection that is asked for.
    ///
    /// - Returns: `nil` where there is none whose packets have ended.
    public func answer(to question: WhyQuestion) -> WhyAnswer? {
        for flow in latestFlows(.max, where: { asks(question, for: $0) }) {
            if let answer = answer(of: flow) { return answer }
        }
        return nil
    }

    private func asks(_ question: WhyQuestion, for flow: FlowRecord) -> Bool {
        let tuple = flow.original.tuple
        guard flow.original.packets > 0, tuple.transport == question.transport,
            question.source == nil || question.source == tuple.source,
            question.sourcePort == nil || question.sourcePort == tuple.sourcePort,
            begins(flow, in: question.netns)
        else { return false }
        func fits(_ address: IPAddress, _ port: UInt16) -> Bool {
            address == question.destination && (question.port == nil || question.port == port)
        }
        // Whoever asks for the server behind a forwarded port means that, too.
        return fits(tuple.destination, tuple.destinationPort)
            || flow.translations.contains {
                $0.translation.kind == .dnat
                    && fits($0.translation.to, $0.translation.toPort == 0 ? tuple.destinationPort : $0.translation.toPort)
            }
    }

    private func begins(_ flow: FlowRecord, in netns: String?) -> Bool {
        guard let netns else { return true }
        return flow.original.paths.contains { path in
            guard path < paths.count, let step = paths[path].stepPaths.first.flatMap({ stepTrie.steps(of: $0).first }) else {
                return false
            }
            return layout.namespaces[layout.probes[Int(step.probe)].namespace].name == netns
        }
    }

    private func answer(of flow: FlowRecord) -> WhyAnswer? {
        let original = flow.original.outcomes
        let reply = flow.reply?.outcomes
        let toNoSocket = flow.original.paths.contains {
            $0 < paths.count && paths[$0].decision?.kernel?.isWithoutSocket == true
        }
        let hasArrived = original[.delivered] + original[.sent] > 0
        let hasReply = reply.map { $0[.delivered] + $0[.sent] > 0 } ?? false
        let stray = hasReply ? strayReply(to: flow) : nil
        let isAnswered = hasReply && stray == nil
        var answer: WhyAnswer
        // A REJECT answers, too.
        if !hasArrived, original[.dropped] > 0 {
            answer = WhyAnswer(toNoSocket ? .refused : .dropped)
            answer.direction = Direction.original.name
        } else if isAnswered {
            answer = WhyAnswer(flow.isRefused ? .refused : .answered)
            if flow.isRefused { answer.direction = Direction.original.name }
        } else if let stray {
            answer = WhyAnswer(.unanswered, remark: stray)
            answer.direction = Direction.reply.name
        } else if let reply, reply[.dropped] > 0 {
            answer = WhyAnswer(.dropped)
            answer.direction = Direction.reply.name
        } else if reply.map({ $0[.incomplete] > 0 }) == true {
            answer = WhyAnswer(.incomplete)
            answer.direction = Direction.reply.name
        } else if hasArrived {
            answer = WhyAnswer(.unanswered)
            answer.direction = Direction.original.name
        } else if original[.incomplete] > 0 {
            answer = WhyAnswer(.incomplete)
            answer.direction = Direction.original.name
        } else {
            return nil
        }
        let isReplyLost = answer.direction == Direction.reply.name && stray == nil
        let wayThere = path(of: flow.original, hasArrived ? [.delivered, .sent] : [.dropped, .incomplete])
        let wayBack = flow.reply.flatMap {
            path(of: $0, isReplyLost ? [.dropped, .incomplete] : [.delivered, .sent])
        }
        let decisive = answer.outcome == .answered ? nil : isReplyLost ? wayBack : wayThere
        answer.path = wayThere.map(describePath)
        answer.replyPath = wayBack.map(describePath)
        answer.flow = describe(flow)
        if answer.outcome == .dropped, let decisive { answer.remark = answer.remark ?? routingRemark(ofPath: decisive) }
        if answer.outcome == .dropped || toNoSocket, let decisive { answer.decidedBy = describePath(decisive).decidedBy }
        // What explains an answer that goes astray may be shown by either way.
        let ways = stray == nil ? [decisive] : [wayThere, wayBack]
        let shown = findings(probesGo: true).filter { finding in
            ways.compactMap(\.self).contains { finding.paths.contains($0) }
        }
        answer.findings = shown.map { FindingReport($0, of: self) }
        answer.cures = shown.flatMap(\.cures)
        if answer.cures.isEmpty, let decisive, let cure = acceptance(ofPath: decisive, probesGo: true) { answer.cures = [cure] }
        if answer.outcome == .dropped, let decisive, !isReplyLost || wayThere != nil {
            answer.trialPlan = trialPlan(ofPath: decisive, answering: isReplyLost ? wayThere : nil)
        }
        return answer
    }

    /// Why there is no way on, where a packet is lost where it is routed; a route that there is explains nothing.
    private func routingRemark(ofPath index: Int) -> String? {
        let report = describePath(index)
        guard report.droppedBetween?.suspects == ["routing"], let lost = report.routing?.last, lost.step == report.steps.count,
            lost.error != nil, let text = lost.text
        else { return nil }
        return "By the routes of \(lost.netns), as they are asked now: \(text)."
    }

    /// Why no reply is one that the sender can take, where none is: it comes from another address than was asked, or not to the sender.
    private func strayReply(to flow: FlowRecord) -> String? {
        let asked = flow.original.tuple
        var last: PacketTuple?
        for index in flow.reply?.paths ?? [] where index < paths.count && [.delivered, .sent].contains(paths[index].outcome) {
            guard let exit = paths[index].example.journey.legs.last?.exit else { continue }
            if exit.source == asked.destination, exit.destination == asked.source { return nil }
            last = exit
        }
        return last.map { exit in
            exit.destination == asked.source
                ? "An answer comes from \(exit.source), where the sender expects \(asked.destination), and is refused."
                : "An answer goes to \(exit.destination), and not to the sender, \(asked.source)."
        }
    }

    /// The last of a side's paths that ended so; one with a rule's name before the others.
    private func path(of side: FlowRecord.Side, _ outcomes: Set<TraceModel.Outcome>) -> Int? {
        let found = side.paths.filter { $0 < paths.count && outcomes.contains(paths[$0].outcome) }
        return found.last { paths[$0].decision != nil } ?? found.last { decision(ofPath: $0) != nil } ?? found.last
    }
}
