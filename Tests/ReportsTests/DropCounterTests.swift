import Testing
import TraceModel

/// What the kernel's counters say of packets that vanished where they are routed.
@Suite struct DropCounterTests {
    /// As Linux 6.18 prints it, cut.
    private static let tables = """
        Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors FragFails OutTransmits
        Ip: 1 64 17423 3 4 5 15075
        Icmp: InMsgs InErrors
        Icmp: 9 9
        Tcp: InSegs InCsumErrors
        Tcp: 9 13
        Udp: InDatagrams RcvbufErrors InCsumErrors
        Udp: 9 11 14
        TcpExt: SyncookiesSent IPReversePathFilter ListenOverflows ListenDrops
        TcpExt: 0 7 12 99
        IpExt: InNoRoutes InTruncatedPkts
        IpExt: 6 0
        """
    private static let list =
        "Ip6InHdrErrors                  \t8\nIp6InTooBigErrors \t9\nIp6InNoRoutes\t10\nIp6InAddrErrors\tmany\nUdp6RcvbufErrors 15\n"

    @Test("counters are found by group and name, whatever stands beside them")
    func read() {
        var counters = DropCounters()
        counters.take(tables: Self.tables)
        counters.take(list: Self.list)
        let read = AddressFamily.allCases.map { family in
            [.headerErrors, .addressErrors, .tooLarge, .noRoutes, .reversePath].map { counters[family, $0] }
        }
        #expect(read == [[3, 4, 5, 6, 7], [8, 0, 9, 10, 0]])
        #expect([.receiveBufferFull, .listenQueueFull, .badChecksum].map { counters[.ipv4, $0] } == [11, 12, 27])
        #expect(counters[.ipv6, .receiveBufferFull] == 15)
        for damaged in ["", "Ip:", "Ip: InHdrErrors\nTcp: 1", "Ip: InHdrErrors\nIp: -1", "Ip: A InHdrErrors\nIp: 1"] {
            var none = DropCounters()
            none.take(tables: damaged)
            none.take(list: damaged)
            #expect(none == DropCounters())
        }
    }

    @Test("only a counter that rose alone, by as many as were lost, is the reason")
    func reasons() {
        var before = DropCounters()
        before[.ipv4, .headerErrors] = 100
        var now = before
        now[.ipv4, .noRoutes] = 3
        #expect(now.risen(since: before).only(.ipv4, of: 3) == .noRoutes)
        #expect(now.risen(since: before).only(.ipv4, of: 2) == .noRoutes)
        // More were lost than were counted: some for a reason that is not counted.
        #expect(now.risen(since: before).only(.ipv4, of: 4) == nil)
        #expect(now.risen(since: before).only(.ipv6, of: 3) == nil)
        now[.ipv4, .headerErrors] = 101
        #expect(now.risen(since: before).only(.ipv4, of: 3) == nil)
        // A counter that was set back, as for a namespace with the number of one that is gone, has not risen.
        var back = now
        back[.ipv4, .headerErrors] = 5
        #expect(back.risen(since: before).only(.ipv4, of: 3) == .noRoutes)
    }

    @Test("IPv6's count of missing routes counts multicast, too, and is no reason")
    func multicast() {
        var risen = DropCounters()
        risen[.ipv6, .noRoutes] = 9
        #expect(risen.only(.ipv6, of: 3) == nil)
        risen[.ipv6, .tooLarge] = 3
        #expect(risen.only(.ipv6, of: 3) == .tooLarge)
    }

    @Test("connection tracking's statistics are added up over the processors, by their names")
    func tracking() {
        var counters = DropCounters()
        counters.take(
            tracking: """
                entries  clashres found new insert insert_failed drop early_drop icmp_error
                00040000  00000000 00000000 00000000 00040000 00000001 00000010 0000000e 00000000
                00040000  00000000 00000000 00000000 00000000 00000002 0000000f 00000000

                """)
        #expect(counters[.ipv4, .untracked] == 31 && counters[.ipv4, .insertionFailed] == 3)
        #expect(counters[.ipv4, .earlyDrop] == 14)
        for damaged in ["", "drop", "drop\nxyz\n", "\n\n"] {
            var none = DropCounters()
            none.take(tracking: damaged)
            #expect(none == DropCounters())
        }
    }
}
