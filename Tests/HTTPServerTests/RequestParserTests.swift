import HTTPServer
import HTTPTypes
import Testing

private func parse(_ text: String, inPiecesOf size: Int = .max) -> RequestParser.Result {
    var parser = RequestParser()
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        parser.append(bytes.prefix(size))
        bytes = bytes.dropFirst(size)
        let result = parser.next()
        if result != .needsMore { return result }
    }
    return .needsMore
}

private func status(_ result: RequestParser.Result) -> Int? {
    if case .refused(let status, _) = result { return status.code }
    return nil
}

@Suite struct RequestParserTests {
    static let plain = "GET /paths?limit=1 HTTP/1.1\r\nHost: localhost:9100\r\nAccept: */*\r\n\r\n"

    @Test("a request is read in pieces of any size", arguments: [1, 2, 7, 1000])
    func pieces(_ size: Int) throws {
        guard case .request(let request) = parse(Self.plain, inPiecesOf: size) else {
            Issue.record("no request")
            return
        }
        #expect(request.request.method == .get && request.request.path == "/paths?limit=1")
        #expect(request.request.authority == "localhost:9100" && request.keepsAlive)
    }

    @Test func requestsThatArriveTogetherAreReadOneByOne() {
        var parser = RequestParser()
        parser.append(Array((Self.plain + "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").utf8))
        guard case .request(let first) = parser.next(), case .request(let second) = parser.next() else {
            Issue.record("not two requests")
            return
        }
        #expect(first.keepsAlive && second.request.method == .head && !second.keepsAlive)
        #expect(parser.next() == .needsMore)
    }

    struct Refusal: CustomTestStringConvertible, Sendable {
        var name: String
        var text: String
        var code: Int
        var testDescription: String { name }

        init(_ name: String, _ text: String, _ code: Int) {
            self.name = name
            self.text = text
            self.code = code
        }
    }

    static let head = "GET / HTTP/1.1\r\nHost: a\r\n"

    @Test(
        "what is not served is refused with its status",
        arguments: [
            Refusal("no request at all", "nonsense\r\n\r\n", 400), Refusal("no version", "GET /\r\n\r\n", 400),
            Refusal("HTTP/2", "GET / HTTP/2.0\r\n\r\n", 505), Refusal("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
            Refusal("two Hosts", head + "Host: b\r\n\r\n", 400), Refusal("a folded field", head + " folded: x\r\n\r\n", 400),
            Refusal("a blank in a field's name", head + "bad name: x\r\n\r\n", 400),
            Refusal("a field without a name", head + ": x\r\n\r\n", 400),
            Refusal("a control character", head + "X: \u{1}\r\n\r\n", 400),
            Refusal("a body", head + "Content-Length: 5\r\n\r\n", 413),
            Refusal("two Content-Lengths", head + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
            Refusal("a negative Content-Length", head + "Content-Length: -1\r\n\r\n", 400),
            Refusal("a chunked body", head + "Transfer-Encoding: chunked\r\n\r\n", 400),
            Refusal("a proxy's target", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            Refusal("a request line of 9 KB", "GET /" + String(repeating: "a", count: 9000), 414),
            Refusal("101 fields", "GET / HTTP/1.1\r\n" + String(repeating: "X: y\r\n", count: 101), 431),
            Refusal("a field of 40 KB", "GET / HTTP/1.1\r\nX: " + String(repeating: "y", count: 40000), 431),
        ])
    func refused(_ refusal: Refusal) {
        #expect(status(parse(refusal.text)) == refusal.code)
        #expect(status(parse(refusal.text, inPiecesOf: 100)) == refusal.code)
    }

    @Test func aRequestOfHTTP10EndsItsConnectionUnlessAskedNotTo() {
        guard case .request(let plain) = parse("GET / HTTP/1.0\r\n\r\n"),
            case .request(let kept) = parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        else {
            Issue.record("no requests")
            return
        }
        #expect(!plain.keepsAlive && kept.keepsAlive)
    }

    @Test func noBytesCrashTheParser() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        var accepted = 0
        for _ in 0..<5000 {
            var bytes = Array(Self.plain.utf8)
            for _ in 0..<random(4) { bytes[random(bytes.count)] = UInt8(random(256)) }
            var parser = RequestParser()
            while !bytes.isEmpty {
                let count = min(bytes.count, 1 + random(20))
                parser.append(bytes.prefix(count))
                bytes.removeFirst(count)
                let result = parser.next()
                if case .request = result { accepted += 1 }
                if status(result) != nil { break }
            }
        }
        #expect(accepted > 500, "seed \(seed)")
    }
}
