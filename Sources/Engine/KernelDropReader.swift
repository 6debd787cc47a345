package import LinuxSupport
package import TraceModel
package import WireFormat

/// Puts together what the kernel's tracepoints tell of one dropped packet: the drop has a reason and no addresses; what the kernel did
/// about the packet just before, on the same processor, has the addresses.
package struct KernelDropReader {
    /// The latest events of a processor that give addresses.
    private struct Recent {
        var about: (packet: UInt64, endpoints: KernelDrop.Endpoints, time: UInt64)?
        var failure: (endpoints: KernelDrop.Endpoints, error: Int32, time: UInt64, isOfNetwork: Bool)?
        /// A look-up in the table of local addresses: each packet for another namespace fails there, and each answer.
        var local: (endpoints: KernelDrop.Endpoints, time: UInt64, isOfNetwork: Bool)?
    }

    private struct Place: Hashable {
        var location: UInt64
        var reason: UInt32
        var route: KernelDecision.RouteFailure?
    }

    private let symbols: KernelSymbols
    private let reasons: [UInt32: String]
    /// By processor.
    private var recent: [Recent] = []
    /// One object for all drops of a reason.
    private var decisions: [Place: KernelDecision] = [:]
    /// Whether the function at an address looks routes up.
    private var lookingUp: [UInt64: Bool] = [:]
    private static let mostDecisions = 1 << 12
    /// Nanoseconds between an event that gives a packet's addresses and the packet's drop: one call of the kernel makes both, and may be
    /// interrupted in between.
    private static let reach: UInt64 = 1_000_000
    /// RT_TABLE_LOCAL of linux/rtnetlink.h.
    private static let localTable: UInt32 = 255

    /// - Parameter reasons: names of drop reasons.
    package init(symbols: KernelSymbols, reasons: [UInt32: String]) {
        self.symbols = symbols
        self.reasons = reasons
    }

    /// Takes one event.
    ///
    /// - Parameter offset: what to add to its time, in microseconds, for microseconds since 1970.
    /// - Returns: the drop, where it is one.
    package mutating func take(_ event: KernelTraceEvent, processor: Int, offset: Int64) -> KernelDrop? {
        while recent.count <= processor { recent.append(Recent()) }
        switch event.content {
        case .about(let packet, let endpoints):
            recent[processor].about = (packet, endpoints, event.time)
        case .lookUp(let endpoints, Self.localTable, _):
            recent[processor].local = (endpoints, event.time, event.isOfNetwork)
        case .lookUp(let endpoints, _, let error):
            recent[processor].failure = (endpoints, error, event.time, event.isOfNetwork)
        case .dropped(let packet, let family, let location, let reason):
            let known = recent[processor]
            recent[processor] = Recent()
            func isOfThis(_ time: UInt64) -> Bool { event.time >= time && event.time - time <= Self.reach }
            var endpoints: KernelDrop.Endpoints?
            var route: KernelDecision.RouteFailure?
            if let about = known.about, about.packet == packet, isOfThis(about.time) { endpoints = about.endpoints }
            if known.failure != nil || known.local != nil, looksUp(location) {
                if let failure = known.failure, failure.isOfNetwork == event.isOfNetwork, isOfThis(failure.time) {
                    // The reverse path is looked up the other way round.
                    let isReverse = reasons[reason] == "IP_RPFILTER"
                    endpoints = endpoints ?? (isReverse ? failure.endpoints.reversed : failure.endpoints)
                    route = Self.route(failure.error, family, reasons[reason] ?? "")
                } else if let local = known.local, local.isOfNetwork == event.isOfNetwork, isOfThis(local.time) {
                    // An answer to the packet was looked up.
                    endpoints = endpoints ?? local.endpoints.reversed
                }
            }
            return KernelDrop(
                time: Int64(clamping: event.time / 1000) &+ offset, family: family,
                decision: decision(Place(location: location, reason: reason, route: route)), endpoints: endpoints)
        }
        return nil
    }

    /// Events of a processor are missing.
    package mutating func noteLoss(processor: Int) {
        if processor < recent.count { recent[processor] = Recent() }
    }

    private mutating func decision(_ place: Place) -> KernelDecision {
        if let known = decisions[place] { return known }
        if decisions.count >= Self.mostDecisions { decisions.removeAll() }
        let made = KernelDecision(
            reason: reasons[place.reason] ?? "REASON_\(place.reason)", function: name(place.location), route: place.route)
        decisions[place] = made
        return made
    }

    /// Without what the compiler adds to functions that it has changed: `ip_forward.constprop.0`.
    private func name(_ location: UInt64) -> String { symbols.name(at: location).map { String($0.prefix { $0 != "." }) } ?? "" }

    /// Whether a function drops packets because of a look-up of theirs, or looks one up for its answer.
    private mutating func looksUp(_ location: UInt64) -> Bool {
        if let known = lookingUp[location] { return known }
        let function = name(location)
        let looks = ["ip_error", "ip_rcv_finish", "dst_discard", "ip6_pkt_", "ip6_forward", "__udp6_lib_rcv", "tcp_v6_rcv"]
            .contains {
                function.hasPrefix($0)
            }
        if lookingUp.count < Self.mostDecisions { lookingUp[location] = looks }
        return looks
    }

    /// By the errors that `fib_props` in net/ipv4/fib_semantics.c and `ip6_rt_type_to_error` in net/ipv6/route.c give to types of routes.
    /// IPv6 has one for no route at all and for one that says unreachable.
    private static func route(_ error: Int32, _ family: AddressFamily, _ reason: String) -> KernelDecision.RouteFailure? {
        // Others tell nothing of the packet's own route.
        guard ["NOT_SPECIFIED", "IP_INNOROUTES", "IP_INADDRERRORS"].contains(reason) else { return nil }
        return switch (error, family) {
        case (-22, _): .blackhole
        case (-13, _): .prohibit
        case (-113, .ipv4): .unreachable
        case (-11, .ipv4): .noRoute
        default: nil
        }
    }
}
