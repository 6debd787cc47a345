import Aggregation
import Foundation
import Reports
import Testing
import TraceModel

/// One filter language for all lists.
@Suite struct TraceFilterTests {
    /// The guest asks 8.8.8.8 through the host's SNAT; the answer comes to the translated address and is lost there.
    private var scene: Scene {
        var scene = Scene()
        scene.add(
            [
                scene.leg(0, ["raw/OUTPUT", "mangle/POSTROUTING"], request),
                scene.leg(1, ["raw/PREROUTING", "nat/POSTROUTING"], request, translated),
            ], .sent)
        scene.add([scene.leg(1, ["raw/PREROUTING"], translated.reversed)], .dropped)
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/INPUT"], tuple(0x0102_0304, 0x0506_0708, 7, 9))], .delivered)
        return scene
    }

    struct Case: CustomTestStringConvertible, Sendable {
        var words: [(TraceFilter.Field, String)]
        var journeys: Int
        var flows: Int

        var testDescription: String { words.map { "\($0.rawValue)=\($1)" }.joined(separator: " ") }
    }

    @Test(
        "journeys and flows are chosen by any step, in either direction and through translation",
        arguments: [
            Case(words: [], journeys: 3, flows: 2),
            Case(words: [(.address, "172.16.0.2")], journeys: 2, flows: 1),
            Case(words: [(.address, "172.16.0.0/12")], journeys: 2, flows: 1),
            Case(words: [(.address, "10.0.2.15")], journeys: 2, flows: 1),
            Case(words: [(.address, "8.8.8.8"), (.port, "53")], journeys: 2, flows: 1),
            Case(words: [(.address, "8.8.8.8"), (.address, "1.2.3.4")], journeys: 3, flows: 2),
            Case(words: [(.address, "::/0")], journeys: 0, flows: 0),
            Case(words: [(.port, "9")], journeys: 1, flows: 1),
            Case(words: [(.proto, "udp"), (.proto, "tcp")], journeys: 3, flows: 2),
            Case(words: [(.proto, "1")], journeys: 0, flows: 0),
            Case(words: [(.outcome, "dropped")], journeys: 1, flows: 1),
            Case(words: [(.netns, "guest")], journeys: 1, flows: 1),
            Case(words: [(.netns, "guest"), (.netns, "host")], journeys: 3, flows: 2),
            Case(words: [(.since, "2.5")], journeys: 1, flows: 1),
            Case(words: [(.until, "1970-01-01T00:00:01.5Z")], journeys: 1, flows: 1),
            Case(words: [(.since, "1.5"), (.until, "2.5")], journeys: 1, flows: 1),
            Case(words: [(.since, "5m")], journeys: 0, flows: 0), Case(words: [(.until, "5m")], journeys: 3, flows: 2),
            Case(words: [(.limit, "1")], journeys: 1, flows: 1),
        ])
    func chosen(_ test: Case) throws {
        var filter = TraceFilter()
        for (field, value) in test.words { try filter.add(field, value) }
        #expect(scene.snapshot.journeysReport(filter).journeys.count == test.journeys)
        #expect(scene.snapshot.flowsReport(filter).flows.count == test.flows)
    }

    @Test(
        "a live trace takes the packets of a connection that was asked for, from the first one on",
        arguments: [
            ([(.address, "8.8.8.8")], 2), ([(.address, "172.16.0.2")], 2),
            ([(.address, "172.16.0.2"), (.outcome, "dropped")], 1),
            ([(.outcome, "sent")], 1), ([(.proto, "tcp")], 0), ([], 3),
        ] as [([(TraceFilter.Field, String)], Int)])
    func live(_ words: [(TraceFilter.Field, String)], _ count: Int) throws {
        var filter = TraceFilter()
        for (field, value) in words { try filter.add(field, value) }
        var selection = JourneySelection(filter)
        #expect(scene.snapshot.journeys.count { selection.takes($0.journey) } == count)
    }

    @Test(
        "text that is no value of its field is refused",
        arguments: [
            (.limit, "-1"), (.limit, "many"), (.limit, ""), (.netns, ""), (.proto, "tpc"), (.proto, "256"), (.proto, ""),
            (.outcome, "lost"), (.address, "10.0.0"), (.address, "10.0.0.0/33"), (.address, "10.0.0.0/"), (.address, "::g"),
            (.port, "65536"), (.port, "http"), (.since, "5y"), (.since, "m"), (.since, "-5m"), (.since, "1e300"),
            (.since, "nan"), (.until, "99999999999999999d"), (.until, "2026-13-01T00:00:00Z"),
        ] as [(TraceFilter.Field, String)])
    func refused(_ field: TraceFilter.Field, _ value: String) {
        var filter = TraceFilter()
        #expect(throws: FilterProblem.self) { try filter.add(field, value) }
    }

    @Test("a path with more addresses than it notes may have any")
    func crowdedPath() throws {
        var scene = Scene()
        for host in 1...UInt32(PathRecord.endpointLimit) {
            scene.add([scene.leg(1, ["raw/PREROUTING"], tuple(host, 1000 + host))], .delivered)
        }
        var filter = TraceFilter()
        try filter.add(.address, "9.9.9.9")
        #expect(scene.snapshot.pathsReport(filter).paths.count == 1)
    }

    @Test("findings and orders are of the namespaces that are asked for")
    func namespaces() throws {
        var filter = TraceFilter()
        try filter.add(.netns, "guest")
        #expect(scene.snapshot.precedenceReport(filter).roles.map(\.netns) == ["guest"])
        #expect(scene.snapshot.precedenceReport(filter).notes.allSatisfy { $0.hasPrefix("guest: ") })
        #expect(scene.snapshot.precedenceReport().roles.map(\.netns) == ["guest", "host"])
    }
}
