import Aggregation
import Reports
import Testing
import TraceModel

@Suite struct LiveKeyTests {
    @Test("letters and the sequences of keys are read, others passed over")
    func keys() {
        #expect(LiveKey.read(Array("q/é".utf8)) == [.character("q"), .character("/"), .character("é")])
        #expect(
            LiveKey.read(Array("\u{1B}[A\u{1B}[B\u{1B}OA\u{1B}[5~\u{1B}[6~\r\u{7F}".utf8)) == [
                .up, .down, .up, .pageUp, .pageDown, .enter, .backspace,
            ])
        #expect(LiveKey.read([0x1B]) == [.escape])
        #expect(LiveKey.read(Array("\u{1B}[1;5C\u{1}\t".utf8)) == [])
    }
}

@Suite struct SearchTests {
    @Test(
        "a word says itself what it is",
        arguments: [
            ("10.0.0.5", ["address=10.0.0.5"]), ("10.0.0.0/8", ["address=10.0.0.0/8"]),
            ("2001:db8::1", ["address=2001:db8::1"]),
            (":443", ["port=443"]), ("443", ["port=443"]), ("10.0.0.5:443", ["address=10.0.0.5", "port=443"]),
            ("TCP", ["proto=tcp"]), ("dropped", ["outcome=dropped"]), ("host", ["netns=host"]), ("since=5m", ["since=5m"]),
            ("tcp dropped  web", ["proto=tcp", "outcome=dropped", "netns=web"]), ("", []),
        ] as [(String, [String])])
    func words(_ text: String, _ meanings: [String]) throws {
        #expect(try TraceFilter(search: text).words.map { "\($0.field.rawValue)=\($0.value)" } == meanings)
    }

    @Test("a value that cannot be is refused with its field's name")
    func refused() {
        #expect(throws: FilterProblem.self) { try TraceFilter(search: "port=many") }
        #expect(throws: FilterProblem.self) { try TraceFilter(search: "99999") }
    }
}

@Suite struct LiveScreenTests {
    private static let rule = RuleDecision(
        .rule, at: RulePlace(tableFamily: "ip", table: "filter", chain: "FORWARD", handle: 7),
        text: "-A FORWARD -p tcp -j DROP",
        position: 3)

    /// Two packets that were dropped, and three that arrived.
    private static func scene() throws -> Scene {
        var scene = Scene()
        let next = try #require(scene.probe(1, "security/FORWARD"))
        for _ in 0..<2 {
            scene.add(
                [scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [next], decision: rule)
        }
        for _ in 0..<3 { scene.add([scene.leg(0, ["raw/OUTPUT", "filter/OUTPUT"], request)], .sent) }
        return scene
    }

    private static func text(_ screen: LiveScreen, columns: Int = 100, rows: Int = 24) -> String {
        let lines = screen.lines(columns: columns, rows: rows)
        #expect(lines.count == rows && lines.allSatisfy { $0.description.count <= columns })
        return lines.map(\.description).joined(separator: "\n")
    }

    private static func type(_ text: String, into screen: inout LiveScreen) {
        for character in text { _ = screen.take(.character(character)) }
    }

    @Test("drops stand first, with what decided them; then paths, with rates once there are two snapshots")
    func list() throws {
        var screen = LiveScreen(title: "ipt-trace")
        #expect(Self.text(screen).contains("waiting for the first snapshot"))
        var scene = try Self.scene()
        screen.take(scene.snapshot, LiveScreen.Cost(processorShare: 0.034, memory: 50 << 20))
        let first = Self.text(screen)
        #expect(first.contains("nothing lost · takes 3 % of a processor, 50 MiB"))
        #expect(
            first.contains(">         2           dropped    by a rule of filter/FORWARD in host: -A FORWARD -p tcp -j DROP"))
        let places = ["Drops", "Paths", "sent "].map { word in first.firstRange(of: word)?.lowerBound }
        #expect(places.compactMap(\.self).count == 3 && places.compactMap(\.self) == places.compactMap(\.self).sorted())
        for _ in 0..<4 { scene.add([scene.leg(0, ["raw/OUTPUT", "filter/OUTPUT"], request)], .sent) }
        var second = scene.snapshot
        second.generatedAt += 2_000_000
        screen.take(second, nil)
        #expect(Self.text(screen).contains("        7    2.0/s  sent"))
        #expect(Self.text(screen).contains("        2      0/s  dropped"))
    }

    @Test("an opened drop shows every step, the rule, and what would mend it; escape leads back")
    func opened() throws {
        var screen = LiveScreen(title: "ipt-trace")
        screen.take(try Self.scene().snapshot, nil)
        _ = screen.take(.enter)
        let text = Self.text(screen)
        #expect(text.contains("dropped: by a rule of filter/FORWARD in host: -A FORWARD -p tcp -j DROP"))
        #expect(text.contains("1  host  raw     PREROUTING"))
        #expect(text.contains("host drops packets by a rule of filter/FORWARD"))
        _ = screen.take(.escape)
        #expect(Self.text(screen).contains("Paths"))
    }

    @Test("a filter is typed, mended and taken away; one that is wrong is refused and keeps the former")
    func filter() throws {
        var screen = LiveScreen(title: "ipt-trace")
        screen.take(try Self.scene().snapshot, nil)
        _ = screen.take(.character("/"))
        Self.type("dropped!", into: &screen)
        _ = screen.take(.backspace)
        #expect(Self.text(screen).contains("filter: dropped_"))
        _ = screen.take(.enter)
        #expect(Self.text(screen).contains("only dropped") && !Self.text(screen).contains("sent "))
        _ = screen.take(.character("/"))
        Self.type(" port=x", into: &screen)
        _ = screen.take(.enter)
        #expect(Self.text(screen).contains("port is a number") && Self.text(screen).contains("only dropped"))
        _ = screen.take(.escape)
        #expect(Self.text(screen).contains("sent ") && !Self.text(screen).contains("only"))
    }

    @Test("while it is paused, newer snapshots change nothing; q leaves, but not while a filter is typed")
    func pause() throws {
        var screen = LiveScreen(title: "ipt-trace")
        var scene = try Self.scene()
        screen.take(scene.snapshot, nil)
        _ = screen.take(.character("p"))
        scene.add([scene.leg(0, ["raw/OUTPUT", "filter/OUTPUT"], request)], .sent)
        screen.take(scene.snapshot, nil)
        #expect(Self.text(screen).contains("PAUSED") && Self.text(screen).contains("         3 "))
        _ = screen.take(.character("p"))
        screen.take(scene.snapshot, nil)
        #expect(Self.text(screen).contains("         4 "))
        let goesOn = [LiveKey.character("/"), .character("q"), .escape, .character("q")].map { screen.take($0) }
        #expect(goesOn == [true, true, true, false])
    }

    @Test("what was chosen stays chosen, and in sight, however many entries there are and however small the terminal is")
    func chosen() throws {
        var scene = Scene()
        for port in UInt16(1)...60 {
            var tuple = request
            tuple.destinationPort = port
            scene.add(
                [scene.leg(0, ["raw/OUTPUT"] + (port % 2 == 0 ? ["filter/OUTPUT"] : []), tuple, out: UInt32(port))], .sent)
        }
        var screen = LiveScreen(title: "ipt-trace")
        screen.take(scene.snapshot, nil)
        for _ in 0..<40 { _ = screen.take(.down) }
        let chosen = Self.text(screen, columns: 40, rows: 8).split(separator: "\n").first { $0.hasPrefix(">") }
        #expect(chosen != nil)
        screen.take(scene.snapshot, nil)
        #expect(Self.text(screen, columns: 40, rows: 8).split(separator: "\n").contains { $0 == chosen ?? "" })
        for _ in 0..<100 { _ = screen.take(.pageUp) }
        #expect(Self.text(screen, columns: 20, rows: 5).contains(">"))
    }
}
