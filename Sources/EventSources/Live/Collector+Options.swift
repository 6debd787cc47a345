public import Captures
public import LinuxSupport
package import TraceModel
public import WireFormat

extension Collector {
    public struct Options: Sendable {
        public var selectors: [NamespaceSelector]
        public var group: UInt16
        /// Bytes of each packet that are copied, from the IP header on. Packets are told apart by the first
        /// `PacketParser.reach` of them; more is for recordings.
        public var snapLength: UInt32
        /// How long a journey may be silent before it is closed, in microseconds.
        public var linger: Int64
        /// Live journeys at most.
        public var maximumJourneys: Int
        /// The port of the collector's own endpoint, whose traffic on loopback is in no report.
        public var ownPort: UInt16?
        /// Whether `/dev/kmsg` is followed for what LOG rules write.
        public var followsKernelLog: Bool
        /// Whether the kernel is asked why it drops packets, where it can be (tracefs).
        public var followsDropReasons: Bool
        /// Gets every message that is received, if it is there.
        public var recorder: Recorder?
        /// Which packets are traced through the rules.
        public enum RuleTracing: Sendable, Equatable {
            case off
            /// Traces packets like one that was dropped, so that the rule that drops them is named.
            case afterDrops
            /// Besides, every one flow in so many, from its first packet on.
            case oneIn(UInt32)
        }

        public var ruleTracing: RuleTracing
        /// Packets that are traced through the rules from the beginning on, in all namespaces.
        package var traced: [TracedTraffic] = []
        /// Which journeys are added up; `nil`: all.
        package var isWanted: (@Sendable (Journey) -> Bool)?
        /// Called with each namespace that has appeared and in which nothing reports packets; without it, a warning tells of them.
        public var onUnprobed: (@Sendable (NetworkNamespace) -> Void)?

        public init(
            selectors: [NamespaceSelector] = [.all], group: UInt16 = 5,
            snapLength: UInt32 = UInt32(PacketParser.reach), linger: Int64 = 500_000, maximumJourneys: Int = 1 << 17,
            ownPort: UInt16? = nil, followsKernelLog: Bool = false, followsDropReasons: Bool = false,
            recorder: Recorder? = nil, ruleTracing: RuleTracing = .off,
            onUnprobed: (@Sendable (NetworkNamespace) -> Void)? = nil
        ) {
            self.onUnprobed = onUnprobed
            self.followsKernelLog = followsKernelLog
            self.followsDropReasons = followsDropReasons
            self.recorder = recorder
            self.ruleTracing = ruleTracing
            self.selectors = selectors
            self.group = group
            self.snapLength = snapLength
            self.linger = linger
            self.maximumJourneys = maximumJourneys
            self.ownPort = ownPort
        }
    }
}
