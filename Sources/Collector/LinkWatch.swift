internal import Namespaces
internal import Netlink
private import Synchronization

/// Notices that interfaces of a namespace have come, gone or changed.
final class LinkWatch: Sendable {
    private let socket: NetlinkSocket
    private let buffer = Mutex([UInt8](repeating: 0, count: 1 << 14))

    init(_ namespace: NetworkNamespace) throws {
        // RTMGRP_LINK of linux/rtnetlink.h
        socket = try namespace.enter { try NetlinkSocket(.route, groups: 1) }
    }

    /// Whether anything was reported since the last call.
    func hasChanged() -> Bool {
        buffer.withLock { buffer in
            var isChanged = false
            for _ in 0..<1000 {
                switch socket.receive(into: &buffer) {
                case .nothing: return isChanged
                // An overflow: more has changed than was reported.
                case .bytes, .failed: isChanged = true
                }
            }
            return isChanged
        }
    }
}
