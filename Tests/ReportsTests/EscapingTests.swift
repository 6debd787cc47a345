import Aggregation
import Foundation
import FoundationXML
import Reports
import Testing
import TraceModel

/// Text as somebody may choose it who wants to be more than text.
enum Hostile {
    static let texts: [String] = [
        "\u{1B}]52;c;Y3VybCBldmlsfHNo\u{07}\u{1B}[2J\u{1B}[31mroot# ",
        "\u{9B}31m\u{9D}0;title\u{9C}\u{7F}\u{00}\t\r",
        "x\nverified: the rules are as before\n\n# Owned\n\n| a | b |\n| --- | --- |\n",
        "\u{202E}\u{2066}\u{200B}\u{200F}\u{FEFF}\u{2028}\u{2029}\u{AD}\u{E0041}",
        "<script>alert(1)</script><img src=x onerror=y>&lt;b&gt;<!-- --> &#60;",
        "](javascript:alert(1)) [x](http://evil.example) ![i](http://evil.example/i.png) <http://a.b>",
        "https://evil.example www.evil.example WWW.evil.example ftp://evil.example",
        "`` ` ``` a | b \\| c \\\\| d \\",
        "*b* **b** _i_ __i__ ~~s~~ $x$ ^x^ {x} [^1] \\*",
        "a\"]; click p0s0 \"javascript:1\"\n%%{init: {}}%%\nend\nsubgraph x; #quot; <br> ` ` style:x\";",
        "\"\u{301}|\u{301}\n\u{301}]\u{20DD}`\u{301}\\\u{301}<\u{301}",
        "- item", "+ item", "* item", "1. item", "12) item", "    code", "===", "---", "# head", "> quote", "~~~", "```", "|x|",
        "a\"b\\c\nd{e=\"f\"} 1",
    ]

    /// Text without any meaning, as long for a terminal.
    static func harmless(_ text: String) -> String { String(repeating: "x", count: text.count) }
}

/// Reports with every field that a report can have.
private struct Samples {
    var paths: [String: Any]
    var journeys: [String: Any]
    var flows: [String: Any]
    var drops: [String: Any]
    var findings: [String: Any]
    var precedence: [String: Any]

    init() throws {
        var scene = Scene()
        let after = try #require(scene.probe(1, "security/FORWARD"))
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [after])
        scene.add(
            [
                scene.leg(0, ["raw/OUTPUT"], request),
                scene.leg(1, ["raw/PREROUTING", "nat/POSTROUTING"], request, translated),
            ], .sent)
        var snapshot = scene.snapshot
        snapshot.unresolved = [
            UnresolvedPrefix(netns: "guest", prefix: "prefix", events: 2),
            UnresolvedPrefix(netns: nil, prefix: "log", events: 1),
        ]
        paths = try Self.object(snapshot.pathsReport())
        journeys = try Self.object(snapshot.journeysReport())
        flows = try Self.object(snapshot.flowsReport())
        drops = try Self.object(snapshot.dropsReport())
        findings = try Self.object(snapshot.findingsReport())
        precedence = try Self.object(snapshot.precedenceReport())

        let carried = ["journey": "1", "protocol": "udp", "source": "1.1.1.1", "destination": "2.2.2.2"]
        var listed = try #require(paths["paths"] as? [[String: Any]])
        for index in listed.indices {
            var example = try #require(listed[index]["example"] as? [String: Any])
            (example["carries"], example["carried_by"], listed[index]["reason"]) = (carried, carried, "reason")
            var steps = try #require(listed[index]["steps"] as? [[String: Any]])
            for step in steps.indices { steps[step]["back_from"] = "chain" }
            (listed[index]["example"], listed[index]["steps"]) = (example, steps)
        }
        paths["paths"] = listed
        findings["findings"] = ["notice", "warning", "problem"].map { severity in
            [
                "kind": "kind", "severity": severity, "title": "title", "netns": "netns", "reason": "reason", "packets": 1,
                "journeys": ["1"], "cures": [["netns": "a", "command": "command", "reason": "why"]],
            ]
        }
        precedence["conflicts"] = [
            [
                "netns": "netns", "direction": "out", "first": "a", "second": "b", "packets": 1, "packets_otherwise": 2,
            ]
        ]
        precedence["notes"] = ["note"]
    }

    private static func object(_ report: some Encodable) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: try ReportJSON.encode(report)) as? [String: Any])
    }

    /// A report with `text` for every string of it, keys of counts included.
    static func filled<Report: Decodable>(_ type: Report.Type, _ sample: [String: Any], _ text: String) throws -> Report {
        func fill(_ value: Any, _ name: String) -> Any {
            switch value {
            case let value as String: name == "severity" ? value : text
            case let list as [Any]: list.map { fill($0, name) }
            case let object as [String: Any]:
                name == "protocols" || name == "outcomes"
                    ? object.first.map { [text: $0.value] } ?? [:]
                    : Dictionary(uniqueKeysWithValues: object.map { ($0.key, fill($0.value, $0.key)) })
            default: value
            }
        }
        return try ReportJSON.decode(type, from: try JSONSerialization.data(withJSONObject: fill(sample, "")))
    }

    /// Every report as text.
    func texts(_ text: String, _ style: Style) throws -> [TerminalText] {
        let journeys = try Self.filled(JourneysReport.self, journeys, text).journeys
        return [
            try Self.filled(PathsReport.self, paths, text).text(style),
            try Self.filled(FlowsReport.self, flows, text).text(style),
            try Self.filled(DropsReport.self, drops, text).text(style),
            try Self.filled(FindingsReport.self, findings, text).text(style),
            try Self.filled(PrecedenceReport.self, precedence, text).text(style),
        ] + journeys.flatMap { [$0.text(style), $0.text(style, showsSteps: true)] }
    }

    /// Every report as Markdown.
    func markdown(_ text: String) throws -> [MarkdownText] {
        [
            try Self.filled(PathsReport.self, paths, text).markdown, try Self.filled(DropsReport.self, drops, text).markdown,
            try Self.filled(FindingsReport.self, findings, text).markdown,
            try Self.filled(PrecedenceReport.self, precedence, text).markdown,
        ]
    }

    func diagrams(_ text: String) throws -> [[Diagram]] {
        [
            try Self.filled(PathsReport.self, paths, text).diagrams,
            try Self.filled(PrecedenceReport.self, precedence, text).diagrams,
        ]
    }
}

@Suite struct EscapingTests {
    @Test(
        "what a terminal acts on is shown as an escape",
        arguments: [
            ("plain ä → 漢", "plain ä → 漢"), ("\u{1B}[31m", "\\x1b[31m"), ("a\nb\r\t\u{0}\u{7F}", "a\\x0ab\\x0d\\x09\\x00\\x7f"),
            ("\u{9B}2J", "\\u{9b}2J"), ("\u{202E}\u{2028}\u{FEFF}\u{200B}", "\\u{202e}\\u{2028}\\u{feff}\\u{200b}"),
            ("\\x1b", "\\x1b"),
        ])
    func printable(_ text: String, _ expected: String) {
        #expect(text.printable == expected)
        #expect(text.printable.printable == expected)
    }

    @Test(
        "bytes that are not UTF-8 are shown as escapes, the others kept",
        arguments: [
            ([0x61, 0xFF, 0x62], "a\\xffb"), ([0xC3, 0xA4], "ä"), ([0xC3], "\\xc3"), ([0xE2, 0x86, 0x61], "\\xe2\\x86a"),
            ([0xED, 0xA0, 0x80], "\\xed\\xa0\\x80"), ([0xC0, 0xAF], "\\xc0\\xaf"), ([], ""), ([0xF0, 0x9F, 0x98, 0x80], "😀"),
        ] as [([UInt8], String)])
    func invalid(_ bytes: [UInt8], _ expected: String) { #expect(String(escapingInvalid: bytes) == expected) }

    @Test("whatever a report's strings hold, its text has no control characters and no more lines", arguments: Hostile.texts)
    func terminal(_ text: String) throws {
        let samples = try Samples()
        for style in [Style.plain, Style(isColored: true)] {
            let usual = try samples.texts(Hostile.harmless(text), style)
            for (hostile, harmless) in zip(try samples.texts(text, style), usual) {
                let shown = "\(hostile)".replacing(#/\u{1B}\[(0|1|2|31|32|33)m/#, with: "")
                #expect(shown.unicodeScalars.allSatisfy { $0 == "\n" || !$0.isInvisible }, "\(shown.debugDescription)")
                #expect(lines("\(hostile)") == lines("\(harmless)"))
                #expect("\(hostile)".count { $0 == "\u{1B}" } == "\(harmless)".count { $0 == "\u{1B}" })
            }
        }
    }

    @Test(
        "whatever a report's strings hold, its Markdown has the same structure to a parser of GitHub's",
        .enabled(if: MarkdownParser.isInstalled, "cmark-gfm is not installed"), arguments: Hostile.texts)
    func markdown(_ text: String) throws {
        let samples = try Samples()
        for (hostile, harmless) in zip(try samples.markdown(text), try samples.markdown("x")) {
            #expect("\(hostile)".unicodeScalars.allSatisfy { $0 == "\n" || !$0.isInvisible })
            let parsed = try MarkdownParser.parse("\(hostile)")
            #expect(parsed.structure == (try MarkdownParser.parse("\(harmless)")).structure, "\(hostile)")
            #expect(parsed.text.range(of: text.printable, options: .literal) != nil, "\(parsed.text)")
        }
    }

    @Test(
        "whatever a report's strings hold, its Markdown has no tag, no bare pipe and no line of its own",
        arguments: Hostile.texts)
    func markdownRules(_ text: String) throws {
        let samples = try Samples()
        for (hostile, harmless) in zip(try samples.markdown(text), try samples.markdown("x")) {
            let ours = "\(hostile)".split(separator: "\n").filter { !$0.hasPrefix("    ") }
            let usual = "\(harmless)".split(separator: "\n").filter { !$0.hasPrefix("    ") }
            #expect(ours.count == usual.count)
            for (line, other) in zip(ours, usual) {
                #expect(!line.unicodeScalars.contains { $0 == "<" || $0 == ">" })
                #expect(line.unicodeScalars.count { $0 == "|" } == other.unicodeScalars.count { $0 == "|" })
            }
        }
    }

    @Test("whatever a report's strings hold, its Mermaid is made of our statements alone", arguments: Hostile.texts)
    func mermaid(_ text: String) throws {
        let label = #"(?:[A-Za-z0-9 \-_./,():→]|#[0-9]+;)*"#
        let id = "[a-z0-9]+"
        let statement = try Regex(
            "flowchart LR| +end| +subgraph \(id)\\[\"\(label)\"\\]| +\(id)\\[\"\(label)\"\\]"
                + "| +\(id) -->(\\|\"(?:\(label)|<br>)*\"\\|)? \(id)(\\(\\[\"\(label)\"\\]\\))?")
        let samples = try Samples()
        for (hostile, harmless) in zip(try samples.diagrams(text), try samples.diagrams("x")) {
            let (hostile, harmless) = (Diagram.mermaid(hostile), Diagram.mermaid(harmless))
            for line in "\(hostile)".split(separator: "\n") {
                #expect(try statement.wholeMatch(in: line) != nil, "\(line.debugDescription)")
            }
            #expect(lines("\(hostile)") == lines("\(harmless)"))
            let shown = "\(hostile)".replacing(#/#([0-9]+);/#) { entity in
                UInt32(entity.1).flatMap(Unicode.Scalar.init).map { String($0) } ?? ""
            }
            #expect(shown.contains(text.printable))
        }
    }

    @Test("whatever a report's strings hold, its Graphviz text is made of our statements alone", arguments: Hostile.texts)
    func dot(_ text: String) throws {
        let string = #""(?:[^"\\]|\\.)*""#
        let id = "[a-z0-9_]+"
        let statement = try Regex(
            "digraph \\{| *\\}|  rankdir=LR|  node \\[shape=box, fontname=\"sans-serif\"\\]|  fontname=\"sans-serif\""
                + "| +subgraph \(id) \\{| +label=\(string)| +\(id) \\[label=\(string)\\]"
                + "| +\(id) \\[shape=oval(, color=red)?, label=\(string)\\]| +\(id) -> \(id)( \\[label=\(string)\\])?")
        let samples = try Samples()
        for (hostile, harmless) in zip(try samples.diagrams(text), try samples.diagrams("x")) {
            let (hostile, harmless) = ("\(Diagram.dot(hostile))", "\(Diagram.dot(harmless))")
            for line in hostile.split(separator: "\n") {
                #expect(try statement.wholeMatch(in: line) != nil, "\(line.debugDescription)")
            }
            #expect(lines(hostile) == lines(harmless))
        }
    }

    /// The elements of a document in their order, and all of its text.
    private final class Elements: NSObject, XMLParserDelegate {
        var names: [String] = []
        var text = ""

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
            attributes: [String: String]
        ) { names.append(name) }

        func parser(_ parser: XMLParser, foundCharacters characters: String) { text += characters }
    }

    @Test("whatever a report's strings hold, its SVG has our elements alone, and shows them", arguments: Hostile.texts)
    func svg(_ text: String) throws {
        func read(_ diagrams: [Diagram]) -> Elements? {
            let parser = XMLParser(data: Data("\(Diagram.svg(diagrams))".utf8))
            let elements = Elements()
            parser.delegate = elements
            return parser.parse() ? elements : nil
        }
        let samples = try Samples()
        for (hostile, harmless) in zip(try samples.diagrams(text), try samples.diagrams("x")) {
            let found = try #require(read(hostile))
            #expect(Set(found.names) == Set(try #require(read(harmless)).names))
            #expect(Set(found.names).isSubset(of: ["svg", "style", "defs", "marker", "path", "rect", "text"]))
            #expect(found.text.contains(text.printable))
        }
    }

    @Test("JSON has no control characters and gives back each string unchanged", arguments: Hostile.texts)
    func json(_ text: String) throws {
        let samples = try Samples()
        let report = try Samples.filled(PathsReport.self, samples.paths, text)
        let line = JourneyLine(
            try #require(try Samples.filled(JourneysReport.self, samples.journeys, text).journeys.first), host: text, boot: text
        )
        for bytes in [try ReportJSON.encode(report), try ReportJSON.encode(line), Data(try report.json())] {
            #expect(String(decoding: bytes, as: UTF8.self).unicodeScalars.allSatisfy { !$0.isInvisible })
        }
        #expect(try ReportJSON.decode(PathsReport.self, from: ReportJSON.encode(report)) == report)
        #expect(try ReportJSON.decode(JourneyLine.self, from: ReportJSON.encode(line)) == line)
        #expect(Data(try report.json()) == (try ReportJSON.encode(report)))
    }

    @Test("a label of a metric is the name, and each series is there once", arguments: Hostile.texts)
    func metrics(_ text: String) throws {
        var scene = Scene()
        // As another would have to be named that looks the same.
        scene.layout.namespaces[0].name = text.printable
        scene.layout.namespaces[1].name = text
        for index in scene.layout.probes.indices where scene.layout.probes[index].namespace == 1 {
            let probe = scene.layout.probes[index]
            scene.layout.probes[index] = Probe(
                namespace: 1, family: .ipv4, table: probe.table, chain: text, hook: probe.hook, backend: .nft, prefix: "",
                coverage: .some)
        }
        let step = UInt32(try #require(scene.layout.probes.firstIndex { $0.namespace == 1 }))
        var leg = scene.leg(1, [], request)
        leg.stepPath = scene.stepTrie.advance(StepTrie.root, by: Step(probe: step, inInterface: 1, outInterface: 1))
        scene.add([leg], .dropped)
        let page = scene.snapshot.metrics()
        #expect(page.unicodeScalars.allSatisfy { $0 == "\n" || !$0.isInvisible })
        var series: Set<String> = []
        var values: Set<String> = []
        for line in page.unicodeScalars.split(separator: "\n").map({ String($0) }) where !line.hasPrefix("# ") {
            let sample = try #require(MetricsSample(line), "\(line.debugDescription)")
            #expect(series.insert("\(sample.name)\(sample.labels.sorted { $0.key < $1.key })").inserted, "\(line) twice")
            values.formUnion(sample.labels.values)
        }
        #expect(values.contains { $0.unicodeScalars.elementsEqual(label(text).unicodeScalars) })
    }

    /// A line break can be told in a label; other control characters are escapes.
    private func label(_ text: String) -> String {
        text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable }
            .joined(separator: "\n")
    }

    private func lines(_ text: String) -> Int { text.unicodeScalars.count { $0 == "\n" } }

    @Test("names of the layout reach every report as they are, and leave it escaped", arguments: Hostile.texts)
    func layout(_ text: String) throws {
        var scene = Scene()
        scene.layout.namespaces[1].name = text
        scene.layout.namespaces[1].interfaces = [1: Interface(name: text), 2: Interface(name: text)]
        var facts = NamespaceFacts()
        facts.otherChains = [.init(family: nil, table: text, name: text, hook: .ip(.forward), priority: 10)]
        facts.missingProbes = [text]
        facts.coveredProbes = [text]
        scene.layout.namespaces[1].facts = facts
        let after = try #require(scene.probe(1, "security/FORWARD"))
        scene.add([scene.leg(1, ["raw/PREROUTING", "filter/FORWARD"], request)], .dropped, expected: [after])
        let snapshot = scene.snapshot
        let paths = snapshot.pathsReport()
        #expect(paths.paths.first?.steps.first?.netns == text && paths.paths.first?.steps.first?.in == text)
        let texts = [
            paths.text(), snapshot.dropsReport().text(), snapshot.findingsReport().text(), snapshot.precedenceReport().text(),
            try ReportJSON.text(snapshot.namespacesReport()),
        ]
        for shown in texts { #expect("\(shown)".unicodeScalars.allSatisfy { $0 == "\n" || !$0.isInvisible }) }
    }
}

/// `cmark-gfm`, the parser of CommonMark with GitHub's extensions.
private enum MarkdownParser {
    private static let path = "/usr/bin/cmark-gfm"
    static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// The kinds of nodes, in order, with adjoining text as one; and all text.
    static func parse(_ markdown: String) throws -> (structure: [String], text: String) {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("ipt-trace-\(UUID().uuidString).md")
        try Data(markdown.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = [
            "-e", "table", "-e", "autolink", "-e", "strikethrough", "-e", "tasklist", "--to", "xml", file.path,
        ]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        try process.run()
        let xml = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        var structure: [String] = []
        var text = ""
        for match in xml.matches(of: #/<(\/?[a-z_]+)[^>]*>([^<]*)/#) {
            let kind = String(match.1)
            if kind == "text" || kind == "code_block" {
                text += match.2
            } else if kind == "/text" {
                continue
            }
            if kind != "text" || structure.last != "text" { structure.append(kind) }
        }
        for (entity, character) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")] {
            text = text.replacingOccurrences(of: entity, with: character, options: .literal)
        }
        return (structure, text)
    }
}

/// A line of Prometheus' text format, read strictly.
private struct MetricsSample {
    var name = ""
    var labels: [String: String] = [:]

    init?(_ line: String) {
        var rest = Array(line.unicodeScalars)[...]
        func word() -> String {
            var word = ""
            while let next = rest.first, next.isASCII, next.properties.isAlphabetic || ("0"..."9").contains(next) || next == "_"
            {
                word.unicodeScalars.append(next)
                rest.removeFirst()
            }
            return word
        }
        name = word()
        guard !name.isEmpty else { return nil }
        if rest.first == "{" {
            repeat {
                rest.removeFirst()
                let label = word()
                guard !label.isEmpty, rest.starts(with: "=\"".unicodeScalars) else { return nil }
                rest.removeFirst(2)
                var value = ""
                while let next = rest.popFirst(), next != "\"" {
                    guard next == "\\" else {
                        value.unicodeScalars.append(next)
                        continue
                    }
                    switch rest.popFirst() {
                    case "n": value += "\n"
                    case "\\": value += "\\"
                    case "\"": value += "\""
                    default: return nil
                    }
                }
                guard labels.updateValue(value, forKey: label) == nil else { return nil }
            } while rest.first == ","
            guard rest.popFirst() == "}" else { return nil }
        }
        guard rest.popFirst() == " ", Double(String(String.UnicodeScalarView(rest))) != nil else { return nil }
    }
}
