package import TraceModel

/// An event of one of the kernel's tracepoints that tell why packets are dropped.
package struct KernelTraceEvent: Equatable, Sendable {
    package enum Content: Equatable, Sendable {
        /// `skb:kfree_skb`: a packet was dropped. Its address in memory tells it apart while it is there; `location` is the one from which
        /// it was let go.
        case dropped(packet: UInt64, family: AddressFamily, location: UInt64, reason: UInt32)
        /// `fib:fib_table_lookup`, `fib6:fib6_table_lookup`: a look-up in a table of routes, with a negative error number of errno.h.
        case lookUp(KernelDrop.Endpoints, table: UInt32, error: Int32)
        /// `icmp:icmp_send`, `tcp:tcp_send_reset`, `tcp:tcp_bad_csum`: what the kernel did about a packet, which has these addresses.
        case about(packet: UInt64, KernelDrop.Endpoints)
    }

    /// Nanoseconds by the clock that the trace was set to.
    package var time: UInt64
    /// Whether packets of the network were being worked on (a softirq), and not a process's call.
    package var isOfNetwork: Bool
    package var content: Content
}

/// Decodes sub-buffers of the kernel's ring buffer, as `per_cpu/cpuN/trace_pipe_raw` gives them.
///
/// A sub-buffer is `struct buffer_data_page` (kernel/trace/ring_buffer.c) with events of `struct ring_buffer_event`
/// (include/linux/ring_buffer.h), and an event's content is as its format says. Numbers are in the machine's own order.
package struct KernelTraceDecoder: Sendable {
    private enum Kind: Sendable { case dropped, lookUp, unreachable, segment, answer }

    private struct Layout: Sendable {
        var kind: Kind
        var format: KernelTraceFormat
        var fields: [KernelTraceFormat.Field]
    }

    /// By number of the event.
    private var layouts: [UInt16: Layout] = [:]
    /// Of drop reasons.
    package private(set) var reasons: [UInt32: String] = [:]

    package init() {}

    /// The events that are understood, with the fields that each has to have.
    private static let known: [String: (kind: Kind, fields: [String])] = [
        "skb/kfree_skb": (.dropped, ["skbaddr", "location", "protocol", "reason"]),
        "fib/fib_table_lookup": (.lookUp, ["tb_id", "err", "src", "dst", "sport", "dport"]),
        "fib6/fib6_table_lookup": (.lookUp, ["tb_id", "err", "src", "dst", "sport", "dport"]),
        "icmp/icmp_send": (.unreachable, ["skbaddr", "saddr", "daddr", "sport", "dport"]),
        "tcp/tcp_send_reset": (.answer, ["skbaddr", "saddr", "daddr"]),
        "tcp/tcp_bad_csum": (.segment, ["skbaddr", "saddr", "daddr"]),
    ]

    /// Makes an event known.
    ///
    /// - Parameter name: its group and name: `skb/kfree_skb`.
    /// - Returns: whether the format has what is needed.
    package mutating func learn(_ name: String, _ format: KernelTraceFormat) -> Bool {
        guard let known = Self.known[name] else { return false }
        let fields = known.fields.compactMap { format.fields[$0] }
        guard fields.count == known.fields.count else { return false }
        layouts[format.id] = Layout(kind: known.kind, format: format, fields: fields)
        if known.kind == .dropped { reasons = format.names }
        return true
    }

    // Of `struct buffer_data_page`: a time, and how much is in use with two flags.
    private static let headLength = 16
    private static let missedEvents: UInt64 = 1 << 31
    private static let missedStored: UInt64 = 1 << 30

    /// Takes the events of one sub-buffer.
    ///
    /// - Returns: how many events were overwritten before it; `nil` where that is not known.
    /// - Throws: `ParseError` where it ends within an event.
    package func decode(_ page: RawSpan, _ take: (KernelTraceEvent) -> Void) throws(ParseError) -> UInt64? {
        try page.check(Self.headLength, at: 0)
        var time = page.little64(0)
        let commit = page.little64(8)
        let length = Int(commit & 0xF_FFFF)
        try page.check(length, at: Self.headLength)
        var offset = Self.headLength
        let end = offset + length
        while offset + 4 <= end {
            let head = page.native32(offset)
            let delta = UInt64(head >> 5)
            switch head & 31 {
            case 29:
                // The rest is empty, or an event was taken back.
                guard delta > 0 else {
                    offset = end
                    continue
                }
                try page.check(8, at: offset)
                offset += 4 + max(4, Int(page.native32(offset + 4)))
                time &+= delta
            case 30:
                try page.check(8, at: offset)
                time &+= UInt64(page.native32(offset + 4)) << 27 | delta
                offset += 8
            case 31:
                try page.check(8, at: offset)
                // The upper five bits are not stored.
                time = time & ~((1 << 59) - 1) | UInt64(page.native32(offset + 4)) << 27 | delta
                offset += 8
            case let words:
                var body = offset + 4
                var count = Int(words) * 4
                if words == 0 {
                    try page.check(8, at: offset)
                    count = Int(page.native32(offset + 4)) - 4
                    body += 4
                }
                guard count >= 0, body + count <= end else { throw .invalidLength(offset: offset, value: count) }
                time &+= delta
                if count >= 4, let event = event(page, body, count, time) { take(event) }
                offset = body + count
            }
        }
        guard commit & Self.missedEvents != 0 else { return 0 }
        guard commit & Self.missedStored != 0, page.has(8, at: end) else { return nil }
        return page.little64(end)
    }

    private func event(_ page: RawSpan, _ body: Int, _ count: Int, _ time: UInt64) -> KernelTraceEvent? {
        guard let layout = layouts[page.native16(body)], layout.fields.allSatisfy({ $0.offset + $0.size <= count }) else {
            return nil
        }
        // TRACE_FLAG_SOFTIRQ of include/linux/trace_events.h, in `common_flags`.
        let isOfNetwork = page.byte(body + 2) & 0x10 != 0
        let content = content(layout, page, body)
        return content.map { KernelTraceEvent(time: time, isOfNetwork: isOfNetwork, content: $0) }
    }

    private func content(_ layout: Layout, _ page: RawSpan, _ body: Int) -> KernelTraceEvent.Content? {
        func at(_ field: Int) -> Int { body + layout.fields[field].offset }
        switch layout.kind {
        case .dropped:
            // ETH_P_IP and ETH_P_IPV6 of linux/if_ether.h.
            let family: AddressFamily
            switch page.native16(at(2)) {
            case 0x0800: family = .ipv4
            case 0x86DD: family = .ipv6
            default: return nil
            }
            return .dropped(
                packet: page.little64(at(0)), family: family, location: page.little64(at(1)), reason: page.native32(at(3)))
        case .lookUp:
            let endpoints = endpoints(
                page, at(2), at(3), isIPv6: layout.fields[2].size == 16, page.native16(at(4)), page.native16(at(5)))
            return .lookUp(endpoints, table: page.native32(at(0)), error: Int32(bitPattern: page.native32(at(1))))
        case .unreachable:
            let endpoints = endpoints(page, at(1), at(2), isIPv6: false, page.native16(at(3)), page.native16(at(4)))
            return .about(packet: page.little64(at(0)), endpoints)
        case .segment, .answer:
            // `struct sockaddr_in6`, or `sockaddr_in` in the same room: AF_INET6 is 10.
            guard layout.fields[1].size >= 28, layout.fields[2].size >= 28 else { return nil }
            let isIPv6 = page.native16(at(1)) == 10
            let endpoints = endpoints(
                page, at(1) + (isIPv6 ? 8 : 4), at(2) + (isIPv6 ? 8 : 4), isIPv6: isIPv6, page.big16(at(1) + 2),
                page.big16(at(2) + 2))
            return .about(packet: page.little64(at(0)), layout.kind == .answer ? endpoints.reversed : endpoints)
        }
    }

    private func endpoints(
        _ page: RawSpan, _ source: Int, _ destination: Int, isIPv6: Bool, _ sourcePort: UInt16, _ destinationPort: UInt16
    ) -> KernelDrop.Endpoints {
        func address(_ offset: Int) -> IPAddress {
            isIPv6 ? IPAddress(ipv6High: page.big64(offset), low: page.big64(offset + 8)) : IPAddress(ipv4: page.big32(offset))
        }
        return KernelDrop.Endpoints(
            source: address(source), destination: address(destination), sourcePort: sourcePort, destinationPort: destinationPort
        )
    }
}
