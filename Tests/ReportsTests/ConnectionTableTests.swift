import Aggregation
import Diagnosis
import Testing
import TraceModel

@Suite struct ConnectionTableTests {
    /// A packet that vanished between two probes of the host.
    private func scene(_ places: [String], before next: String, limit: Int?) throws -> Scene {
        var scene = Scene()
        var facts = NamespaceFacts()
        facts.fullConnectionTable = limit
        scene.layout.namespaces[1].facts = facts
        scene.add([scene.leg(1, places, request)], .dropped, expected: [try #require(scene.probe(1, next))])
        return scene
    }

    @Test("a full table explains what vanishes where connections are tracked")
    func full() throws {
        let scene = try scene(["raw/PREROUTING"], before: "mangle/PREROUTING", limit: 262_144)
        let finding = try #require(scene.snapshot.findings.first { $0.kind == "connection-table-full" })
        #expect(finding.netns == "host" && finding.packets == 1 && finding.reason.contains("262144 are tracked"))
        #expect(finding.cures.map(\.command) == ["sysctl -w net.netfilter.nf_conntrack_max=524288"])
    }

    @Test("neither a table with room nor a packet that was lost elsewhere shows it")
    func others() throws {
        let withRoom = try scene(["raw/PREROUTING"], before: "mangle/PREROUTING", limit: nil)
        let elsewhere = try scene(["filter/FORWARD"], before: "security/FORWARD", limit: 262_144)
        for scene in [withRoom, elsewhere] {
            #expect(!scene.snapshot.findings.contains { $0.kind == "connection-table-full" })
        }
    }
}
