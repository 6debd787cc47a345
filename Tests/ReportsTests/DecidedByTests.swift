import Aggregation
import Reports
import Testing
import TraceModel

/// Drops by the rule that a trace has named.
@Suite struct DecidedByTests {
    private static func rule(_ handle: UInt64, _ text: String?) -> RuleDecision {
        RuleDecision(
            .rule, at: RulePlace(tableFamily: "ip", table: "filter", chain: "BLOCK", handle: handle), text: text,
            position: text == nil ? nil : Int(handle))
    }

    private static func scene(_ decisions: [RuleDecision?]) throws -> Scene {
        var scene = Scene()
        let next = try #require(scene.probe(1, "security/FORWARD"))
        for decision in decisions {
            scene.add(
                [scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [next], decision: decision)
        }
        return scene
    }

    @Test("packets that different rules of one chain dropped are different paths and drops")
    func twoRules() throws {
        let snapshot = try Self.scene([Self.rule(1, "-A BLOCK -j DROP"), Self.rule(2, "-A BLOCK -j REJECT"), nil]).snapshot
        let paths = snapshot.pathsReport().paths
        #expect(paths.map(\.packets) == [1, 1, 1])
        #expect(Set(paths.map(\.id)).count == 3)
        let drops = snapshot.dropsReport().drops
        #expect(Set(drops.map(\.decidedBy?.rule)) == ["-A BLOCK -j DROP", "-A BLOCK -j REJECT", nil])
        #expect(drops.compactMap(\.decidedBy).allSatisfy { $0.evidence == "trace" && $0.chain == "BLOCK" })
    }

    @Test("a rule whose text is read only after its first packet is one rule")
    func lateText() throws {
        let snapshot = try Self.scene([Self.rule(1, nil), Self.rule(1, "-A BLOCK -j DROP"), Self.rule(1, nil)]).snapshot
        let paths = snapshot.pathsReport().paths
        #expect(paths.map(\.packets) == [3])
        #expect(paths.first?.decidedBy?.rule == "-A BLOCK -j DROP")
        #expect(paths.first?.decidedBy?.position == 1)
    }

    @Test("a rule that could not be read is named by its number, not by another's text")
    func gone() throws {
        let snapshot = try Self.scene([Self.rule(7, nil)]).snapshot
        let decided = try #require(snapshot.pathsReport().paths.first?.decidedBy)
        #expect(decided.rule == nil && decided.handle == 7)
        #expect(decided.text.contains("number 7"))
    }
}
