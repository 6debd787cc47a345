import Foundation
import HTTPServer
import HTTPTypes
import Logging
import Testing

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
            ("GET / HTTP/1.1\r\nHost: localhost:x@evil\r\n\r\n", "HTTP/1.1 400", "no host with an optional port"),
            ("GET / HTTP/1.1\r\nHost: [::1]evil\r\n\r\n", "HTTP/1.1 400", "no host with an optional port"),
            ("GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n", "HTTP/1.1 400", "no host with an optional port"),
            ("GET / HTTP/1.1\r\nHost: user@127.0.0.1\r\n\r\n", "HTTP/1.1 400", "no host with an optional port"),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "HTTP/1.1 400", "no host with an optional port"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1x\r\n\r\n", "HTTP/1.1 421", "names another machine"),
            ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 421", "names another machine"),
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
        arguments: [
            "localhost", "localhost:9100", "LOCALHOST:9100", "localhost:", "127.0.0.1:1", "[::1]:9100", "[fe80::1%eth0]",
            "192.168.1.9",
        ])
    func ownHosts(_ host: String) async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send("GET / HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
            #expect(client.receive().hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test(
        "a target in absolute form is answered for its own path and authority",
        arguments: ["http://127.0.0.1:9100/", "HTTP://localhost"])
    func absoluteForm(_ target: String) async throws {
        try await withServer { address in
            let client = try RawClient(address)
            client.send("GET \(target) HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            #expect(client.receive().hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func aHeadThatTricklesInIsCutOffAtAnAbsoluteDeadline() async throws {
        var limits = Server.Limits()
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

    @Test func aPortThatIsTakenIsAnErrorThatNamesTheWayOut() async throws {
        try await withServer { address in
            #expect(throws: EndpointError.inUse(address)) {
                try Server(address, logger: Logger(label: "test")) { _ in .now(.problem(.notFound, "")) }
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
