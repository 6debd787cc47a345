internal import TraceModel

/// Packets pass all chains and are dropped at sockets, by the kernel's counters: no probe sees that.
struct LostAtSockets: FindingRule {
    func findings(in evidence: Evidence) -> [Finding] {
        evidence.namespaces.flatMap { namespace in
            func risen(_ counter: DropCounters.Counter) -> UInt64 {
                AddressFamily.allCases.reduce(0) { $0 &+ namespace.dropCounters[$1, counter] }
            }
            func finding(_ kind: String, _ counter: DropCounters.Counter, _ title: String, _ reason: String) -> Finding? {
                let count = risen(counter)
                guard count > 0 else { return nil }
                return Finding(
                    kind, .warning, "\(title) in \(namespace.name)", in: namespace.name,
                    because: "Since the collection began the kernel has counted \(count) \(reason)", packets: count)
            }
            return [
                finding(
                    "receive-buffer-full", .receiveBufferFull, "datagrams find no room in the receive buffer of their socket",
                    "datagrams that passed all chains and did not fit (UdpRcvbufErrors): a process reads more slowly than they come, "
                        + "or its buffer is small (SO_RCVBUF, at most net.core.rmem_max)."),
                finding(
                    "listen-queue-full", .listenQueueFull, "connections find no room at a listening socket",
                    "that passed all chains and found its queue full (ListenOverflows): a process accepts more slowly than they come, "
                        + "or its queue is short (the backlog of listen(2), at most net.core.somaxconn)."),
                finding(
                    "bad-checksum", .badChecksum, "segments or datagrams with a wrong checksum arrive",
                    "of them (InCsumErrors): they passed all chains and no socket got them. Something on their way has changed or "
                        + "damaged them."),
            ].compactMap(\.self)
        }
    }
}
