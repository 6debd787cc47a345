public import TraceModel

/// A network interface as rtnetlink describes it (`RTM_NEWLINK`, linux/rtnetlink.h, linux/if_link.h).
public struct LinkMessage: Equatable, Sendable {
    public static let newLink: UInt16 = 16  // RTM_NEWLINK

    public var index: UInt32
    public var name = ""
    /// `IFLA_INFO_KIND`: `veth`, `bridge`, `vlan`, …; empty for hardware and `lo`.
    public var kind = ""
    /// `IFLA_MTU` in bytes; 0 where it is not told.
    public var mtu: UInt32 = 0
    /// `IFLA_MASTER`: the bridge or bond that the interface is a port of.
    public var master: UInt32?
    /// `IFLA_LINK`: a veth's peer, or the interface that a VLAN rests on; an index in `peerNamespace`.
    public var peer: UInt32?
    /// `IFLA_LINK_NETNSID`: the namespace of `peer` as this namespace numbers it; `nil`: this one.
    public var peerNamespace: Int32?
    /// `IFLA_VLAN_ID`, of a VLAN.
    public var vlan: UInt16?
    /// `IFLA_BR_VLAN_FILTERING`: whether a bridge has VLANs of its own.
    public var filtersVLANs = false
    /// `IFLA_BR_NF_CALL_IPTABLES` and `IFLA_BR_NF_CALL_IP6TABLES`, of a bridge.
    public var bridge = Bridge()
    /// `IFLA_BRPORT_*` of a bridge's port; `bridge` is `master`.
    public var port: BridgePort?

    package init(
        index: UInt32, name: String, kind: String, mtu: UInt32, master: UInt32?, peer: UInt32?, peerNamespace: Int32?,
        vlan: UInt16? = nil, filtersVLANs: Bool = false, bridge: Bridge = Bridge(), port: BridgePort? = nil
    ) {
        self.bridge = bridge
        self.port = port
        self.vlan = vlan
        self.filtersVLANs = filtersVLANs
        self.index = index
        self.name = name
        self.kind = kind
        self.mtu = mtu
        self.master = master
        self.peer = peer
        self.peerNamespace = peerNamespace
    }

    /// Parses the body of a link message: `struct ifinfomsg` (16 bytes) and attributes.
    public init(parsing bytes: RawSpan, body: Range<Int>) throws(ParseError) {
        guard body.count >= 16 else { throw .truncated(offset: body.lowerBound, needed: 16, available: body.count) }
        try bytes.check(16, at: body.lowerBound)
        index = bytes.native32(body.lowerBound + 4)
        var offset = body.lowerBound + 16
        var isBridgePort = false
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) {
            let value = attribute.value
            switch attribute.type {
            case 3: name = bytes.text(value)  // IFLA_IFNAME
            case 4 where value.count >= 4: mtu = bytes.native32(value.lowerBound)  // IFLA_MTU
            case 5 where value.count >= 4: peer = bytes.native32(value.lowerBound)  // IFLA_LINK
            case 10 where value.count >= 4: master = bytes.native32(value.lowerBound)  // IFLA_MASTER
            case 37 where value.count >= 4: peerNamespace = Int32(bitPattern: bytes.native32(value.lowerBound))
            case 18:  // IFLA_LINKINFO
                var inner = value.lowerBound
                while let info = try NetlinkAttribute.next(in: bytes, at: &inner, end: value.upperBound) {
                    switch info.type {
                    case 1: kind = bytes.text(info.value)  // IFLA_INFO_KIND
                    case 2: try readData(bytes, info.value)  // IFLA_INFO_DATA, which comes behind the kind
                    case 4: isBridgePort = bytes.text(info.value) == "bridge"  // IFLA_INFO_SLAVE_KIND
                    case 5 where isBridgePort: try readPort(bytes, info.value)  // IFLA_INFO_SLAVE_DATA
                    default: break
                    }
                }
            default: break
            }
        }
    }

    private mutating func readData(_ bytes: RawSpan, _ range: Range<Int>) throws(ParseError) {
        guard kind == "vlan" || kind == "bridge" else { return }
        var offset = range.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: range.upperBound) {
            switch (kind, attribute.type) {
            case ("vlan", 1) where attribute.value.count >= 2: vlan = bytes.native16(attribute.value.lowerBound)
            case ("bridge", 7) where attribute.value.count >= 1: filtersVLANs = bytes.byte(attribute.value.lowerBound) != 0
            case ("bridge", 36) where attribute.value.count >= 1:
                bridge.filtersIPv4 = bytes.byte(attribute.value.lowerBound) != 0
            case ("bridge", 37) where attribute.value.count >= 1:
                bridge.filtersIPv6 = bytes.byte(attribute.value.lowerBound) != 0
            default: break
            }
        }
    }

    private mutating func readPort(_ bytes: RawSpan, _ range: Range<Int>) throws(ParseError) {
        var port = BridgePort(bridge: master ?? 0)
        var offset = range.lowerBound
        while let attribute = try NetlinkAttribute.next(in: bytes, at: &offset, end: range.upperBound) {
            guard attribute.value.count >= 1 else { continue }
            let value = bytes.byte(attribute.value.lowerBound)
            switch attribute.type {
            case 1: port.isForwarding = value == 3  // IFLA_BRPORT_STATE, BR_STATE_FORWARDING
            case 4: port.isHairpin = value != 0  // IFLA_BRPORT_MODE
            case 33: port.isIsolated = value != 0  // IFLA_BRPORT_ISOLATED
            default: break
            }
        }
        self.port = port
    }
}

extension RawSpan {
    /// The bytes of `range` up to the first NUL as text; bytes that are not UTF-8 become `\xff`.
    package func text(_ range: Range<Int>) -> String {
        var characters: [UInt8] = []
        for offset in range {
            let character = byte(offset)
            if character == 0 { break }
            characters.append(character)
        }
        return String(escapingInvalid: characters)
    }
}
