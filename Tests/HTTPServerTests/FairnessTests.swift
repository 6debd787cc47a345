import Foundation
import Glibc
import HTTPServer
import Testing

/// Clients among themselves: none waits for another, none locks another out.
@Suite struct FairnessTests {
    struct Pipeline: CustomTestStringConvertible, Sendable {
        var path: String
        var isReading: Bool

        var testDescription: String { "\(path), answers \(isReading ? "" : "not ")read" }
    }

    @Test(
        "with 1000 requests of one client outstanding, another gets its answers in between",
        arguments: ["/busy", "/work", "/large", "/huge"].flatMap {
            [Pipeline(path: $0, isReading: true), Pipeline(path: $0, isReading: false)]
        })
    func pipelining(_ pipeline: Pipeline) async throws {
        try await withServer { address, backstage in
            let other = try RawClient(address)
            other.ask("/")
            _ = other.receive(until: "hello\n")
            let greedy = try RawClient(address)
            greedy.ask(pipeline.path, times: 1000)
            if pipeline.isReading {
                // Until the server stops.
                Thread.detachNewThread { _ = greedy.receive(until: "the end") }
            }
            backstage.wait(for: 1, of: pipeline.path)
            for (path, answer) in [("/", "hello\n"), ("/slow", "slow\n"), ("/work", "work\n"), ("/", "hello\n")] {
                other.ask(path)
                #expect(other.receive(until: answer).hasPrefix("HTTP/1.1 200"))
            }
            #expect(backstage.count(pipeline.path) < 500)
            withExtendedLifetime(greedy) {}
        }
    }

    @Test("requests of one connection are made by workers one at a time, in their order")
    func oneAtATime() async throws {
        try await withServer { address, backstage in
            let client = try RawClient(address)
            client.ask("/held")
            client.ask("/work", times: 3)
            client.ask("/", closing: true)
            backstage.wait(for: 1, of: "/held")
            usleep(50_000)
            #expect(backstage.count("/work") == 0)
            backstage.open()
            let answer = client.receive()
            #expect(
                answer.split(whereSeparator: \.isNewline).filter { ["held", "work", "hello"].contains($0) }
                    == ["held", "work", "work", "work", "hello"])
        }
    }

    @Test("large answers being made hold up no small ones")
    func largeAnswers() async throws {
        try await withServer { address, backstage in
            let clients = try (0..<3).map { _ in try RawClient(address) }
            for client in clients { client.ask("/huge", closing: true) }
            backstage.wait(for: 3, of: "/huge")
            let other = try RawClient(address)
            for (path, answer) in [("/", "hello\n"), ("/slow", "slow\n"), ("/work", "work\n")] {
                other.ask(path)
                #expect(other.receive(until: answer).hasPrefix("HTTP/1.1 200"))
            }
            // One worker makes them, one after the other.
            #expect(backstage.count("making") == 1)
            backstage.open()
            for client in clients { #expect(client.receive().hasSuffix("huge\n")) }
        }
    }

    // MARK: Room for newcomers

    struct Crowd: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var addresses: ClosedRange<UInt32>
        var each: Int
        var hasAsked: Bool
    }

    @Test(
        "idle connections do not lock out a newcomer",
        arguments: [
            Crowd(testDescription: "64 silent of its own address", addresses: 1...1, each: 64, hasAsked: false),
            Crowd(testDescription: "64 kept alive of its own address", addresses: 1...1, each: 64, hasAsked: true),
            Crowd(testDescription: "256 silent of its own address", addresses: 1...1, each: 256, hasAsked: false),
            Crowd(testDescription: "256 silent of four others", addresses: 2...5, each: 64, hasAsked: false),
            Crowd(testDescription: "256 kept alive of four others", addresses: 2...5, each: 64, hasAsked: true),
        ])
    func idleCrowd(_ crowd: Crowd) async throws {
        try await withServer { address, _ in
            var clients: [RawClient] = []
            for source in crowd.addresses {
                for _ in 0..<crowd.each {
                    let client = try RawClient(address, from: source)
                    if crowd.hasAsked {
                        client.ask("/")
                        #expect(client.receive(until: "hello\n").hasPrefix("HTTP/1.1 200"))
                    }
                    clients.append(client)
                }
            }
            for _ in 0..<3 {
                let newcomer = try RawClient(address)
                newcomer.ask("/slow")
                #expect(newcomer.receive(until: "slow\n").hasPrefix("HTTP/1.1 200"))
                clients.append(newcomer)
            }
        }
    }

    private static func limits(_ connections: Int) -> Server.Limits {
        var limits = Server.Limits()
        limits.connectionsPerAddress = connections
        return limits
    }

    @Test("at its cap an address loses the connection that has been idle for longest, others lose none")
    func longestIdle() async throws {
        try await withServer(Self.limits(3)) { address in
            let stranger = try RawClient(address, from: 2)
            let clients = try (0..<3).map { _ in try RawClient(address) }
            for client in [stranger] + clients + [clients[0]] {
                client.ask("/")
                _ = client.receive(until: "hello\n")
            }
            var newcomers: [RawClient] = []
            for expected in [1, 2] {
                let newcomer = try RawClient(address)
                newcomer.ask("/")
                #expect(newcomer.receive(until: "hello\n").hasPrefix("HTTP/1.1 200"))
                #expect(clients[expected].isClosedByServer)
                newcomers.append(newcomer)
            }
            for client in [stranger, clients[0]] + newcomers {
                client.ask("/")
                #expect(client.receive(until: "hello\n").hasPrefix("HTTP/1.1 200"))
            }
        }
    }

    /// State in which a connection is left.
    enum Middle: String, CaseIterable, Sendable {
        case head, answerBeingMade, answerBeingWritten

        func begin(_ client: RawClient, _ backstage: Backstage) {
            switch self {
            case .head: client.send("GET / HTTP/1.1\r\n")
            case .answerBeingMade:
                client.ask("/held")
                backstage.wait(for: 1, of: "/held")
            case .answerBeingWritten:
                client.ask("/large")
                backstage.wait(for: 1, of: "/large")
            }
            usleep(20_000)
        }

        /// - Returns: whether the answer arrives whole.
        func end(_ client: RawClient, _ backstage: Backstage) -> Bool {
            backstage.open()
            switch self {
            case .head:
                client.send("Host: localhost\r\n\r\n")
                return client.receive(until: "hello\n").hasSuffix("hello\n")
            case .answerBeingMade: return client.receive(until: "held\n").hasSuffix("held\n")
            case .answerBeingWritten:
                client.ask("/", closing: true)
                return client.receive().utf8.count > 4 << 20
            }
        }
    }

    @Test(
        "a connection in the middle of something outlives idle ones when room is needed",
        arguments: Middle.allCases)
    func middle(_ middle: Middle) async throws {
        var limits = Self.limits(2)
        // Longer than this test.
        limits.pause = 100
        try await withServer(limits) { address, backstage in
            let busy = try RawClient(address)
            middle.begin(busy, backstage)
            let idle = try RawClient(address)
            let newcomer = try RawClient(address)
            newcomer.ask("/held")
            #expect(idle.isClosedByServer)
            #expect(middle.end(busy, backstage))
            #expect(newcomer.receive(until: "held\n").hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("where all connections are being answered a newcomer is refused with Retry-After")
    func allBusy() async throws {
        try await withServer(Self.limits(2)) { address, backstage in
            let busy = try (0..<2).map { _ in try RawClient(address) }
            for client in busy { client.ask("/held") }
            backstage.wait(for: 2, of: "/held")
            let newcomer = try RawClient(address)
            newcomer.ask("/")
            let answer = newcomer.receive()
            #expect(answer.hasPrefix("HTTP/1.1 503") && answer.contains("Retry-After: 1\r\n"))
            backstage.open()
            for client in busy { #expect(client.receive(until: "held\n").hasSuffix("held\n")) }
        }
    }

    @Test(
        "where nobody is idle a client gives way whose head is incomplete, or who has paused within an answer",
        arguments: [Middle.head, .answerBeingWritten])
    func paused(_ middle: Middle) async throws {
        var limits = Self.limits(2)
        limits.pause = 0.1
        try await withServer(limits) { address, backstage in
            let slow = try (0..<2).map { _ in try RawClient(address) }
            for client in slow { middle.begin(client, backstage) }
            // Until the server has read the heads, or noticed that nobody takes the answers, it may have no room.
            var answer = ""
            for _ in 0..<30 where !answer.hasPrefix("HTTP/1.1 200") {
                usleep(200_000)
                let newcomer = try RawClient(address)
                newcomer.ask("/slow")
                answer = newcomer.receive(until: "slow\n")
            }
            #expect(answer.hasPrefix("HTTP/1.1 200"))
            withExtendedLifetime(slow) {}
        }
    }

    @Test("where nobody is idle a client that pipelines gives way")
    func pipeliningGivesWay() async throws {
        try await withServer(Self.limits(2)) { address, backstage in
            let greedy = try (0..<2).map { _ in try RawClient(address) }
            for client in greedy { client.ask("/held", times: 3) }
            backstage.wait(for: 2, of: "/held")
            let newcomer = try RawClient(address)
            newcomer.ask("/slow")
            #expect(newcomer.receive(until: "slow\n").hasPrefix("HTTP/1.1 200"))
            withExtendedLifetime(greedy) {}
        }
    }

    @Test("where all connections are being answered clients give way that have closed theirs")
    func leftGivesWay() async throws {
        try await withServer(Self.limits(2)) { address, backstage in
            do {
                let gone = try (0..<2).map { _ in try RawClient(address) }
                for client in gone { client.ask("/held") }
                backstage.wait(for: 2, of: "/held")
            }
            let newcomer = try RawClient(address)
            newcomer.ask("/")
            #expect(newcomer.receive(until: "hello\n").hasPrefix("HTTP/1.1 200"))
        }
    }

    // MARK: Bounds

    @Test("an answer whose connection has closed is not made")
    func abandoned() async throws {
        try await withServer { address, backstage in
            let first = try RawClient(address)
            first.ask("/huge")
            backstage.wait(for: 1, of: "making")
            for count in 2...4 {
                let other = try RawClient(address)
                other.ask("/huge")
                backstage.wait(for: count, of: "/huge")
                other.reset()
            }
            usleep(50_000)
            backstage.open()
            #expect(first.receive(until: "huge\n").hasPrefix("HTTP/1.1 200"))
            let last = try RawClient(address)
            last.ask("/huge", closing: true)
            #expect(last.receive().hasSuffix("huge\n"))
            #expect(backstage.count("making") == 2)
        }
    }

    @Test("answers past the bound are refused with Retry-After, on a connection that stays", arguments: ["/held", "/huge"])
    func tooMany(_ path: String) async throws {
        var limits = Server.Limits()
        limits.smallAnswers = 1
        limits.largeAnswers = 1
        try await withServer(limits) { address, backstage in
            let first = try RawClient(address)
            first.ask(path, closing: true)
            backstage.wait(for: 1, of: path)
            let second = try RawClient(address)
            second.ask(path)
            let answer = second.receive(until: "}}\n")
            #expect(answer.hasPrefix("HTTP/1.1 503") && answer.contains("Retry-After: 1\r\n"))
            backstage.open()
            #expect(first.receive().hasPrefix("HTTP/1.1 200"))
            second.ask(path, closing: true)
            #expect(second.receive().hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("while clients leave many bytes untaken no large answer is begun, small ones are")
    func untakenBytes() async throws {
        var limits = Server.Limits()
        limits.untakenBytes = 1 << 20
        try await withServer(limits) { address, backstage in
            backstage.open()
            let reader = try RawClient(address)
            let lazy = try (0..<3).map { _ in try RawClient(address) }
            for client in lazy { client.ask("/large", times: 3) }
            backstage.wait(for: 3, of: "/large")
            usleep(50_000)
            reader.ask("/huge")
            #expect(reader.receive(until: "}}\n").hasPrefix("HTTP/1.1 503"))
            reader.ask("/work")
            #expect(reader.receive(until: "work\n").hasPrefix("HTTP/1.1 200"))
            withExtendedLifetime(lazy) {}
        }
    }

    @Test("an answer that takes too long ends in 503, and comes too late for the connection")
    func tooLong() async throws {
        var limits = Server.Limits()
        limits.answer = 0.1
        try await withServer(limits) { address, _ in
            let client = try RawClient(address)
            client.ask("/held")
            let answer = client.receive()
            #expect(answer.hasPrefix("HTTP/1.1 503") && answer.hasSuffix("}}\n"))
        }
    }
}
