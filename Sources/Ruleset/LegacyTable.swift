private import Foundation
private import Glibc
internal import LinuxSupport
internal import TraceModel
internal import WireFormat

/// A table of iptables-legacy as the kernel holds it (`struct ipt_get_entries` of linux/netfilter_ipv4/ip_tables.h, `struct
/// ip6t_get_entries` of linux/netfilter_ipv6/ip6_tables.h), read without starting a program.
struct LegacyTable {
    /// What stands at the head of a built-in chain.
    struct Head: Equatable {
        /// Rules that log, before the first other rule: their bytes without counters.
        var logging: [[UInt8]] = []
        /// Packets that these have counted.
        var packets: [UInt64] = []
        /// Whether another rule follows them.
        var hasOthers = false
        /// `verdict` of the chain's policy (`struct xt_standard_target`).
        var policy: UInt32 = 0
    }

    var heads: [Hook: Head] = [:]

    /// Reads a table of the namespace that the thread is in.
    ///
    /// - Parameter name: one that `/proc/net/ip_tables_names` lists, since asking for another makes it.
    /// - Returns: `nil` where it cannot be read.
    static func read(_ name: String, _ family: AddressFamily) -> LegacyTable? {
        let isIPv4 = family == .ipv4
        let descriptor = socket(
            isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), Int32(IPPROTO_RAW))
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let level = Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6)
        // A table that is replaced between the two requests has another size.
        for _ in 0..<5 {
            guard let information = ask(descriptor, level, informationRequest, name, count: Layout.informationSize) else {
                return nil
            }
            let size = Int(information.octets.native32(Layout.size))
            guard let entries = ask(descriptor, level, entriesRequest, name, count: Layout.entries + size, size: UInt32(size))
            else {
                if errno == EAGAIN { continue }
                return nil
            }
            return LegacyTable(information: information, entries: entries, isIPv4)
        }
        return nil
    }

    /// Whether rules at the heads of a namespace's built-in chains log with our prefixes.
    static func hasProbes(in namespace: NetworkNamespace) throws -> Bool {
        let marks = [ProbePrefix.nflogMark, ProbePrefix.logMark].map { Array($0.utf8) }
        return try namespace.enter {
            for family in AddressFamily.allCases {
                let list = "/proc/thread-self/net/\(family == .ipv4 ? "ip" : "ip6")_tables_names"
                // Where the list may not be read there are no probes of ours either (`Iptables.save`).
                guard let names = try? String(contentsOfFile: list, encoding: .utf8) else { continue }
                for name in names.split(separator: "\n") {
                    let rules = read(String(name), family)?.heads.values.flatMap(\.logging) ?? []
                    if rules.contains(where: { rule in marks.contains { rule.firstRange(of: $0) != nil } }) { return true }
                }
            }
            return false
        }
    }

    private init(information: [UInt8], entries: [UInt8], _ isIPv4: Bool) {
        let valid = information.octets.native32(Layout.validHooks)
        for hook in Hook.allCases where valid & (1 << UInt32(hook.rawValue)) != 0 {
            let place = 4 * Int(hook.rawValue)
            let start = Int(information.octets.native32(Layout.hookEntries + place))
            let policy = Int(information.octets.native32(Layout.underflows + place))
            heads[hook] = Self.head(entries, from: start, policy: policy, isIPv4)
        }
    }

    private static func head(_ bytes: [UInt8], from start: Int, policy: Int, _ isIPv4: Bool) -> Head {
        let entry = isIPv4 ? Layout.Entry.ipv4 : Layout.Entry.ipv6
        var head = Head()
        var offset = start
        while offset < policy, let rule = Rule(bytes, Layout.entries + offset, entry) {
            guard rule.isLogging else {
                head.hasOthers = true
                break
            }
            head.logging.append(rule.bytes)
            head.packets.append(rule.packets)
            offset += rule.length
        }
        if let rule = Rule(bytes, Layout.entries + policy, entry) { head.policy = rule.verdict }
        return head
    }

    private struct Rule {
        var length: Int
        var isLogging: Bool
        var verdict: UInt32 = 0
        var packets: UInt64
        var bytes: [UInt8]

        /// `nil` where the entry does not fit into `table`.
        init?(_ table: [UInt8], _ start: Int, _ entry: Layout.Entry) {
            guard start >= 0, start + entry.size <= table.count else { return nil }
            let span = table.octets
            length = Int(span.native16(start + entry.nextOffset))
            let target = start + Int(span.native16(start + entry.targetOffset))
            let end = start + length
            guard length >= entry.size, end <= table.count, target >= start + entry.size, target + Layout.targetHeader <= end
            else { return nil }
            // struct xt_entry_target: size, name, revision.
            let name = table[(target + 2)..<(target + Layout.targetHeader - 1)].prefix { $0 != 0 }
            isLogging = ["LOG", "NFLOG"].contains(String(decoding: name, as: UTF8.self))
            if target + Layout.targetHeader + 4 <= end { verdict = span.native32(target + Layout.targetHeader) }
            packets = span.little64(start + entry.counters)
            // A target may keep a pointer of the kernel's; LOG and NFLOG have none.
            bytes = Array(table[start..<(start + entry.comefrom)] + table[(start + entry.size)..<end])
        }
    }

    /// Offsets and sizes of the kernel's structures, which are the same on all 64-bit machines.
    private enum Layout {
        // struct ipt_getinfo
        static let validHooks = 32
        static let hookEntries = 36
        static let underflows = 56
        static let size = 80
        static let informationSize = 84
        /// Where `entrytable` begins in `struct ipt_get_entries`.
        static let entries = 40
        /// `struct xt_entry_target`.
        static let targetHeader = 32

        /// `struct ipt_entry` or `struct ip6t_entry`.
        struct Entry {
            var targetOffset: Int
            var nextOffset: Int
            var comefrom: Int
            var counters: Int
            var size: Int

            static let ipv4 = Entry(targetOffset: 88, nextOffset: 90, comefrom: 92, counters: 96, size: 112)
            static let ipv6 = Entry(targetOffset: 140, nextOffset: 142, comefrom: 144, counters: 152, size: 168)
        }
    }

    /// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; `IP6T_SO_*` have the same numbers.
    private static let informationRequest: Int32 = 64
    private static let entriesRequest: Int32 = 65

    /// - Returns: `nil` where the request fails; `errno` says why.
    private static func ask(
        _ descriptor: Int32, _ level: Int32, _ request: Int32, _ name: String, count: Int, size: UInt32 = 0
    ) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: count)
        for (index, byte) in name.utf8.prefix(31).enumerated() { buffer[index] = byte }
        if size > 0 { for shift in 0..<4 { buffer[32 + shift] = UInt8(truncatingIfNeeded: size >> (8 * UInt32(shift))) } }
        var length = socklen_t(count)
        return unsafe getsockopt(descriptor, level, request, &buffer, &length) == 0 ? buffer : nil
    }
}
