package import Engine
internal import TraceModel
internal import WireFormat

/// Guests, each behind a host of its own that masquerades, as `ipt-trace lab up ping` makes them: eleven events for each
/// packet, and those of the user-defined chains that it passes.
package struct Traffic {
    package struct Size {
        /// Of a guest and a host.
        package var pairs = 1
        /// User-defined chains in each namespace; a packet passes some of its host's.
        package var userChains = 0
        /// Ways through those, at most two to the power of their number. A flow takes one of them.
        package var variants = 1
        /// Of each pair.
        package var flows = 1
        /// Packets of one flow that come in a row before the next flow's.
        package var row = 1
        /// Packets after which they repeat: nothing tells one from its copies.
        package var distinct = Int.max
        /// Of which connection tracking has told.
        package var translatedFlows = 0

        package init() {}
    }

    /// Bytes read at once from one namespace's socket.
    package struct Datagram {
        package var namespace: Int
        package var bytes: [UInt8]
    }

    /// Bytes of one message, and where in them stands what differs from packet to packet.
    fileprivate struct Template {
        var bytes: [UInt8]
        var sequence: Int
        var globalSequence: Int
        var packet: Int
    }

    static let guestWay = ["raw/OUTPUT", "mangle/OUTPUT", "filter/OUTPUT", "security/OUTPUT", "mangle/POSTROUTING"]
    static let hostWay = [
        "raw/PREROUTING", "mangle/PREROUTING", "mangle/FORWARD", "filter/FORWARD", "security/FORWARD", "mangle/POSTROUTING",
    ]
    /// Packets that one namespace hands over at once: a hundred messages and more, as the collector asks for.
    package static let burst = 20

    package let size: Size
    package let registry = LayoutRegistry()
    private var sequences: [UInt32]
    private let guest: [Template]
    /// Of each variant.
    private let ways: [[Template]]

    package init(_ size: Size) {
        self.size = size
        sequences = [UInt32](repeating: 0, count: size.pairs * 2)
        guest = Self.guestWay.map { Template(isGuest: true, $0) }
        let host = Self.hostWay.map { Template(isGuest: false, $0) }
        let user = (0..<size.userChains).map { Template(isGuest: false, "filter/USER\($0)") }
        ways = (0..<size.variants).map { variant in
            host[..<4] + user.indices.filter { variant >> $0 & 1 != 0 }.map { user[$0] } + host[4...]
        }
        var probes: [Probe] = []
        for namespace in 0..<size.pairs * 2 {
            func add(_ table: Table, _ chain: String, _ hook: Hook, _ coverage: Probe.Coverage) {
                probes.append(
                    Probe(
                        namespace: namespace, family: .ipv4, table: table, chain: chain, hook: hook, backend: .nft,
                        prefix: "ipt-trace:a1b2c3:\(table.name):\(chain)", coverage: coverage))
            }
            for table in Table.iptables {
                for hook in table.hooks { add(table, hook.name, hook, .every(.none, until: nil)) }
            }
            for number in 0..<size.userChains { add(.filter, "USER\(number)", .forward, .some) }
        }
        var namespaces: [NamespaceLayout] = []
        for pair in 0..<size.pairs {
            let link = UInt32(pair + 10)
            namespaces.append(
                NamespaceLayout(
                    name: "guest\(pair)", inode: UInt64(pair * 2 + 1),
                    interfaces: [2: Interface(name: "vGUEST", linkDomain: link)]))
            namespaces.append(
                NamespaceLayout(
                    name: "host\(pair)", inode: UInt64(pair * 2 + 2),
                    interfaces: [2: Interface(name: "br0", linkDomain: link), 4: Interface(name: "eth0", linkDomain: 1)]))
        }
        registry.update(namespaces: namespaces, openLinkDomains: [1], probes: probes)
    }

    package var probes: Int { registry.current.probes.count }

    /// The connections that the hosts masquerade.
    var translations: [(namespace: Int, original: PacketTuple, reply: PacketTuple)] {
        (0..<size.translatedFlows).map { flow in
            let guest = IPAddress(ipv4: 0xAC10_0002)
            let server = IPAddress(ipv4: 0x0808_0808)
            let port = UInt16(40000 + flow / size.pairs)
            return (
                flow % size.pairs * 2 + 1,
                PacketTuple(source: guest, destination: server, sourcePort: port, destinationPort: 9, transport: 17),
                PacketTuple(
                    source: server, destination: IPAddress(ipv4: 0x0A00_020F), sourcePort: 9, destinationPort: port,
                    transport: 17)
            )
        }
    }

    /// The next `bursts` bursts of packets, `first` being the first packet's number; those of the guests go before those of
    /// the hosts, as sockets are drained in turn.
    package mutating func round(first: Int, bursts: Int) -> [Datagram] {
        var guests: [Datagram] = []
        var hosts: [Datagram] = []
        for number in 0..<bursts {
            let index = first / Self.burst + number
            let pair = index % size.pairs
            let packets = first + number * Self.burst..<first + (number + 1) * Self.burst
            // Of those that this pair has sent.
            let sent = index / size.pairs * Self.burst
            guests.append(datagram(pair * 2, packets, sent))
            hosts.append(datagram(pair * 2 + 1, packets, sent))
        }
        return guests + hosts
    }

    /// - Parameter sent: how many packets there were before these in this namespace.
    private mutating func datagram(_ namespace: Int, _ packets: Range<Int>, _ sent: Int) -> Datagram {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(packets.count * ways[size.variants - 1].reduce(0) { $0 + $1.bytes.count })
        for number in packets {
            let flow = (sent + number - packets.lowerBound) / size.row % size.flows
            let number = number % size.distinct
            for template in namespace % 2 == 0 ? guest : ways[flow % size.variants] {
                let start = bytes.count
                bytes += template.bytes
                let sequence = sequences[namespace]
                sequences[namespace] += 1
                bytes.put(Int(sequence), 4, at: start + template.sequence)
                bytes.put(Int(sequence) + 1, 4, at: start + template.globalSequence)
                let packet = start + template.packet
                bytes.put(number & 0xFFFF, 2, at: packet + 4)
                bytes.put(40000 + flow, 2, at: packet + 20)
                bytes.put(number, 8, at: packet + 28)
            }
        }
        return Datagram(namespace: namespace, bytes: bytes)
    }
}

extension Traffic.Template {
    /// A UDP datagram of 92 bytes, seen at `place`.
    init(isGuest: Bool, _ place: String) {
        let parts = place.split(separator: "/")
        let hook = Hook(name: parts[1]) ?? .forward
        let timeToLive: UInt8 = isGuest || hook == .prerouting ? 64 : 63
        let ip: [UInt8] = [0x45, 0, 0, 92, 0, 0, 0x40, 0, timeToLive, 17, 0, 0, 172, 16, 0, 2, 8, 8, 8, 8]
        let udp: [UInt8] = [0, 0, 0, 9, 0, 72, 0, 0] + [UInt8](repeating: 0, count: 64)
        var body: [UInt8] = [2, 0, 0, 5]
        func add(_ type: Int, _ value: [UInt8]) -> Int {
            body += [UInt8(4 + value.count), 0, UInt8(type), 0]
            let start = 16 + body.count
            body += value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
            return start
        }
        _ = add(1, [8, 0, hook.rawValue, 0])
        _ = add(10, Array("ipt-trace:a1b2c3:\(parts[0]):\(parts[1])".utf8) + [0])
        if hook != .output { _ = add(4, [0, 0, 0, 2]) }
        if hook != .prerouting { _ = add(5, [0, 0, 0, isGuest ? 2 : 4]) }
        sequence = add(12, [0, 0, 0, 0])
        globalSequence = add(13, [0, 0, 0, 0])
        packet = add(9, ip + udp)
        var header = [UInt8](repeating: 0, count: 16)
        header[0] = UInt8(truncatingIfNeeded: 16 + body.count)
        header[1] = UInt8((16 + body.count) >> 8)
        header[4] = UInt8(truncatingIfNeeded: NFLogMessage.packetType)
        header[5] = UInt8(NFLogMessage.packetType >> 8)
        bytes = header + body
    }
}

extension [UInt8] {
    /// Writes a big-endian number.
    fileprivate mutating func put(_ value: Int, _ count: Int, at offset: Int) {
        for index in 0..<count { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - index))) }
    }
}
