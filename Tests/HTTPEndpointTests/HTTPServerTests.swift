import Foundation
import Glibc
import HTTPEndpoint
import HTTPTypes
import Logging
import Testing

/// A connection that says exactly what it is told to.
private final class RawClient {
    private let descriptor: Int32

    init(_ address: ListenAddress) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = address.port.bigEndian
        target.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = unsafe withUnsafePointer(to: &target) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(status == 0)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// Reads until the text holds `end`, or to the end of the connection.
    func receive(until end: String? = nil) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
            let text = String(decoding: bytes, as: UTF8.self)
            if let end, text.contains(end) { return text }
        }
    }
}

/// Runs `body`, which waits in system calls, on a thread of its own: the server's slow answers need those of Swift's pool.
private func withServer(
    _ limits: HTTPServer.Limits = HTTPServer.Limits(), _ body: @escaping @Sendable (ListenAddress) throws -> Void
) async throws {
    let server = try HTTPServer(try ListenAddress("127.0.0.1:0"), limits: limits, logger: Logger(label: "test")) { request in
        switch request.path {
        case "/slow":
            return .later {
                try? await Task.sleep(for: .milliseconds(50))
                return EndpointResponse(status: .ok, contentType: "text/plain", body: Array("slow\n".utf8))
            }
        case "/large":
            return .now(EndpointResponse(status: .ok, contentType: "text/plain", body: [UInt8](repeating: 65, count: 4 << 20)))
        case "/": return .now(EndpointResponse(status: .ok, contentType: "text/plain", body: Array("hello\n".utf8)))
        default: return .now(.problem(.notFound, "no such \"thing\""))
        }
    }
    defer { server.stop() }
    let address = server.address
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        Thread.detachNewThread { continuation.resume(with: Result { try body(address) }) }
    }
}

@Suite struct HTTPServerTests {
    @Test func oneConnectionServesOneRequestAfterTheOther() async throws {
        try await withServer { address in
            let client = try RawClient(address)
            for path in ["/", "/slow", "/"] {
                client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
                #expect(client.receive(until: path == "/slow" ? "slow\n" : "hello\n").hasPrefix("HTTP/1.1 200 OK\r\n"))
            }
        }
    }

    @Test func requestsSentAtOnceAreAnsweredInOrder() async throws {
        try await withServer { address in
            let client = try RawClient(address)
            let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.send(
                "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n" + request
                    + "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            let answer = client.receive()
            let order = ["slow\n", "hello\n", "404"].compactMap { answer.range(of: $0)?.lowerBound }
            #expect(order.count == 3 && order == order.sorted())
        }
    }

    @Test func headHasTheLengthAndNoBody() async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            let answer = client.receive()
            #expect(answer.contains("Content-Length: 6\r\n") && answer.hasSuffix("\r\n\r\n"))
        }
    }

    @Test func aLargeAnswerArrivesWhole() async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            #expect(client.receive().utf8.count > 4 << 20)
        }
    }

    @Test(
        "errors have their status and say why in JSON",
        arguments: [
            ("GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "no such \\\"thing\\\""),
            ("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 405", "only GET and HEAD"),
            ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 421", "names another machine"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "HTTP/1.1 421", "names another machine"),
            ("nonsense\r\n\r\n", "HTTP/1.1 400", "not an HTTP request line"),
        ])
    func errors(_ request: String, _ head: String, _ message: String) async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send(request)
            let answer = client.receive()
            #expect(answer.hasPrefix(head) && answer.contains("{\"error\":{\"message\":\"") && answer.contains(message))
            if head.hasSuffix("405") { #expect(answer.contains("Allow: GET, HEAD\r\n")) }
        }
    }

    @Test(
        "the machine's own names are served",
        arguments: ["localhost", "localhost:9100", "127.0.0.1:1", "[::1]:9100", "192.168.1.9"])
    func ownHosts(_ host: String) async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send("GET / HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
            #expect(client.receive().hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func aHeadThatTricklesInIsCutOffAtAnAbsoluteDeadline() async throws {
        var limits = HTTPServer.Limits()
        limits.head = 0.3
        try await withServer(limits) { address in
            let client = try RawClient(address)
            for character in "GET / HTTP/1.1\r\n" {
                client.send(String(character))
                usleep(30_000)
            }
            #expect(client.receive().hasPrefix("HTTP/1.1 408"))
        }
    }

    @Test func connectionsPastTheLimitAreTurnedAway() async throws {
        var limits = HTTPServer.Limits()
        limits.connectionsPerAddress = 2
        try await withServer(limits) { address in
            let held = [try RawClient(address), try RawClient(address)]
            for client in held {
                client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                #expect(client.receive(until: "hello\n").hasPrefix("HTTP/1.1 200"))
            }
            // The others stay open until here.
            try withExtendedLifetime(held) {
                let third = try RawClient(address)
                #expect(third.receive().hasPrefix("HTTP/1.1 503"))
            }
        }
    }

    @Test func aPortThatIsTakenIsAnErrorThatNamesTheWayOut() async throws {
        try await withServer { address in
            #expect(throws: EndpointError.inUse(address)) {
                try HTTPServer(address, logger: Logger(label: "test")) { _ in .now(.problem(.notFound, "")) }
            }
            #expect("\(EndpointError.inUse(address))".contains("--listen 127.0.0.1:"))
        }
    }

    @Test(
        "addresses that are none are refused",
        arguments: ["9100", "localhost", "127.0.0.1:99999", "example.org:80", "[::1:80", ":9100"])
    func invalidAddresses(_ text: String) {
        #expect(throws: EndpointError.invalidAddress(text)) { try ListenAddress(text) }
    }
}
