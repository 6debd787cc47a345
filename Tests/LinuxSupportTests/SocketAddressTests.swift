import Foundation
import Glibc
import LinuxSupport
import Testing
import TraceModel

@Suite struct SocketAddressTests {
    @Test(
        "numeric addresses of both families, and nothing else",
        arguments: [
            ("127.0.0.1", AF_INET as Int32?, [127, 0, 0, 1] as [UInt8]),
            ("::1", AF_INET6, [UInt8](repeating: 0, count: 15) + [1]),
            ("fe80::1%lo", nil, []), ("[::1]", nil, []), ("127.0.0.256", nil, []), ("localhost", nil, []), ("", nil, []),
        ])
    func numeric(_ text: String, _ family: Int32?, _ host: [UInt8]) {
        let address = SocketAddress(numeric: text, port: 9100)
        #expect(address?.family == family && address?.host ?? [] == host && address?.port == (family == nil ? nil : 9100))
        #expect(address?.address == IPAddress(text))
    }

    @Test("a path of 107 bytes fits, of 108 not, with a zero byte neither")
    func path() {
        #expect(SocketAddress(path: "/" + String(repeating: "a", count: 106))?.family == AF_UNIX)
        #expect(SocketAddress(path: "/" + String(repeating: "a", count: 107)) == nil)
        #expect(SocketAddress(path: "/a\0b") == nil)
        #expect(SocketAddress(path: "/a")?.address == nil && SocketAddress(path: "/a")?.port == 0)
    }

    @Test("a connection says the same of its ends on both sides", arguments: ["127.0.0.1", "::1"])
    func connection(_ host: String) throws {
        let any = try #require(SocketAddress(numeric: host, port: 0))
        let listener = try Owned(any.family, SOCK_STREAM)
        try #require(any.bind(listener.number) == 0 && listen(listener.number, 1) == 0)
        let bound = try #require(SocketAddress(of: listener.number))
        #expect(bound.address == IPAddress(host) && bound.port > 0)

        let client = try Owned(any.family, SOCK_STREAM)
        try #require(bound.connect(client.number) == 0)
        let (socket, peer) = try #require(SocketAddress.accept(listener.number))
        defer { close(socket) }
        #expect(peer == SocketAddress(of: client.number) && bound == SocketAddress(of: socket))

        #expect(SocketCalls.send(socket, Array("abcdef".utf8), 2..<5) == 3)
        var buffer = [UInt8](repeating: 0, count: 16)
        #expect(SocketCalls.receive(client.number, into: &buffer) == 3 && buffer.prefix(3) == Array("cde".utf8)[...])
        // A range beyond the bytes sends those that there are.
        #expect(SocketCalls.send(socket, Array("abc".utf8), 1..<9) == 2)
    }

    @Test("a datagram goes back to who sent it")
    func datagram() throws {
        let any = try #require(SocketAddress(numeric: "127.0.0.1", port: 0))
        let one = try Owned(AF_INET, SOCK_DGRAM)
        let other = try Owned(AF_INET, SOCK_DGRAM)
        try #require(any.bind(one.number) == 0 && any.bind(other.number) == 0)
        let place = try #require(SocketAddress(of: one.number))
        #expect(place.send(other.number, [1, 2, 3]) == 3)
        var buffer = [UInt8](repeating: 0, count: 8)
        let (count, sender) = try #require(SocketAddress.receive(one.number, into: &buffer))
        #expect(count == 3 && Array(buffer.prefix(3)) == [1, 2, 3] && sender == SocketAddress(of: other.number))
    }

    @Test("a port that is taken, and one where nobody listens, are error numbers")
    func errors() throws {
        let any = try #require(SocketAddress(numeric: "127.0.0.1", port: 0))
        let owner = try Owned(AF_INET, SOCK_STREAM)
        try #require(any.bind(owner.number) == 0)
        let taken = try #require(SocketAddress(of: owner.number))
        let second = try Owned(AF_INET, SOCK_STREAM)
        #expect(taken.bind(second.number) == EADDRINUSE)
        #expect(taken.connect(second.number) == ECONNREFUSED)
    }

    private final class Owned {
        let number: Int32

        init(_ family: Int32, _ kind: __socket_type) throws {
            number = socket(family, Int32(kind.rawValue), 0)
            try #require(number >= 0)
        }

        deinit { close(number) }
    }
}
