package import LinuxSupport
package import TraceModel
internal import WireFormat

/// Asks the kernel which route a namespace has for a packet (`RTM_GETROUTE`), and reads the namespace's tables and rules to explain the
/// answer: the rule that chose the table, and the shorter prefixes that fit as well.
package final class RoutingTables {
    private let socket: NetlinkSocket
    private let interfaces: [UInt32: Interface]
    /// By family; `nil` where there are too many to read.
    private var contents: [AddressFamily: RoutingContents?] = [:]

    /// A router with all networks of the Internet has a million routes: more than this many are not read.
    private static let mostEntries = 1 << 12

    /// - Parameter interfaces: of the namespace, by index.
    package init(of namespace: NetworkNamespace, interfaces: [UInt32: Interface]) throws {
        socket = try namespace.enter { try NetlinkSocket(.route) }
        self.interfaces = interfaces
    }

    /// - Throws: where the kernel does not answer; that there is no route is an answer.
    package func decide(_ lookup: RouteLookup) throws(NetlinkError) -> RoutingDecision {
        let contents = try contents(lookup.tuple.destination.family)
        let expected = contents.map { $0.choice(lookup, interfaceName(lookup.inInterface)) }
        var message: RouteMessage?
        do {
            try socket.ask(Self.request(lookup), operation: "look up a route") { (bytes, header) throws(ParseError) in
                if header.type == RouteMessage.newRoute { message = try RouteMessage(parsing: bytes, body: header.body) }
            }
        } catch {
            guard let failure = Self.failure(error.code, expected) else { throw error }
            // The entry and the rule from the tables are told only where the tables give the same failure as the kernel.
            let cause = expected.flatMap { $0.failure == failure ? $0 : nil }
            return RoutingDecision(route: cause?.route.map(describe), failure: failure, rule: cause?.rule?.text)
        }
        guard var message else { throw NetlinkError(operation: "look up a route", code: 74) }  // EBADMSG
        // The tables `local` and `main` are one to the kernel as long as no rules are added (fib_trie.c), which then calls it `main`.
        let isExplained = expected?.route.map {
            $0.destination == message.destination && $0.type == message.type
                && ($0.table == message.table || $0.tableName == "local")
        }
        if isExplained == true, let table = expected?.route?.table { message.table = table }
        return RoutingDecision(
            route: describe(message), preferredSource: message.preferredSource.map { "\($0)" },
            rule: isExplained == true ? expected?.rule?.text : nil,
            passedOver: isExplained == true ? expected?.passedOver.map(describe) : nil)
    }

    /// A message that asks for the entry of a table (`RTM_F_FIB_MATCH`), as `ip route get fibmatch` does.
    private static func request(_ lookup: RouteLookup) -> [UInt8] {
        let tuple = lookup.tuple
        let width: UInt8 = tuple.destination.family == .ipv4 ? 32 : 128
        var request = NetlinkRequest()
        // RTM_GETROUTE, struct rtmsg with RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH
        request.append(
            type: 26, flags: [.request, .acknowledge],
            body: [tuple.destination.family.rawValue, width, width, 0, 0, 0, 0, 0, 0, 0x30, 0, 0]
        ) {
            $0.attribute(1, tuple.destination.octets)  // RTA_DST
            $0.attribute(2, tuple.source.octets)  // RTA_SRC
            if lookup.inInterface != 0 { $0.attribute(3, native: lookup.inInterface) }  // RTA_IIF
            if lookup.mark != 0 { $0.attribute(16, native: lookup.mark) }  // RTA_MARK
            // The kernel takes no other protocols (fib_notifier.h, rtm_getroute_parse_ip_proto).
            guard tuple.transport == TransportProtocol.tcp || tuple.transport == TransportProtocol.udp else { return }
            $0.attribute(27, [tuple.transport])  // RTA_IP_PROTO
            if tuple.sourcePort != 0 { $0.attribute(28, big: tuple.sourcePort) }  // RTA_SPORT
            if tuple.destinationPort != 0 { $0.attribute(29, big: tuple.destinationPort) }  // RTA_DPORT
        }
        return request.bytes
    }

    /// What an error number of a look-up means (`fib_props` in net/ipv4/fib_semantics.c); `nil` for those that are none of the
    /// tables'.
    private static func failure(_ code: Int32, _ expected: RoutingContents.Choice?) -> RoutingDecision.Failure? {
        switch code {
        case 101: .noRoute  // ENETUNREACH
        case 113: .unreachable  // EHOSTUNREACH
        case 13: .prohibited  // EACCES
        case 18: .source  // EXDEV
        // EINVAL, for a source that is none, too.
        case 22: expected?.failure == .blackhole ? .blackhole : .source
        default: nil
        }
    }

    private func contents(_ family: AddressFamily) throws(NetlinkError) -> RoutingContents? {
        if let known = contents[family] { return known }
        var read = RoutingContents()
        var count = 0
        do {
            // RTM_GETRULE with struct fib_rule_hdr, RTM_GETROUTE with struct rtmsg
            for (type, name) in [(UInt16(34), "rules"), (26, "routes")] {
                var request = NetlinkRequest()
                request.append(
                    type: type, flags: [.request, .dump], body: [family.rawValue] + [UInt8](repeating: 0, count: 11))
                try socket.ask(request.bytes, operation: "list routing \(name)") { (bytes, header) throws(ParseError) in
                    count += 1
                    if count > Self.mostEntries { throw .invalidLength(offset: 0, value: count) }
                    if header.type == RouteMessage.newRoute {
                        if let route = try RouteMessage(parsing: bytes, body: header.body) { read.routes.append(route) }
                    } else if header.type == PolicyRuleMessage.newRule {
                        if let rule = try PolicyRuleMessage(parsing: bytes, body: header.body) { read.rules.append(rule) }
                    }
                }
            }
        } catch {
            guard count > Self.mostEntries else { throw error }
            contents[family] = .some(nil)
            return nil
        }
        contents[family] = read
        return read
    }

    private func interfaceName(_ index: UInt32) -> String? { index == 0 ? nil : interfaces[index]?.name ?? "if\(index)" }

    private func describe(_ message: RouteMessage) -> Route {
        Route(
            prefix: "\(message.destination)", type: message.typeName,
            nextHops: message.nextHops.map {
                Route.NextHop(gateway: $0.gateway.map { "\($0)" }, device: interfaceName($0.interface))
            },
            table: message.tableName, metric: message.metric == 0 ? nil : message.metric)
    }
}

extension IPAddress {
    /// In network order.
    fileprivate var octets: [UInt8] {
        func bytes(_ word: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64($0))) } }
        return family == .ipv4 ? Array(bytes(low).suffix(4)) : bytes(high) + bytes(low)
    }
}
