/// Sub-buffers of the kernel's ring buffer as Linux 6.18 wrote them (`trace_pipe_raw`), and the formats of their events, shortened to
/// the fields that are read.
package enum KernelTracePages {
    /// A ping to where no route leads: two look-ups that failed, an ICMP error, the drop, and another drop.
    package static let noRoute = bytes(
        "6350a8077611ec18240100000000000013000000d8081001b33d0000fe000000f5ffffff0000000002000000000000000a0000020a0800010000000000000000"
            + "000000000000000000000000000000002d0000455354000006006c6f00455354b33f0300d8089002b33d0000fe000000f5ffffff0000000001000000010000"
            + "010a0000020a0800010000000000000000000000000000000000000000000000002d0000455354000006006c6f004553542acc00000a099002b33d00000046"
            + "b8008188ffff03000000000000000a0000020a08000100000000000000000a1d020006091001b33d00000046b8008188ffffb4d3fe81ffffffff0000000000"
            + "0000000008000158000000ea40033d060910000e0000000046b8008188ffffc7600582ffffffff00000000000000000008000268000000")
    /// A SYN to a port where nothing listens: the reset that answered it, and the drop.
    package static let noSocket = bytes(
        "b09b90097611ec1890000000000000005e37799f0100000016000000e8081001b53d0000e0221f098188ffff00000000000000000000000001000000020000"
            + "090a010002000000000000000000000000000000000000000002008ab20a00000200000000000000000000000000000000000000008a49030006091001b5"
            + "3d0000e0221f098188ffff51320382ffffffff00000000000000000008000203000000")
    /// The same by IPv6.
    package static let noSocket6 = bytes(
        "b67f8c167611ec189000000000000000fe1b10e30100000016000000e8081001b73d0000e0221f098188ffff000000000000000000000000010000000a00000"
            + "900000000fd010000000000000000000000000002000000000a00c40e00000000fd000000000000000000000000000002000000006ac9030006091001b73d"
            + "0000e0221f098188ffff9f9d1182ffffffff0000000000000000dd86000003000000")
    /// A datagram to a port where nothing listens, by IPv6: the look-up for its answer, and the drop.
    package static let datagram6 = bytes(
        "e01ea5257611ec18a0000000000000007ed27add010000001a0000000b099002b93d0000ff0000008fffffff020000000100000000000000000000fd010000"
            + "000000000000000000000002fd0000000000000000000000000000024509006de811006c6f0045535400000000000000000000000000000000000000000000"
            + "0000000000008aaf020006091001b93d00000046b8008188ffffc1701082ffffffff0000000000000000dd86000003000000")
    /// A ping to a destination with a blackhole route, by IPv6.
    package static let blackhole6 = bytes(
        "ef0a91347611ec18a0000000000000009eef5294010000001a0000000b091001bb3d0000fe000000eaffffff000000000200000049730000000000fd000000"
            + "000000000000000000000002fd09000100000000000000000000000145000000003a006c6f004553540000000000000000000000000000000000000000000000"
            + "00000000000a92010006091001bb3d00000043b8008188ffff84f9e681ffffffff0000000000000000dd86000002000000")

    /// By group and name of the event.
    package static let formats: [(name: String, text: String)] = [
        (
            "skb/kfree_skb",
            format(
                2310,
                [
                    "void * skbaddr 8 8", "void * location 16 8", "void * rx_sk 24 8", "unsigned short protocol 32 2",
                    "enum skb_drop_reason reason 36 4",
                ],
                #"print fmt: "skbaddr=%p reason: %s", REC->skbaddr, __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 3, "NO_SOCKET" }, { 88, "IP_INNOROUTES" }, { 104, "QUEUE_PURGE" })"#
            )
        ),
        (
            "fib/fib_table_lookup",
            format(
                2264,
                ["u32 tb_id 8 4", "int err 12 4", "__u8 src[4] 28 4", "__u8 dst[4] 32 4", "u16 sport 56 2", "u16 dport 58 2"])
        ),
        (
            "fib6/fib6_table_lookup",
            format(
                2315,
                [
                    "u32 tb_id 8 4", "int err 12 4", "__u8 src[16] 31 16", "__u8 dst[16] 47 16", "u16 sport 64 2",
                    "u16 dport 66 2",
                ])
        ),
        (
            "icmp/icmp_send",
            format(
                2314,
                [
                    "const void * skbaddr 8 8", "__u8 saddr[4] 24 4", "__u8 daddr[4] 28 4", "__u16 sport 32 2",
                    "__u16 dport 34 2",
                ])
        ),
        (
            "tcp/tcp_send_reset",
            format(2280, ["const void * skbaddr 8 8", "__u8 saddr[28] 32 28", "__u8 daddr[28] 60 28"])
        ),
    ]

    /// Functions of that kernel, as `/proc/kallsyms` lists them.
    package static let symbols = """
        ffffffff81e6f970 T dst_discard_out
        ffffffff81fed320 t ip_error
        ffffffff81fed600 t ip_rt_bug
        ffffffff820331c0 T tcp_v4_rcv
        ffffffff8205606b t ping_rcv
        ffffffff82106fe0 T __udp6_lib_rcv
        ffffffff82119a50 T tcp_v6_rcv

        """

    private static func format(_ id: Int, _ fields: [String], _ description: String = "") -> String {
        var text = "name: it\nID: \(id)\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"
        for field in fields {
            let words = field.split(separator: " ")
            let declaration = words.dropLast(2).joined(separator: " ")
            text += "\tfield:\(declaration);\toffset:\(words[words.count - 2]);\tsize:\(words[words.count - 1]);\tsigned:0;\n"
        }
        return text + "\n\(description)\n"
    }

    private static func bytes(_ hex: String) -> [UInt8] {
        let digits = Array(hex.utf8).map { $0 <= UInt8(ascii: "9") ? $0 - UInt8(ascii: "0") : $0 - UInt8(ascii: "a") + 10 }
        return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
