import Aggregation
import EventSources
import Foundation
import Reports
import Testing

/// Pings, a datagram and a segment to closed ports through a masquerading router, reported in one run by LOG rules and by
/// NFLOG rules of two groups: one recorded by tcpdump in each namespace, one by `collect --record`.
@Suite struct SameAnswerTests {
    static let ping = "\(Files.fixtures)/ping"
    static let rules = ["guest", "host", "inet"].map { "\($0)=\(ping)/\($0).rules" }
    static let links = ["guest", "host", "inet"].map { "\($0)=\(ping)/\($0).links" }
    static let captures = ["guest", "host", "inet"].map { "\(ping)/\($0).pcap" }

    /// Answers that the collector itself served.
    static func live(_ medium: String) throws -> Set<PathSummary> {
        let report = try ReportJSON.decode(PathsReport.self, from: Data(try Files.bytes("ping/paths.json")))
        return Set(report.paths.filter { $0.medium == medium }.map(PathSummary.init))
    }

    static func orders(_ report: PrecedenceReport, _ medium: String) -> [String] {
        report.roles.filter { $0.medium == medium }.flatMap { role in
            role.orders.map { "\(role.netns) \(role.role) \($0.direction) \($0.packets): \($0.chains.joined(separator: " "))" }
        }.sorted()
    }

    static func liveOrders(_ medium: String) throws -> [String] {
        orders(try ReportJSON.decode(PrecedenceReport.self, from: Data(try Files.bytes("ping/precedence.json"))), medium)
    }

    @Test func theRecording() throws {
        let result = try analyze(["\(Self.ping)/recording.pcapng"])
        #expect(try result.snapshot.pathsReport().summaries == Self.live("nflog"))
        #expect(try Self.orders(result.snapshot.precedenceReport(), "nflog") == Self.liveOrders("nflog"))
        #expect(result.problems.count == 0 && result.snapshot.completeness.lost == 0)
        // The question how it goes is not part of the answer.
        #expect(result.snapshot.completeness.own > 0)
    }

    @Test func tcpdumpsCaptures() throws {
        let result = try analyze(Self.captures, rules: Self.rules, links: Self.links)
        #expect(try result.snapshot.pathsReport().summaries == Self.live("nflog"))
        #expect(try Self.orders(result.snapshot.precedenceReport(), "nflog") == Self.liveOrders("nflog"))
        #expect(result.problems.count == 0 && result.snapshot.completeness.ambiguous == 0)
    }

    @Test func theKernelLog() throws {
        let result = try analyze(["\(Self.ping)/kernel.log"], rules: Self.rules, links: Self.links)
        #expect(try result.snapshot.pathsReport().summaries == Self.live("log"))
        #expect(try Self.orders(result.snapshot.precedenceReport(), "log") == Self.liveOrders("log"))
    }

    @Test func loggedByLOGAndByNFLOGThePathsAreTheSame() throws {
        #expect(try !Self.live("nflog").isEmpty && Self.live("nflog") == Self.live("log"))
    }

    @Test func withoutRulesTheStepsAreTheSameAndTheEndIsOpen() throws {
        func steps(_ paths: Set<PathSummary>) -> Set<[String]> {
            // Without ip's listing interfaces have numbers.
            Set(paths.map { $0.steps.map { $0.split(separator: " ").prefix(2).joined(separator: " ") } })
        }
        let result = try analyze(Self.captures)
        let report = result.snapshot.pathsReport()
        #expect(try steps(report.summaries) == steps(Self.live("nflog")))
        #expect(report.paths.allSatisfy { $0.outcome == "incomplete" && $0.reason?.hasPrefix("no probe stands") == true })
        #expect(result.snapshot.completeness.ambiguous == 0)
    }

    @Test func rulesThatNothingReadIsOfAreNamed() throws {
        let result = try analyze([Self.captures[0]], rules: Self.rules)
        // One capture is the host's, unless it is given another name.
        #expect(
            result.problems.messages.map { $0.prefix(30) } == [
                "rules of namespace guest were ", "rules of namespace inet were g",
            ])
        let named = try analyze(["guest=\(Self.captures[0])"], rules: [Self.rules[0]])
        #expect(named.problems.count == 0)
    }

    @Test func theOrderOfTheFilesMakesNoDifference() throws {
        let result = try analyze(Self.captures.reversed(), rules: Self.rules.reversed(), links: Self.links.reversed())
        #expect(try result.snapshot.pathsReport().summaries == Self.live("nflog"))
    }

    @Test func aCaptureThatWasLeftOutIsNotInvented() throws {
        // Without the router's nobody knows what lies between guest and internet.
        let result = try analyze([Self.captures[0], Self.captures[2]])
        for path in result.snapshot.pathsReport().paths where Set(path.steps.map(\.netns)).count > 1 {
            #expect(path.ambiguous == path.packets)
        }
    }
}
