import Aggregation
import EventSources
import Reports
import Testing

/// Entries of the kernel's log that are no lines of text.
@Suite struct JournalEntryTests {
    private static let rest = "IN= OUT=eth0 SRC=10.0.0.1 DST=10.0.0.2 LEN=84 TTL=64 ID=7 PROTO=UDP SPT=1 DPT=2"

    struct Form: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var text: String

        init(_ name: String, _ text: String) {
            testDescription = name
            self.text = text
        }
    }

    static let forms = [
        Form(
            "dmesg --json",
            """
            {
               "dmesg": [
                  {
                     "pri": 6,
                     "time":     1.500000,
                     "msg": "usb 1-1: {new} device }"
                  },{
                     "pri": 4,
                     "time":   216.304748,
                     "msg": "HOST_RAW_OUTPUT \(rest)"
                  },{
                     "pri": 4,
                     "time":   216.304752,
                     "msg": "HOST_FILTER_OUTPUT \(rest)"
                  }
               ]
            }
            """),
        Form(
            "journalctl -o json-pretty",
            """
            {
            \t"__REALTIME_TIMESTAMP" : "1795258760123456",
            \t"_TRANSPORT" : "kernel",
            \t"MESSAGE" : "HOST_RAW_OUTPUT \(rest)"
            }
            {
            \t"__REALTIME_TIMESTAMP" : "1795258760123460",
            \t"MESSAGE" : "HOST_FILTER_OUTPUT \(rest)",
            \t"_TRANSPORT" : "kernel"
            }
            {
            \t"_TRANSPORT" : "syslog",
            \t"MESSAGE" : "HOST_MANGLE_OUTPUT \(rest)"
            }
            """),
        Form(
            "journalctl -o json",
            """
            {"__REALTIME_TIMESTAMP":"1795258760123456","MESSAGE":"HOST_RAW_OUTPUT \(rest)"}
            {"__REALTIME_TIMESTAMP":"1795258760123460","MESSAGE":"HOST_FILTER_OUTPUT \(rest)"}
            """),
        Form(
            "journalctl -o json-seq",
            "\u{1E}{\"MESSAGE\":\"HOST_RAW_OUTPUT \(rest)\"}\n\u{1E}{\"MESSAGE\":\"HOST_FILTER_OUTPUT \(rest)\"}\n"),
        Form(
            "journalctl -o export",
            """
            __CURSOR=s=1;i=1
            __REALTIME_TIMESTAMP=1795258760123456
            _TRANSPORT=kernel
            MESSAGE=HOST_RAW_OUTPUT \(rest)

            __CURSOR=s=1;i=2
            __REALTIME_TIMESTAMP=1795258760123458
            _TRANSPORT=stdout
            MESSAGE=HOST_MANGLE_OUTPUT \(rest)

            __CURSOR=s=1;i=3
            __REALTIME_TIMESTAMP=1795258760123460
            _TRANSPORT=kernel
            MESSAGE=HOST_FILTER_OUTPUT \(rest)
            """),
        Form(
            "dmesg -H",
            """
            [Nov21 10:59] HOST_RAW_OUTPUT \(rest)
            [  +0.000123] HOST_FILTER_OUTPUT \(rest)
            """),
    ]

    @Test("each form gives the packet, and nothing of other programs", arguments: forms)
    func read(_ form: Form) throws {
        for ending in ["", "\n", "\n\n"] {
            let result = try Files.with(Array((form.text + ending).utf8)) { try analyze([$0]) }
            let path = try #require(result.snapshot.pathsReport().paths.first)
            #expect(result.snapshot.completeness.events == 2 && result.problems.count == 0)
            #expect(path.steps.map(\.table) == ["raw", "filter"] && path.steps.allSatisfy { $0.netns == "host" })
        }
    }

    @Test("times between the stamps of dmesg -H count from the line before")
    func distances() throws {
        let result = try Files.with(Array(Self.forms[5].text.utf8)) { try analyze([$0]) }
        let times = result.snapshot.journeysReport().journeys[0].steps.compactMap { $0.time?.suffix(9) }
        #expect(times == ["0.000000Z", "0.000123Z"])
    }

    @Test("what is damaged is named and costs nothing but itself")
    func damaged() throws {
        let text = "{\n  \"MESSAGE\" : 12,\n}\n{\n\"MESSAGE\" : \"HOST_RAW_OUTPUT \(Self.rest)\"\n}\n{\n"
        let result = try Files.with(Array(text.utf8)) { try analyze([$0]) }
        #expect(result.snapshot.completeness.events == 1 && result.problems.count == 1)
    }
}
