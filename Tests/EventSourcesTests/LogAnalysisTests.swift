import Aggregation
import EventSources
import Foundation
import Reports
import TestSupport
import Testing

@Suite struct LogAnalysisTests {
    /// One ping, logged by rules whose prefixes were written by hand: 18 lines.
    static func classic() throws -> String { try Files.text("classic-ping.log") }

    static let request = [
        "netns raw/OUTPUT", "netns mangle/OUTPUT", "netns filter/OUTPUT", "netns mangle/POSTROUTING", "host raw/PREROUTING",
        "host mangle/PREROUTING", "host mangle/FORWARD", "host filter/FORWARD", "host mangle/POSTROUTING",
    ]
    static let reply = [
        "host raw/PREROUTING", "host mangle/PREROUTING", "host mangle/FORWARD", "host filter/FORWARD",
        "host mangle/POSTROUTING", "netns raw/PREROUTING", "netns mangle/PREROUTING", "netns mangle/INPUT",
        "netns filter/INPUT",
    ]

    private func places(_ path: PathReport) -> [String] { path.steps.map { "\($0.netns) \($0.table)/\($0.chain)" } }

    private func expectClassic(_ result: Analysis.Result) {
        let report = result.snapshot.pathsReport()
        #expect(report.paths.map(places) == [Self.request, Self.reply])
        #expect(report.completeness.ambiguous == 0 && report.unplaced.isEmpty)
    }

    @Test func theClassicListingIsOneFlowInEighteenSteps() throws {
        let result = try analyze(["\(Files.fixtures)/classic-ping.log"])
        expectClassic(result)
        #expect(result.snapshot.completeness.events == 18 && result.problems.count == 0)
        let report = result.snapshot.pathsReport()
        let flows = result.snapshot.flowsReport().flows
        #expect(flows.count == 1)
        let flow = try #require(flows.first)
        #expect(flow.original.source == "172.16.0.2" && flow.original.destination == "8.8.8.8" && flow.directionKnown)
        #expect(flow.original.paths == [report.paths[0].id] && flow.reply?.paths == [report.paths[1].id])
        #expect(flow.translations.map(\.kind) == ["snat_reply"])

        let precedence = result.snapshot.precedenceReport()
        #expect(precedence.roles.map { "\($0.netns) \($0.role)" } == ["netns client", "host router"])
        #expect(
            precedence.roles[0].orders.map { "\($0.direction): \($0.chains.joined(separator: " "))" } == [
                "out: raw/OUTPUT mangle/OUTPUT filter/OUTPUT mangle/POSTROUTING",
                "in: raw/PREROUTING mangle/PREROUTING mangle/INPUT filter/INPUT",
            ])
        #expect(
            precedence.roles[1].orders.map { "\($0.direction) \($0.packets): \($0.chains.joined(separator: " "))" } == [
                "through 2: raw/PREROUTING mangle/PREROUTING mangle/FORWARD filter/FORWARD mangle/POSTROUTING"
            ])
        #expect(precedence.conflicts.isEmpty)
    }

    @Test("TRACE lines name a rule by its number: with the rules that is the rule that dropped, inferred, else nothing")
    func traceLines() throws {
        let packet =
            "IN=eth0 OUT= MAC= SRC=192.0.2.9 DST=192.0.2.1 LEN=84 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=ICMP TYPE=8 CODE=0 ID=7 SEQ=1"
        let places = ["raw:PREROUTING:policy:1", "filter:INPUT:rule:1", "filter:BLOCK:rule:1", "filter:BLOCK:return:3"]
        let log = places.enumerated().map { "[    1.00000\($0)] TRACE: \($1) \(packet)\n" }.joined()
        let rules = """
            *filter
            :INPUT DROP [0:0]
            :BLOCK - [0:0]
            -A INPUT -j BLOCK
            -A BLOCK -p icmp -m mark --mark 0x1 -j MARK --set-xmark 0x2/0xffffffff
            -A BLOCK -s 10.9.9.9/32 -j DROP
            -A BLOCK -m comment --comment "all the rest" -j DROP
            COMMIT

            """
        let path = try #require(
            try Files.with(log) { log in try Files.with(rules) { try analyze([log], rules: [$0]) } }.snapshot.pathsReport()
                .paths.first)
        #expect(path.outcome == "dropped" && path.steps.last?.chain == "BLOCK")
        let decided = try #require(path.decidedBy)
        #expect(decided.rule == "-A BLOCK -m comment --comment \"all the rest\" -j DROP" && decided.position == 3)
        #expect(decided.evidence == "inferred" && decided.backend == "legacy" && decided.chain == "BLOCK")
        let without = try #require(try Files.with(Array(log.utf8)) { try analyze([$0]) }.snapshot.pathsReport().paths.first)
        #expect(without.decidedBy?.isRule != true && without.outcome == "incomplete")
    }

    /// The listing with another beginning of each line.
    private func rewritten(_ head: (_ index: Int) -> String) throws -> String {
        try Self.classic().split(separator: "\n").enumerated().map { index, line in
            let message = line.drop { $0 != "]" }.dropFirst(2)
            return head(index) + message
        }
        .joined(separator: "\n")
    }

    struct Form: CustomTestStringConvertible {
        var testDescription: String
        var head: @Sendable (Int) -> String
    }

    static func fraction(_ index: Int) -> String { String(format: "%06d", index * 11) }

    static let forms = [
        Form(testDescription: "dmesg") { "[ 1000.\(fraction($0))] " },
        Form(testDescription: "dmesg -x") { "kern  :warn  : [ 1000.\(fraction($0))] " },
        Form(testDescription: "dmesg -T") { _ in "[Sat Feb  7 20:13:05 2026] " },
        Form(testDescription: "dmesg --time-format iso") { "2026-02-07T20:13:05,\(fraction($0))+00:00 " },
        Form(testDescription: "/dev/kmsg") { "4,\($0 + 77),1000\(fraction($0)),-;" },
        Form(testDescription: "journalctl -o short") { _ in "Feb 07 20:13:05 router kernel: " },
        Form(testDescription: "journalctl -o short-iso") { _ in "2026-02-07T20:13:05+0100 router kernel: " },
        Form(testDescription: "journalctl -o short-monotonic") { "[ 1000.\(fraction($0))] router kernel: " },
        Form(testDescription: "/var/log/messages") { _ in "Feb  7 20:13:05 router kernel: " },
        Form(testDescription: "Android, logcat -b kernel") { _ in "02-07 20:13:05.123     0     0 W         : " },
        Form(testDescription: "Android, with the user") { _ in "02-07 20:13:05.123  root     0     0 I         : " },
        Form(testDescription: "no times at all") { _ in "" },
    ]

    @Test("every form of a line gives the same", arguments: forms)
    func everyForm(_ form: Form) throws {
        try Files.with(try rewritten(form.head)) { expectClassic(try analyze([$0])) }
    }

    @Test("lines of Android's other processes are none of the kernel's")
    func androidsProcesses() throws {
        let forged = try rewritten { _ in "02-07 20:13:05.123  1337  1337 W mallory : " }
        try Files.with(forged) { path in
            let result = try analyze([path])
            #expect(result.snapshot.completeness.events == 0 && result.problems.count == 18)
        }
    }

    @Test(
        "/dev/kmsg is read to the end of what there is",
        .enabled(if: FileHandle(forReadingAtPath: "/dev/kmsg") != nil, "may not be read here"))
    func kernelRecords() throws {
        let result = try analyze(["/dev/kmsg"])
        #expect(result.otherLines > 0)
    }

    @Test func theJournalAsJSON() throws {
        var index = 0
        let lines = try rewritten { _ in "" }.split(separator: "\n").map { message in
            index += 1
            // Text, or, for a message that is not UTF-8, an array of bytes.
            let value = index % 2 == 0 ? "\"\(message)\"" : "\(Array(message.utf8))"
            return
                "{\"__REALTIME_TIMESTAMP\":\"177049518500\(index + 1000)\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"100000\(index + 1000)\","
                + "\"PRIORITY\":\"4\",\"MESSAGE\":\(value)}"
        }
        try Files.with((lines + ["{\"MESSAGE\":", "{\"x\":1}"]).joined(separator: "\n")) {
            let result = try analyze([$0])
            expectClassic(result)
            #expect(result.problems.messages.count == 1 && result.problems.messages[0].contains("line 19"))
        }
    }

    @Test func linesEndedByCarriageReturnsAndAFileWithoutALastNewline() throws {
        let text = try Self.classic()
        try Files.with(text.replacing("\n", with: "\r\n")) { expectClassic(try analyze([$0])) }
        try Files.with(String(text.dropLast())) { expectClassic(try analyze([$0])) }
    }

    @Test func garbageBetweenTheLinesCostsNothing() throws {
        var generator = SplitMix(state: 7)
        var bytes: [UInt8] = []
        var number = 0
        for line in try Self.classic().split(separator: "\n") {
            for _ in 0..<generator.next() % 4 {
                bytes += (0..<generator.next() % 300).map { _ in UInt8(truncatingIfNeeded: generator.next()) }.filter {
                    $0 != 0
                }
                bytes.append(0x0A)
            }
            bytes += Array("Feb  7 20:13:05 router kernel: [ 1000.0] usb 1-1: OUT=of order IN=sert\n".utf8)
            bytes += Array(line.utf8) + [0x0A]
            number += 1
        }
        try Files.with(bytes) { expectClassic(try analyze([$0])) }
    }

    @Test func aLineThatIsCutIsNamedByItsNumber() throws {
        var lines = try Self.classic().split(separator: "\n").map(String.init)
        lines[2] = String(lines[2].prefix { $0 != "D" })
        try Files.with(lines.joined(separator: "\n")) {
            let result = try analyze([$0])
            #expect(result.problems.count == 1)
            #expect(result.problems.messages.first?.contains("line 3") == true)
            #expect(result.snapshot.completeness.malformed == 1)
            #expect(result.snapshot.pathsReport().paths.map(\.steps.count) == [8, 9])
        }
    }

    @Test func prefixesThatCannotBePlacedAreListedWithTheirCounts() throws {
        let text = try Self.classic().replacing("NETNS_RAW_OUTPUT", with: "whatever").replacing(
            "HOST_FILTER_FORWARD", with: "DROP: ")
        try Files.with(text) {
            let report = try analyze([$0]).snapshot.pathsReport()
            #expect(report.unplaced.map { "\($0.events) \($0.prefix)" } == ["2 DROP:  ", "1 whatever "])
            #expect(report.completeness.unplaced == 3)
            #expect("\(report.text())".contains("2 events of the kernel log with prefix \"DROP:  \", which no rule explains"))
        }
    }

    @Test func rulesPlaceWhatWordsDoNot() throws {
        let text = try Self.classic().replacing("NETNS_RAW_OUTPUT", with: "one").replacing("HOST_FILTER_FORWARD", with: "two")
        let guest =
            "# Generated by iptables-save v1.8.9\n*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j LOG --log-prefix \"one \"\nCOMMIT\n"
        let host = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p icmp -j LOG --log-prefix \"two \"\nCOMMIT\n"
        try Files.with(text) { log in
            try Files.with(guest) { guest in
                try Files.with(host) { host in
                    expectClassic(try analyze([log], rules: ["netns=\(guest)", host]))
                }
            }
        }
    }

    @Test func aPrefixThatTwoNamespacesHaveIsNotGuessed() throws {
        let rules = "*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j LOG --log-prefix \"same \"\nCOMMIT\n"
        let text = try Self.classic().replacing("NETNS_RAW_OUTPUT", with: "same")
        try Files.with(text) { log in
            try Files.with(rules) { rules in
                let report = try analyze([log], rules: ["a=\(rules)", "b=\(rules)"]).snapshot.pathsReport()
                #expect(report.unplaced.map(\.prefix) == ["same "])
            }
        }
    }

    @Test func linesThatOtherProgramsWroteAreNoneOfTheKernels() throws {
        let forged = try rewritten { _ in "Feb  7 20:13:05 router mallory: " }
        try Files.with(forged) {
            let result = try analyze([$0])
            #expect(result.snapshot.completeness.events == 0 && result.otherLines == 18)
            // It is said why, lest somebody who gave such a file believe that there were no rules.
            #expect(result.problems.count == 18)
            #expect(result.problems.messages.first?.contains("what another program wrote is not taken") == true)
        }
        let entry =
            "{\"_TRANSPORT\":\"syslog\",\"MESSAGE\":\"HOST_FILTER_INPUT IN=eth0 OUT= SRC=1.2.3.4 DST=5.6.7.8 PROTO=2\"}\n"
        try Files.with(entry + entry.replacing("syslog", with: "kernel")) {
            try #expect(analyze([$0]).snapshot.completeness.events == 1)
        }
    }

    @Test func aDamagedDateAndAClockThatIsPutBackDoNotStopTheTime() throws {
        let lines = try Self.classic().split(separator: "\n").map(String.init)
        // Each line a minute behind the one before, in boots that follow one another: nothing is under way any more.
        let stamps = ["[ 9000.0] ", "[ 9060.0] ", "[ 10.0] ", "[ 70.0] "]
        let text = stamps.map { $0 + lines[0].drop { $0 != "N" } }.joined(separator: "\n")
        try Files.with(text) { try #expect(analyze([$0]).snapshot.completeness.journeys == 3) }
        let dated = ["9999-01-01T00:00:00.0Z", "2026-02-07T20:13:05.0Z", "2026-02-07T20:14:05.0Z", "2026-02-07T20:15:05.0Z"]
        let damaged = dated.map { "\($0) router kernel: " + lines[0].drop { $0 != "N" } }.joined(separator: "\n")
        try Files.with(damaged) { try #expect(analyze([$0]).snapshot.completeness.journeys == 3) }
    }

    @Test func countlessPacketsAtOneMomentStayWithinTheLimit() throws {
        let lines = (0..<20_000).map {
            "[ 1.0] HOST_FILTER_INPUT IN=eth0 OUT= SRC=10.0.\($0 >> 8).\($0 & 255) DST=5.6.7.8 LEN=84 TTL=64 ID=1 PROTO=UDP SPT=5 DPT=6 LEN=64"
        }
        try Files.with(lines.joined(separator: "\n")) {
            let result = try Analysis().run(Analysis.Options(files: [$0], maximumJourneys: 1000))
            #expect(result.snapshot.completeness.evicted >= 14_000 && result.snapshot.completeness.events == 20_000)
        }
    }

    /// A ping through a router whose legacy rules TRACE it, as Linux 6.18 wrote it.
    @Test func whatTRACEWrites() throws {
        let paths = try analyze(["\(Files.fixtures)/trace.log"]).snapshot.pathsReport().paths
        #expect(
            paths.map { $0.steps.map { "\($0.table)/\($0.chain)" } } == [
                [
                    "raw/PREROUTING", "nat/PREROUTING", "filter/FORWARD", "filter/MYCHAIN", "filter/FORWARD", "nat/POSTROUTING",
                ],
                ["raw/PREROUTING", "filter/FORWARD", "filter/MYCHAIN", "filter/FORWARD"],
            ])
    }

    @Test func traceLinesShowChainsOnceForEachVisit() throws {
        func line(_ place: String, _ input: String, _ output: String) -> String {
            "[ 1.0] TRACE: \(place) IN=\(input) OUT=\(output) SRC=10.0.0.1 DST=10.0.0.2 LEN=84 TOS=0x00 PREC=0x00 TTL=63 ID=7 "
                + "PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1"
        }
        let text = [
            line("raw:PREROUTING:rule:1", "eth0", ""), line("raw:PREROUTING:policy:2", "eth0", ""),
            line("mangle:PREROUTING:policy:1", "eth0", ""), line("filter:FORWARD:rule:1", "eth0", "eth1"),
            line("filter:DOCKER:rule:1", "eth0", "eth1"), line("filter:DOCKER:return:2", "eth0", "eth1"),
            line("filter:FORWARD:policy:3", "eth0", "eth1"), line("mangle:POSTROUTING:policy:1", "eth0", "eth1"),
        ].joined(separator: "\n")
        try Files.with(text) {
            let paths = try analyze([$0]).snapshot.pathsReport().paths
            #expect(paths.count == 1)
            #expect(
                paths.first?.steps.map { "\($0.table)/\($0.chain) \($0.hook)" } == [
                    "raw/PREROUTING PREROUTING", "mangle/PREROUTING PREROUTING", "filter/FORWARD FORWARD",
                    "filter/DOCKER FORWARD", "filter/FORWARD FORWARD", "mangle/POSTROUTING POSTROUTING",
                ])
        }
    }
}
