import Glibc
import LinuxSupport
import Testing
import WireFormat

/// Plays an exchange: what is received, one after the other, and what was sent.
final class ScriptedTransport: NetlinkTransport {
    enum Step {
        case datagram([UInt8])
        case failure(Int32)
        /// Readable, and then nothing there.
        case nothing
        case silence
    }

    private var steps: [Step]
    private(set) var sent: [[UInt8]] = []
    var sendError: Int32?

    init(_ steps: [Step]) { self.steps = steps }

    func send(_ bytes: [UInt8]) throws(NetlinkError) {
        if let sendError { throw NetlinkError(operation: "send", code: sendError) }
        sent.append(bytes)
    }

    func waitReadable(milliseconds: Int32) -> Bool {
        if case .silence = steps.first ?? .silence { return false }
        return true
    }

    func receive(into buffer: inout [UInt8]) -> NetlinkDatagram {
        guard !steps.isEmpty else { return .nothing }
        switch steps.removeFirst() {
        case .datagram(let bytes):
            buffer.replaceSubrange(0..<bytes.count, with: bytes)
            return .bytes(bytes.count)
        case .failure(let code): return .failed(code)
        case .nothing, .silence: return .nothing
        }
    }

    func makeRoom(forSending bytes: Int) {}
}

/// What is asked of the kernel, answered by a script (netlink(7)).
@Suite struct NetlinkExchangeTests {
    private static let error: UInt16 = 2
    private static let done: UInt16 = 3

    private func native(_ value: UInt32, _ count: Int = 4) -> [UInt8] {
        (0..<count).map { UInt8(value >> (8 * UInt32($0)) & 255) }
    }

    private func message(_ type: UInt16, flags: UInt16 = 0, _ body: [UInt8] = []) -> [UInt8] {
        native(UInt32(16 + body.count)) + native(UInt32(type), 2) + native(UInt32(flags), 2) + native(1) + native(0) + body
    }

    /// `struct nlmsgerr`: a negative error number, and the header of the message that it is about.
    private func answer(_ code: Int32, sequence: UInt32 = 1) -> [UInt8] {
        message(
            Self.error,
            native(UInt32(bitPattern: -code)) + native(16) + native(0x10, 2) + native(0, 2) + native(sequence) + native(0))
    }

    private func ask(_ steps: [ScriptedTransport.Step]) throws -> [UInt16] {
        var types: [UInt16] = []
        try ScriptedTransport(steps).ask([1], operation: "list things") { types.append($1.type) }
        return types
    }

    private func failure(_ steps: [ScriptedTransport.Step]) -> Int32? {
        do {
            _ = try ask(steps)
            return nil
        } catch {
            return (error as? NetlinkError)?.code
        }
    }

    @Test("an answer in several datagrams is complete with its end, and what comes behind is left")
    func severalDatagrams() throws {
        let types = try ask([
            .datagram(message(20) + message(21)), .nothing, .datagram(message(22)), .datagram(message(Self.done, native(0))),
            .datagram(message(23)),
        ])
        #expect(types == [20, 21, 22])
        #expect(try ask([.datagram(answer(0))]).isEmpty)
    }

    @Test("an error, a lost datagram, a listing that changed, silence and damage each end it with an error of their own")
    func errors() {
        #expect(failure([.datagram(answer(EPERM))]) == EPERM)
        #expect(failure([.datagram(message(20)), .failure(ENOBUFS)]) == ENOBUFS)
        #expect(failure([.datagram(message(20, flags: 0x10))]) == EINTR)
        #expect(failure([.silence]) == ETIMEDOUT)
        #expect(failure([.datagram(message(20)), .silence]) == ETIMEDOUT)
        #expect(failure([.datagram(Array(message(20, native(0)).dropLast(3)))]) == EBADMSG)
        #expect(failure([.datagram(message(Self.error, [1, 2]))]) == EBADMSG)
    }

    @Test("a request that cannot be sent is an error of what was to be done")
    func unsent() {
        let transport = ScriptedTransport([])
        transport.sendError = ENOBUFS
        #expect(throws: NetlinkError(operation: "list things", code: ENOBUFS)) {
            try transport.ask([1], operation: "list things")
        }
    }

    @Test("a single answer is read; an error, damage or nothing is none")
    func once() throws {
        func type(_ steps: [ScriptedTransport.Step]) throws -> UInt16 {
            try ScriptedTransport(steps).askOnce([1], operation: "ask") { $1.type }
        }
        #expect(try type([.datagram(message(20))]) == 20)
        for (step, code) in [
            (ScriptedTransport.Step.datagram(answer(ENOENT)), ENOENT), (.datagram([]), EBADMSG), (.failure(ENOBUFS), ENOBUFS),
            (.nothing, EAGAIN), (.silence, ETIMEDOUT),
        ] {
            #expect(throws: NetlinkError(operation: "ask", code: code)) { try type([step]) }
        }
    }

    @Test("a transaction ends with its acknowledgement, or names the message that was refused")
    func transactions() throws {
        let accepted = ScriptedTransport([.datagram(message(20) + answer(0))])
        try accepted.commit([1, 2, 3], operation: "change rules")
        #expect(accepted.sent == [[1, 2, 3]])
        func refusal(_ step: ScriptedTransport.Step) -> NetlinkBatchError? {
            do {
                try ScriptedTransport([step]).commit([1], operation: "change rules")
                return nil
            } catch {
                return error
            }
        }
        #expect(refusal(.datagram(answer(EEXIST, sequence: 7)))?.sequence == 7)
        #expect(refusal(.datagram(answer(ERESTART, sequence: 1)))?.error.isOutdated == true)
        #expect(refusal(.failure(ENOBUFS))?.error.code == ENOBUFS)
        #expect(refusal(.failure(ENOBUFS))?.sequence == nil)
        #expect(refusal(.silence)?.error.code == ETIMEDOUT)
        // Neither acknowledged nor refused: what became of it is not known.
        #expect(refusal(.datagram(message(20)))?.error.code == EBADMSG)
    }
}
