/// A network namespace's counters of packets that the kernel dropped where it routes them, where it tracks connections, and at sockets
/// (Documentation/networking/snmp_counter.rst; `struct ip_conntrack_stat` in include/linux/netfilter/nf_conntrack_common.h).
public struct DropCounters: Sendable, Equatable {
    public enum Counter: String, Sendable, Hashable, CaseIterable {
        /// No route leads to the destination (`IpExtInNoRoutes`, `Ip6InNoRoutes`; see `only`).
        case noRoutes
        /// No hop is left to live (`IpInHdrErrors`, `Ip6InHdrErrors`: behind PREROUTING the header is sound otherwise).
        case headerErrors
        /// The destination is not the namespace's own, which does not forward (`IpInAddrErrors`, `Ip6InAddrErrors`).
        case addressErrors
        /// The source would be answered by another interface (`TcpExtIPReversePathFilter`, IPv4 alone).
        case reversePath
        /// The packet is larger than the next link takes, and must not be cut (`IpFragFails`, `Ip6InTooBigErrors`).
        case tooLarge
        /// A socket's receive buffer had no room for a datagram (`UdpRcvbufErrors`, `Udp6RcvbufErrors`).
        case receiveBufferFull
        /// A listening socket had no room for a connection, of either family (`TcpExtListenOverflows`, counted with IPv4's).
        case listenQueueFull
        /// A segment's or datagram's checksum is wrong (`TcpInCsumErrors`, of either family, with IPv4's; `UdpInCsumErrors`,
        /// `Udp6InCsumErrors`).
        case badChecksum
        /// Connection tracking dropped a packet for which it could make no entry, or not put it into its table (`drop` of its statistics, for
        /// both families, counted with IPv4's, as are the next two).
        case untracked
        /// Of these, the entry could not be put in: another packet had put in one for the same addresses (`insert_failed`).
        case insertionFailed
        /// An entry of a connection without answers was thrown out to make room for another (`early_drop`).
        case earlyDrop

        /// Counters of packets that are dropped where they are routed.
        static let routing: [Counter] = [.noRoutes, .headerErrors, .addressErrors, .reversePath, .tooLarge]
    }

    private struct Key: Hashable {
        var family: AddressFamily
        var counter: Counter
    }

    private var counts: [Key: UInt64] = [:]

    public init() {}

    public subscript(family: AddressFamily, counter: Counter) -> UInt64 {
        get { counts[Key(family: family, counter: counter)] ?? 0 }
        set { counts[Key(family: family, counter: counter)] = newValue == 0 ? nil : newValue }
    }

    /// Of two spans of time of the same namespace.
    public static func + (one: DropCounters, other: DropCounters) -> DropCounters {
        var sum = one
        for (key, count) in other.counts { sum.counts[key, default: 0] &+= count }
        return sum
    }

    /// By how much each has risen since an earlier reading of the same namespace.
    public func risen(since earlier: DropCounters) -> DropCounters {
        var risen = self
        for (key, count) in counts {
            let before = earlier.counts[key] ?? 0
            risen.counts[key] = count > before ? count - before : nil
        }
        return risen
    }

    /// The counter that has counted all of `lost` packets: the only one that has risen, and by as many or more; `nil` where several
    /// have, or there were more packets.
    ///
    /// IPv6's `noRoutes` tells nothing: it counts copies of multicast packets, too, that nobody had asked for (measured).
    public func only(_ family: AddressFamily, of lost: UInt64) -> Counter? {
        let risen = Counter.routing.filter { self[family, $0] > 0 && !(family == .ipv6 && $0 == .noRoutes) }
        guard risen.count == 1, let counter = risen.first, self[family, counter] >= lost, lost > 0 else { return nil }
        return counter
    }

    // MARK: Text of the kernel

    /// Adds the counters of `/proc/net/snmp` and `/proc/net/netstat`: a line of names, then a line of numbers, each behind the name of
    /// the group. Others are passed over.
    public mutating func take(tables text: String) {
        let names: [String: Counter] = [
            "IpExt InNoRoutes": .noRoutes, "Ip InHdrErrors": .headerErrors, "Ip InAddrErrors": .addressErrors,
            "TcpExt IPReversePathFilter": .reversePath, "Ip FragFails": .tooLarge, "Udp RcvbufErrors": .receiveBufferFull,
            "TcpExt ListenOverflows": .listenQueueFull, "Tcp InCsumErrors": .badChecksum, "Udp InCsumErrors": .badChecksum,
        ]
        let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
        for (head, values) in zip(lines, lines.dropFirst()) where head.first == values.first {
            guard let group = head.first?.dropLast() else { continue }
            for (name, value) in zip(head, values).dropFirst() {
                guard let counter = names["\(group) \(name)"], let number = UInt64(value) else { continue }
                self[.ipv4, counter] &+= number
            }
        }
    }

    /// Adds the statistics of `/proc/net/stat/nf_conntrack`: a line of names, then a line of hexadecimal numbers for each processor.
    public mutating func take(tracking text: String) {
        let names: [Substring: Counter] = ["drop": .untracked, "insert_failed": .insertionFailed, "early_drop": .earlyDrop]
        let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
        guard let head = lines.first else { return }
        for values in lines.dropFirst() {
            for (name, value) in zip(head, values) {
                guard let counter = names[name], let number = UInt64(value, radix: 16) else { continue }
                self[.ipv4, counter] &+= number
            }
        }
    }

    /// Adds the counters of `/proc/net/snmp6`: a name and a number in each line.
    public mutating func take(list text: String) {
        let names: [Substring: Counter] = [
            "Ip6InNoRoutes": .noRoutes, "Ip6InHdrErrors": .headerErrors, "Ip6InAddrErrors": .addressErrors,
            "Ip6InTooBigErrors": .tooLarge, "Udp6RcvbufErrors": .receiveBufferFull, "Udp6InCsumErrors": .badChecksum,
        ]
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.count == 2, let counter = names[words[0]], let number = UInt64(words[1]) else { continue }
            self[.ipv6, counter] &+= number
        }
    }
}

/// As an object: `{"ipv4": {"noRoutes": 3}}`. Names that are not known are passed over.
extension DropCounters: Codable {
    public init(from decoder: any Decoder) throws {
        let families = try decoder.singleValueContainer().decode([String: [String: UInt64]].self)
        for family in AddressFamily.allCases {
            for (name, count) in families[family.name] ?? [:] {
                if let counter = Counter(rawValue: name) { self[family, counter] = count }
            }
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var families: [String: [String: UInt64]] = [:]
        for (key, count) in counts { families[key.family.name, default: [:]][key.counter.rawValue] = count }
        var container = encoder.singleValueContainer()
        try container.encode(families)
    }
}
