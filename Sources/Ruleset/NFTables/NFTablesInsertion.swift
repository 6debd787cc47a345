internal import LinuxSupport
internal import TraceModel
package import WireFormat

/// Probes that go directly behind rules, in one transaction. A rule is named by its handle, so that it does not matter what others
/// insert or delete meanwhile.
///
/// iptables can only count positions. The new rule is therefore a copy of a probe that iptables-nft has put at the head of the same
/// chain, with the same match and expiry and another prefix.
package struct NFTablesInsertion: Sendable {
    struct Rule: Sendable {
        var chain: NFChain
        /// The rule that it goes behind.
        var handle: UInt64
        var prefix: String
        /// The expressions of the probe at the head of the chain.
        var template: [UInt8]
    }

    var rules: [Rule] = []
    /// The protocol that the match asks for (`-p`), which some extensions of x_tables want to know again; 0 for none.
    var transport: UInt8

    /// Works out the probes behind jumps to user-defined chains.
    ///
    /// - Parameter isChosen: whether a chain gets probes behind its jumps to another.
    init(
        _ listing: NFTablesListing, family: AddressFamily, run: String, transport: UInt8, tables: Set<String>,
        isChosen: (_ chain: String, _ target: String) -> Bool
    ) {
        self.transport = transport
        var heads: [NFChain: [UInt8]] = [:]
        for rule in listing.rules where rule.family == family.rawValue {
            if let own = rule.ownPrefix, own.run == run, own.backFrom == nil { heads[rule.chainKey] = rule.expressionBytes }
        }
        let userChains = Set(listing.chains.filter { $0.hook == nil }.map(\.key))
        for rule in listing.rules where rule.family == family.rawValue && tables.contains(rule.table) {
            guard let verdict = rule.verdict, verdict.code == RuleMessage.Verdict.jump, let target = verdict.chain,
                userChains.contains(NFChain(family: rule.family, table: rule.table, name: target)),
                isChosen(rule.chain, target), let template = heads[rule.chainKey], let table = Table(name: rule.table)
            else { continue }
            let prefix = ProbePrefix(run: run, table: table, chain: rule.chain, backFrom: target).nflog
            rules.append(Rule(chain: rule.chainKey, handle: rule.handle, prefix: prefix, template: template))
        }
    }

    /// Puts all in, or none.
    ///
    /// - Returns: false where a rule or chain is gone by now.
    func commit(in namespace: NetworkNamespace) throws -> Bool {
        guard !rules.isEmpty else { return true }
        var batch = NetlinkRequest()
        batch.beginTransaction()
        for (index, rule) in rules.enumerated() {
            var flags: NetlinkRequest.Flags = [.request, .create, .append]
            if index == rules.count - 1 { flags.formUnion(.acknowledge) }
            let expressions = try Self.copy(rule.template, prefix: rule.prefix)
            batch.append(
                type: NFTablesMessage.newRule, flags: flags, sequence: UInt32(index + 1),
                body: NetlinkRequest.nfgenmsg(family: rule.chain.family)
            ) {
                $0.attribute(1, text: rule.chain.table)  // NFTA_RULE_TABLE
                $0.attribute(2, text: rule.chain.name)  // NFTA_RULE_CHAIN
                $0.attribute(6, big: rule.handle)  // NFTA_RULE_POSITION: behind it, as NLM_F_APPEND says
                $0.attribute(4, expressions)  // NFTA_RULE_EXPRESSIONS
                if transport != 0 {
                    $0.nest(5) {  // NFTA_RULE_COMPAT
                        $0.attribute(1, big: UInt32(transport))  // NFTA_RULE_COMPAT_PROTO
                        $0.attribute(2, big: UInt32(0))  // NFTA_RULE_COMPAT_FLAGS
                    }
                }
            }
        }
        batch.endTransaction(sequence: UInt32(rules.count + 1))
        do {
            let socket = try namespace.enter { try NetlinkSocket(.netfilter) }
            try socket.commit(batch.bytes, operation: "put probes behind jumps in namespace \(namespace.name)")
            return true
        } catch let refusal as NetlinkBatchError {
            if refusal.error.isAbsent { return false }
            throw refusal.error
        }
    }

    /// A rule's expressions with another log prefix and a counter at zero.
    package static func copy(_ template: [UInt8], prefix: String) throws(ParseError) -> [UInt8] {
        let bytes = template.octets
        var copied = NetlinkRequest()
        var offset = 0
        while true {
            let start = offset
            guard let element = try NetlinkAttribute.next(in: bytes, at: &offset, end: template.count) else { break }
            var name = ""
            var inner = element.value.lowerBound
            var data: Range<Int>?
            while let attribute = try NetlinkAttribute.next(in: bytes, at: &inner, end: element.value.upperBound) {
                if attribute.type == 1 { name = bytes.text(attribute.value) }  // NFTA_EXPR_NAME
                if attribute.type == 2 { data = attribute.value }  // NFTA_EXPR_DATA
            }
            switch name {
            case "counter":
                copied.nest(1) {  // NFTA_LIST_ELEM
                    $0.attribute(1, text: name)
                    $0.nest(2) {
                        $0.attribute(1, big: UInt64(0))  // NFTA_COUNTER_BYTES
                        $0.attribute(2, big: UInt64(0))  // NFTA_COUNTER_PACKETS
                    }
                }
            case "log":
                var attributes = NetlinkRequest()
                var part = data?.lowerBound ?? 0
                while let data, let attribute = try NetlinkAttribute.next(in: bytes, at: &part, end: data.upperBound) {
                    if attribute.type == 2 {  // NFTA_LOG_PREFIX
                        attributes.attribute(2, text: prefix)
                    } else {
                        attributes.attribute(attribute.type, attribute.value.map { bytes.byte($0) })
                    }
                }
                copied.nest(1) {
                    $0.attribute(1, text: name)
                    $0.attribute(2, attributes.bytes)
                }
            default:
                copied.append((start..<offset).map { bytes.byte($0) })
            }
        }
        return copied.bytes
    }
}
