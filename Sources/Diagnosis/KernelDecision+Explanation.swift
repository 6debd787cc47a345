public import TraceModel

extension KernelDecision {
    /// What the kernel means, as part of a sentence; its own name where there is no better word.
    public var explanation: String {
        if function.hasPrefix("ip6_pkt_discard") { return "no route leads to its destination, or one that says unreachable" }
        if isOfBridge { return "the bridge sends it out of no port; out of the one that it came in by only in hairpin mode" }
        return routingCause?.explanation ?? Self.explanations[reason] ?? "\(reason)\(function.isEmpty ? "" : " in \(function)")"
    }

    /// Whether a bridge let go of the packet where it had to send it on (net/bridge/br_input.c; `br_forward`, which frees it, is seen as its
    /// caller). The kernel gives no reason there.
    var isOfBridge: Bool { reason == "NOT_SPECIFIED" && function.hasPrefix("br_handle_frame_finish") }

    /// Whether the packet came to the sockets, and there was none for it.
    public var isWithoutSocket: Bool { reason == "NO_SOCKET" }

    /// The cause of a drop in routing; `nil` for a drop elsewhere.
    var routingCause: RoutingCause? {
        switch route {
        case .blackhole?: return .blackholeRoute
        case .prohibit?: return .prohibitRoute
        case .unreachable?: return .unreachableRoute
        case .noRoute?: return .noRoute
        case nil where function.hasPrefix("ip6_pkt_prohibit"): return .prohibitRoute
        case nil: break
        }
        return switch reason {
        case "IP_INNOROUTES": .noRoute
        case "IP_INHDR" where function.contains("forward"): .timeToLive
        case "IP_INADDRERRORS": .forwardingDisabled
        case "IP_RPFILTER": .reversePath
        case "PKT_TOO_BIG": .tooLarge
        case "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_LOCALNET": .martian
        default: nil
        }
    }

    /// Names of reasons that are explained: those that are met.
    public static let explained: [String] =
        [
            "NOT_SPECIFIED", "IP_INNOROUTES", "IP_INHDR", "IP_INADDRERRORS", "IP_RPFILTER", "PKT_TOO_BIG", "IP_LOCAL_SOURCE",
            "IP_INVALID_SOURCE", "IP_LOCALNET",
        ] + explanations.keys.sorted()

    /// By names of `enum skb_drop_reason`, whose comments in include/net/dropreason-core.h say the same.
    private static let explanations = [
        "NO_SOCKET": "no socket there takes it",
        "SOCKET_CLOSE": "its socket was being closed",
        "SOCKET_FILTER": "a filter of its socket dropped it",
        "SOCKET_RCVBUFF": "the receive buffer of its socket was full",
        "SOCKET_BACKLOG": "the backlog of its socket was full",
        "TCP_CSUM": "its checksum is wrong",
        "UDP_CSUM": "its checksum is wrong",
        "ICMP_CSUM": "its checksum is wrong",
        "IP_CSUM": "its checksum is wrong",
        "TCP_INVALID_SEQUENCE": "its sequence number is outside the window",
        "TCP_INVALID_SYN": "a SYN does not belong there",
        "TCP_RESET": "it reset the connection",
        "TCP_OLD_DATA": "its data had been received before",
        "NEIGH_FAILED": "the next hop does not answer ARP or neighbour discovery",
        "NEIGH_QUEUEFULL": "too many packets wait for the next hop's answer to ARP or neighbour discovery",
        "NEIGH_DEAD": "the next hop has gone",
        "XFRM_POLICY": "an IPsec policy forbids it",
        "QDISC_DROP": "a queueing discipline dropped it",
        "TC_INGRESS": "a traffic control filter dropped it",
        "TC_EGRESS": "a traffic control filter dropped it",
        "OTHERHOST": "its frame was addressed to another host",
        "IP_NOPROTO": "nothing there takes its protocol",
        "FRAG_REASM_TIMEOUT": "the rest of its fragments did not come",
        "UNICAST_IN_L2_MULTICAST": "it came to one address in a frame for many",
    ]
}
