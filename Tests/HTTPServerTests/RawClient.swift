import Foundation
import Glibc
import HTTPServer
import HTTPTypes
import Logging
import Synchronization
import Testing

/// A connection that sends exactly the bytes given.
final class RawClient: Sendable {
    private let descriptor: Int32

    /// - Parameter source: last byte of the address in 127.0.0.0/24 that it connects from.
    init(_ address: ListenAddress, from source: UInt32 = 1) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var own = Self.loopback(source, port: 0)
        var target = Self.loopback(1, port: address.port)
        let bound = unsafe Self.pass(&own) { unsafe bind(descriptor, $0, $1) }
        let connected = unsafe Self.pass(&target) { unsafe connect(descriptor, $0, $1) }
        try #require(bound == 0 && connected == 0)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    private static func loopback(_ last: UInt32, port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = (0x7F00_0000 + last).bigEndian
        return address
    }

    private static func pass(_ address: inout sockaddr_in, to call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// Asks for a path, once or several times in one write.
    func ask(_ path: String, times: Int = 1, closing: Bool = false) {
        let request = "GET \(path) HTTP/1.1\r\nHost: localhost\r\n\(closing ? "Connection: close\r\n" : "")\r\n"
        send(String(repeating: request, count: times))
    }

    /// Reads until the text holds `end`, or to the end of the connection.
    func receive(until end: String? = nil) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
            guard let end else { continue }
            let text = String(decoding: bytes, as: UTF8.self)
            if text.contains(end) { return text }
        }
    }

    /// Whether the server has closed the connection; false where it has not within 20 s: the machine may be busy.
    var isClosedByServer: Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        var byte: UInt8 = 0
        return unsafe poll(&entry, 1, 20_000) == 1 && recv(descriptor, &byte, 1, Int32(MSG_PEEK)) <= 0
    }

    /// Closes so that the server gets a reset.
    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        // The number stays taken until the end, so that nobody else's is closed then.
        let other = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        dup2(other, descriptor)
        close(other)
    }
}

/// A test's control over its server's answers.
final class Backstage: Sendable {
    private let counts = Mutex<[String: Int]>([:])
    private let isOpen = Mutex(false)

    /// Lets answers of `/held` and `/huge` go on.
    func open() { isOpen.withLock { $0 = true } }

    func count(_ path: String) -> Int { counts.withLock { $0[path, default: 0] } }

    /// Waits until a path was asked for so many times.
    func wait(for count: Int, of path: String) {
        for _ in 0..<5000 where self.count(path) < count { usleep(1000) }
    }

    func answer(_ request: HTTPRequest) -> EndpointAnswer {
        let path = request.path ?? ""
        note(path)
        switch path {
        case "/": return .now(Self.text("hello\n"))
        case "/busy":
            usleep(1000)
            return .now(Self.text("busy\n"))
        case "/large": return .now(Self.text(String(repeating: "A", count: 4 << 20)))
        case "/slow":
            return .later {
                try? await Task.sleep(for: .milliseconds(50))
                return Self.text("slow\n")
            }
        case "/work":
            return .later { [self] in
                note("working")
                usleep(5000)
                return Self.text("work\n")
            }
        case "/held":
            return .later { [self] in
                while !isOpen.withLock({ $0 }), !Task.isCancelled { try? await Task.sleep(for: .milliseconds(2)) }
                return Self.text("held\n")
            }
        case "/huge":
            return .later(.large) { [self] in
                note("making")
                // Keeps its thread, as rendering does.
                while !isOpen.withLock({ $0 }) { usleep(2000) }
                return Self.text(String(repeating: "B", count: 2 << 20) + "huge\n")
            }
        default: return .now(.problem(.notFound, "no such \"thing\""))
        }
    }

    private func note(_ path: String) { counts.withLock { $0[path, default: 0] += 1 } }

    private static func text(_ text: String) -> EndpointResponse {
        EndpointResponse(status: .ok, contentType: "text/plain", body: Array(text.utf8))
    }
}

/// Runs `body`, which waits in system calls, on a thread of its own: the server's slow answers need those of Swift's pool.
func withServer(
    _ limits: Server.Limits = Server.Limits(),
    _ body: @escaping @Sendable (ListenAddress, Backstage) throws -> Void
) async throws {
    let backstage = Backstage()
    let server = try Server(
        try ListenAddress("127.0.0.1:0"), limits: limits, logger: Logger(label: "test"),
        handler: { backstage.answer($0) })
    defer {
        backstage.open()
        server.stop()
    }
    let address = server.address
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        Thread.detachNewThread { continuation.resume(with: Result { try body(address, backstage) }) }
    }
}

func withServer(
    _ limits: Server.Limits = Server.Limits(), _ body: @escaping @Sendable (ListenAddress) throws -> Void
) async throws {
    try await withServer(limits) { address, _ in try body(address) }
}
