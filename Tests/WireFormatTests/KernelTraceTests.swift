import TestSupport
import Testing
import TraceModel
import WireFormat

@Suite struct KernelTraceTests {
    private static func decoder() throws -> KernelTraceDecoder {
        var decoder = KernelTraceDecoder()
        for (name, text) in KernelTracePages.formats {
            let isKnown = decoder.learn(name, try #require(KernelTraceFormat(text)))
            #expect(isKnown, "\(name)")
        }
        return decoder
    }

    private static func events(_ page: [UInt8]) throws -> [KernelTraceEvent] {
        var events: [KernelTraceEvent] = []
        let missing = try decoder().decode(page.octets) { events.append($0) }
        #expect(missing == 0)
        return events
    }

    private func endpoints(_ source: String, _ destination: String, _ ports: (UInt16, UInt16) = (0, 0)) throws
        -> KernelDrop.Endpoints
    {
        KernelDrop.Endpoints(
            source: try #require(IPAddress(source)), destination: try #require(IPAddress(destination)), sourcePort: ports.0,
            destinationPort: ports.1)
    }

    @Test("a format gives the event's number, its fields and the names of its values")
    func formats() throws {
        let format = try #require(KernelTraceFormat(KernelTracePages.formats[0].text))
        #expect(format.id == 2310 && format.fields["reason"]?.offset == 36 && format.fields["reason"]?.size == 4)
        #expect(format.names == [2: "NOT_SPECIFIED", 3: "NO_SOCKET", 88: "IP_INNOROUTES", 104: "QUEUE_PURGE"])
        #expect(KernelTraceFormat("") == nil && KernelTraceFormat("ID: 7\n") == nil)
    }

    @Test("an event that lacks a field is not learnt, and one that is not known neither")
    func otherKernels() throws {
        let old = KernelTracePages.formats[0].text.replacing("skb_drop_reason reason", with: "skb_drop_reason why")
        var decoder = KernelTraceDecoder()
        #expect(!decoder.learn("skb/kfree_skb", try #require(KernelTraceFormat(old))))
        #expect(!decoder.learn("skb/consume_skb", try #require(KernelTraceFormat(KernelTracePages.formats[0].text))))
    }

    @Test("the events of a packet without a route: the look-ups, the error, the drop, in their order and with rising times")
    func noRoute() throws {
        let events = try Self.events(KernelTracePages.noRoute)
        let ends = try endpoints("10.0.0.2", "10.8.0.1")
        #expect(
            events.prefix(4).map(\.content) == [
                .lookUp(ends, table: 254, error: -11), .lookUp(ends, table: 254, error: -11),
                .about(packet: 0xFFFF_8881_00B8_4600, ends),
                .dropped(packet: 0xFFFF_8881_00B8_4600, family: .ipv4, location: 0xFFFF_FFFF_81FE_D3B4, reason: 88),
            ])
        #expect(events.prefix(4).map(\.isOfNetwork) == [true, true, true, true])
        #expect(events.map(\.time) == events.map(\.time).sorted() && events[3].time - events[0].time < 50_000)
    }

    @Test("a reset is sent from the packet's destination: its addresses are turned round")
    func resets() throws {
        let four = try Self.events(KernelTracePages.noSocket)
        #expect(
            four.first?.content == .about(packet: 0xFFFF_8881_091F_22E0, try endpoints("10.0.0.2", "10.1.0.2", (35_506, 9))))
        let six = try Self.events(KernelTracePages.noSocket6)
        #expect(six.first?.content == .about(packet: 0xFFFF_8881_091F_22E0, try endpoints("fd00::2", "fd01::2", (50_190, 9))))
    }

    @Test("a page that is cut off anywhere is refused, and nothing is read beyond its end")
    func damage() throws {
        let decoder = try Self.decoder()
        for count in 0..<KernelTracePages.noRoute.count {
            let page = Array(KernelTracePages.noRoute.prefix(count))
            #expect(throws: ParseError.self) { _ = try decoder.decode(page.octets) { _ in } }
        }
        var page = KernelTracePages.noRoute
        for index in 8..<page.count {
            let before = page[index]
            for value: UInt8 in [0, 1, 29, 30, 31, 0x7F, 0xFF] {
                page[index] = value
                // Damaged or not: it comes to an end.
                _ = try? decoder.decode(page.octets) { _ in }
            }
            page[index] = before
        }
    }

    @Test("what was overwritten before a page is counted, where the kernel says how much")
    func losses() throws {
        var page = KernelTracePages.noSocket
        let decoder = try Self.decoder()
        page[11] |= 0x80
        #expect(try decoder.decode(page.octets) { _ in } == nil)
        page[11] |= 0x40
        page += [12, 0, 0, 0, 0, 0, 0, 0]
        #expect(try decoder.decode(page.octets) { _ in } == 12)
    }
}
