import Correlation
import Testing
import TraceModel

/// Nothing is certain where namespaces are not followed, or could not be read.
@Suite struct UnreadTests {
    /// Outcomes of a guest's packets in a world that `change` has changed.
    private static func ending(_ way: [String], of sender: String = "guest", _ change: (inout Layout) -> Void) -> [String] {
        var (world, guest, host) = World.guestAndHost()
        change(&world.layout)
        let index = sender == "guest" ? guest : host
        let (collected, _) = correlate(
            world,
            world.events(index, way, packet(client, 1000, server, 53), in: 2, out: sender == "guest" ? 2 : 3))
        return collected.journeys.map { "\($0.outcome) \($0.incompleteReason.map { "\($0)" } ?? "none")" }
    }

    private static let client: UInt32 = 0xAC10_0002
    private static let server: UInt32 = 0x0808_0808

    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var sender = "guest"
        var way = Way.out
        var change: @Sendable (inout Layout) -> Void
        var ending: String
    }

    @Test(
        "where the next namespace is not followed or not read a journey is incomplete, with the reason",
        arguments: [
            Case(
                testDescription: "all followed and read: the host did not see it", change: { _ in }, ending: "dropped none"),
            Case(
                testDescription: "the link may reach a namespace that is left out",
                change: {
                    $0.openLinkDomains.insert(10)
                    $0.unfollowedLinkDomains = [10]
                }, ending: "incomplete notFollowed"),
            Case(
                testDescription: "it left by an interface that has been added since they were read",
                change: { layout in
                    let interface = layout.namespaces[0].interfaces.removeValue(forKey: 2)
                    layout.namespaces[0].interfaces[9] = interface
                }, ending: "incomplete layoutChanged"),
            Case(
                testDescription: "no interface of the sender's is known, as in files: it left",
                change: { $0.namespaces[0].interfaces = [:] }, ending: "sent none"),
            Case(
                testDescription: "another link may reach a namespace that is left out",
                sender: "host", way: Way.before + Way.through, change: { $0.unfollowedLinkDomains = [10] }, ending: "sent none"),
            Case(
                testDescription: "the host's rules could not be read",
                change: { $0.namespaces[1].unread = "too many open files" },
                ending: "incomplete rulesUnread"),
            Case(
                testDescription: "the host's rules were never read",
                change: {
                    $0.namespaces[1].unread = "too many open files"
                    for index in $0.probes.indices where $0.probes[index].namespace == 1 { $0.isInForce[index] = false }
                }, ending: "incomplete rulesUnread"),
            Case(
                testDescription: "the sender's rules could not be read", sender: "host", way: Way.before + Way.through,
                change: { $0.namespaces[1].unread = "too many open files" }, ending: "incomplete rulesUnread"),
            Case(
                testDescription: "the receiver's rules could not be read", sender: "host", way: Way.into,
                change: { $0.namespaces[1].unread = "too many open files" }, ending: "incomplete rulesUnread"),
        ])
    func unread(_ example: Case) {
        // A packet that comes from the guest must have been seen there: it comes from elsewhere then.
        let endings = Self.ending(example.way, of: example.sender) { layout in
            if example.sender == "host" { layout.openLinkDomains.insert(10) }
            example.change(&layout)
        }
        #expect(endings == [example.ending])
    }
}
