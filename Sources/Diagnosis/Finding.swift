internal import TraceModel

/// A fault that journeys, rules and settings together show.
public struct Finding: Sendable {
    public enum Severity: String, Codable, Sendable, Comparable {
        /// Worth knowing.
        case notice
        /// Packets are lost, or will be under conditions that are easily met.
        case warning
        /// Packets are lost, and it is known why.
        case problem

        public static func < (one: Severity, other: Severity) -> Bool { one.rank < other.rank }
        private var rank: Int { self == .notice ? 0 : self == .warning ? 1 : 2 }
    }

    /// One name for all findings of a rule: `forwarding-disabled`.
    public var kind: String
    public var severity: Severity
    public var title: String
    /// The namespace's name.
    public var netns: String
    /// The explanation, in sentences.
    public var reason: String
    /// Packets that show it.
    public var packets: UInt64
    /// Serial numbers of the first journeys that show it, at most `Finding.journeyLimit`.
    public var journeys: [UInt64]
    /// Indices of the snapshot's paths that show it.
    public var paths: [Int]
    /// What mends it; empty where nothing is certain to, or where it is a matter of choice.
    public var cures: [Cure]

    public static let journeyLimit = 10

    /// - Parameter cure: the command of the only cure; `nil` for none.
    init(
        _ kind: String, _ severity: Severity, _ title: String, in netns: String, because reason: String,
        packets: UInt64 = 0, journeys: some Sequence<UInt64> = [], paths: [Int] = [], cure: Evidence.Command? = nil
    ) {
        self.kind = kind
        self.severity = severity
        self.title = title
        self.netns = netns
        self.reason = reason
        self.packets = packets
        self.paths = paths
        self.journeys = Array(journeys.prefix(Finding.journeyLimit))
        cures = cure.map { [Cure(netns: netns, $0, reason: title)] } ?? []
    }

    /// A finding that paths show.
    ///
    /// - Returns: `nil` where none does.
    init?(
        _ kind: String, _ severity: Severity, _ title: String, in netns: String, shownBy paths: [PathEvidence],
        because reason: String, cure: Evidence.Command? = nil
    ) {
        guard !paths.isEmpty else { return nil }
        self.init(
            kind, severity, title, in: netns, because: reason, packets: paths.reduce(0) { $0 + $1.packets },
            journeys: paths.map(\.example.serial), paths: paths.map(\.index), cure: cure)
    }
}

/// A command that mends a finding.
public struct Cure: Codable, Sendable, Equatable {
    /// The namespace that it changes.
    public var netns: String
    /// As a POSIX shell takes it, in the namespace of ipt-trace itself.
    public var command: String
    /// The fault that it mends.
    public var reason: String
    /// What came of it on a copy of the namespace's rules; `nil` where nobody has tried.
    public var trial: CureTrial?
    /// The program and its arguments, for running `command` inside the namespace. Reports do not have it.
    public var words: [String] = []

    private enum CodingKeys: CodingKey { case netns, command, reason, trial }

    init(netns: String, _ command: Evidence.Command, reason: String) {
        self.netns = netns
        self.command = command.text
        self.reason = reason
        words = command.words
    }
}
