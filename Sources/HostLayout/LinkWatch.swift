package import LinuxSupport
private import Synchronization

/// Notices that interfaces of a namespace have come, gone or changed.
package final class LinkWatch: Sendable {
    private let socket: NetlinkSocket
    private let buffer = Mutex([UInt8](repeating: 0, count: 1 << 14))

    package init(_ namespace: NetworkNamespace) throws {
        // RTMGRP_LINK of linux/rtnetlink.h
        socket = try namespace.enter { try NetlinkSocket(.route, groups: 1) }
    }

    /// Whether anything was reported since the last call.
    package func hasChanged() -> Bool {
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
