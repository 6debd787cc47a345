package import LinuxSupport
internal import Synchronization

/// Notices that a namespace's routes, routing rules, addresses or interfaces have changed.
package final class RouteWatch: Sendable {
    private struct State {
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        var steadySince: Int64
        var lastLook: Int64
    }

    private let socket: NetlinkSocket
    private let clock: @Sendable () -> Int64
    private let state: Mutex<State>

    /// - Parameter clock: microseconds since 1970, as events have them.
    package init(_ namespace: NetworkNamespace, clock: @escaping @Sendable () -> Int64) throws {
        // RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE of linux/rtnetlink.h, and the bit of
        // RTNLGRP_IPV6_RULE (19). Where an interface goes down its routes go without a notice of their own.
        socket = try namespace.enter { try NetlinkSocket(.route, groups: 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18) }
        self.clock = clock
        let now = clock()
        state = Mutex(State(steadySince: now, lastLook: now))
    }

    /// Since when nothing has changed, as far as `look` has found: microseconds since 1970.
    package var steadySince: Int64 { state.withLock { $0.steadySince } }

    /// - Returns: where something has changed since the last look, when that look began; `nil` where nothing has.
    package func look() -> Int64? {
        state.withLock { state in
            let begun = clock()
            var isChanged = false
            // The rest is for the next look.
            drain: for _ in 0..<1000 {
                switch socket.receive(into: &state.buffer) {
                case .nothing: break drain
                // An overflow: more has changed than was reported.
                case .bytes, .failed: isChanged = true
                }
            }
            defer { state.lastLook = begun }
            guard isChanged else { return nil }
            state.steadySince = clock()
            return state.lastLook
        }
    }
}
