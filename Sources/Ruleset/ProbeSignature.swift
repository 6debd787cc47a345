private import Foundation
private import Glibc
public import LinuxSupport
internal import TraceModel
public import WireFormat

/// What decides whether the probes of a namespace are in force: the rules that log at the head of each built-in chain, as the kernel
/// names them, and what a packet may meet behind them in INPUT.
///
/// Reading it takes about a millisecond, however many rules there are in nf_tables, and no program is started; it tells whether rules
/// that were changed are any that matter to probes.
public struct ProbeSignature: Sendable {
    private struct Place: Hashable {
        var family: UInt8
        var table: String
        var chain: String
    }

    /// The head of a base chain of nf_tables.
    private struct Head: Equatable {
        /// Handle and flags of the chain's table.
        var table: UInt64
        var flags: UInt32
        var logging: [UInt64]
        /// Whether a packet may end behind the probes; always false but in INPUT, where no later hook would tell.
        var decides: Bool
    }

    private struct LegacyHead: Sendable {
        var logging: [[UInt8]]
        var packets: [UInt64]
        var decides: Bool
    }

    private var heads: [Place: Head] = [:]
    private var legacyHeads: [Place: LegacyHead] = [:]

    /// Whether there are tables of iptables-legacy, whose changes nobody announces.
    public var hasLegacy: Bool { !legacyHeads.isEmpty }

    /// Whether `later` shows the same probes, none of them replaced meanwhile.
    public func continues(in later: ProbeSignature) -> Bool {
        heads == later.heads && continuesLegacy(in: later)
    }

    private func continuesLegacy(in later: ProbeSignature) -> Bool {
        guard legacyHeads.count == later.legacyHeads.count else { return false }
        return legacyHeads.allSatisfy { place, before in
            guard let after = later.legacyHeads[place] else { return false }
            // Rules of iptables-legacy have no names: what counts less than before is not the same rule any more.
            return before.logging == after.logging && before.decides == after.decides
                && zip(before.packets, after.packets).allSatisfy { $0 <= $1 }
        }
    }

    /// Whether a change of nf_tables may concern probes.
    public static func mayConcern(_ notice: RulesetNotice) -> Bool {
        guard isWatched(family: notice.family, table: notice.table) else { return false }
        return notice.subject == .table || SentinelTable.isOurs(notice.table) || Hook(name: notice.chain) != nil
    }

    private static func isWatched(family: UInt8, table: String) -> Bool {
        AddressFamily(rawValue: family) != nil && (Table(name: table) != nil || SentinelTable.isOurs(table))
    }

    // MARK: Reading

    /// Reads the rules of a namespace.
    ///
    /// - Parameter isLegacyOnly: takes what nf_tables holds from `earlier`.
    /// - Throws: `NamespaceError` or `NetlinkError` where the rules cannot be read.
    public static func read(_ namespace: NetworkNamespace, onlyLegacyBehind earlier: ProbeSignature? = nil) throws
        -> ProbeSignature
    {
        try namespace.enter {
            var signature = ProbeSignature()
            try signature.readLegacy()
            if let earlier { signature.heads = earlier.heads } else { try signature.readTables() }
            return signature
        }
    }

    private mutating func readLegacy() throws {
        for family in AddressFamily.allCases {
            for name in try Iptables.legacyTables(family) {
                guard let table = LegacyTable.read(name, family) else { continue }
                for (hook, head) in table.heads {
                    legacyHeads[Place(family: family.rawValue, table: name, chain: hook.name)] = LegacyHead(
                        logging: head.logging, packets: head.packets,
                        decides: hook == .input && (head.hasOthers || head.policy != Self.accepting))
                }
            }
        }
    }

    /// `-NF_ACCEPT - 1`, as `struct xt_standard_target` holds it.
    private static let accepting = UInt32(bitPattern: -2)

    private mutating func readTables() throws {
        for _ in 0..<5 {
            do {
                heads = try Self.tables()
                return
            } catch let error as NetlinkError where error.isInterrupted {
                // Somebody changed the rules while they were listed.
                continue
            } catch let error as NetlinkError where error.isAbsent {
                // A chain went between its listing and that of its rules.
                continue
            }
        }
        heads = try Self.tables()
    }

    private static func tables() throws -> [Place: Head] {
        let socket = try NetlinkSocket(.netfilter)
        var tables: [Place: TableMessage] = [:]
        try socket.ask(dump(getTable), operation: "list nf_tables tables") { (bytes, message) throws(ParseError) in
            guard message.type == TableMessage.newTable else { return }
            let table = try TableMessage(parsing: bytes, body: message.body)
            guard isWatched(family: table.family, table: table.name) else { return }
            tables[Place(family: table.family, table: table.name, chain: "")] = table
        }
        guard !tables.isEmpty else { return [:] }
        var chains: [ChainMessage] = []
        try socket.ask(dump(getChain), operation: "list nf_tables chains") { (bytes, message) throws(ParseError) in
            guard message.type == ChainMessage.newChain else { return }
            let chain = try ChainMessage(parsing: bytes, body: message.body)
            if chain.hook != nil, isWatched(family: chain.family, table: chain.table) { chains.append(chain) }
        }
        var heads: [Place: Head] = [:]
        for chain in chains {
            guard let table = tables[Place(family: chain.family, table: chain.table, chain: "")] else { continue }
            let rules = try leadingRules(of: chain)
            let accept: UInt32 = 1
            let isInput = chain.hook == UInt32(Hook.input.rawValue)
            heads[Place(family: chain.family, table: chain.table, chain: chain.name)] = Head(
                table: table.handle, flags: table.flags, logging: rules.logging,
                decides: isInput && (rules.hasOthers || (chain.policy ?? accept) != accept))
        }
        return heads
    }

    /// The handles of the rules that log before the first other rule; the rest of the chain is not read.
    private static func leadingRules(of chain: ChainMessage) throws -> (logging: [UInt64], hasOthers: Bool) {
        // The rest of the answer goes with the socket.
        let socket = try NetlinkSocket(.netfilter)
        let operation = "list the rules of \(chain.table)/\(chain.name)"
        var request = NetlinkRequest()
        request.append(
            type: getRule, flags: [.request, .dump], body: NetlinkRequest.nfgenmsg(family: chain.family)
        ) {
            $0.attribute(1, text: chain.table)  // NFTA_RULE_TABLE
            $0.attribute(2, text: chain.name)  // NFTA_RULE_CHAIN
        }
        try socket.send(request.bytes)
        var logging: [UInt64] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while socket.waitReadable(milliseconds: 5000) {
            let count: Int
            switch socket.receive(into: &buffer) {
            case .nothing: continue
            case .failed(let code): throw NetlinkError(operation: operation, code: code)
            case .bytes(let received): count = received
            }
            let bytes = buffer.octets.extracting(0..<count)
            var offset = 0
            while let message = try NetlinkMessage.next(in: bytes, at: &offset) {
                // NLM_F_DUMP_INTR
                if message.flags & 0x10 != 0 { throw NetlinkError(operation: operation, code: EINTR) }
                switch message.type {
                case done: return (logging, false)
                case error:
                    try bytes.check(4, at: message.body.lowerBound)
                    let code = -Int32(bitPattern: bytes.native32(message.body.lowerBound))
                    guard code != 0 else { return (logging, false) }
                    throw NetlinkError(operation: operation, code: code)
                case RuleMessage.newRule:
                    let rule = try RuleMessage(parsing: bytes, body: message.body)
                    guard rule.log != nil else { return (logging, true) }
                    logging.append(rule.handle)
                default: break
                }
            }
        }
        throw NetlinkError(operation: operation, code: ETIMEDOUT)
    }

    /// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h.
    private static let error: UInt16 = 2
    private static let done: UInt16 = 3

    /// `NFT_MSG_GET*` in `NFNL_SUBSYS_NFTABLES`.
    private static let getTable: UInt16 = 0x0A01
    private static let getChain: UInt16 = 0x0A04
    private static let getRule: UInt16 = 0x0A07

    private static func dump(_ type: UInt16) -> [UInt8] {
        var request = NetlinkRequest()
        request.append(type: type, flags: [.request, .dump], body: NetlinkRequest.nfgenmsg(family: 0))
        return request.bytes
    }
}
