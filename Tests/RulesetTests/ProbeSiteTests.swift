import Foundation
import Ruleset
import Testing
import TraceModel

/// What an installation would change, worked out from a dump.
@Suite struct ProbeSiteTests {
    private static let dump = """
        *filter
        :INPUT ACCEPT [0:0]
        :FORWARD DROP [0:0]
        :OUTPUT ACCEPT [0:0]
        :DOCKER - [0:0]
        -A FORWARD -i lo -j ACCEPT
        -A FORWARD -o docker0 -j DOCKER
        -A FORWARD -j DOCKER
        -A DOCKER -j RETURN
        COMMIT

        """

    private func site(
        _ options: ProbeOptions, backend: Backend = .nft, tables: [Table] = [.filter], family: AddressFamily = .ipv4
    ) throws -> ProbeSite {
        ProbeSite(
            options, run: "a1b2c3", number: 3, family: family, backend: backend, tables: tables,
            dump: try RuleDump(parsing: Self.dump))
    }

    private func lines(_ site: ProbeSite) -> [String] { site.input.commands.flatMap { $0.lines } }

    private func places(_ site: ProbeSite) -> [String] { site.entries.map { "\($0.table)/\($0.chain)" } }

    @Test("each built-in chain gets one probe at its head")
    func builtIn() throws {
        let site = try site(ProbeOptions())
        #expect(places(site) == ["filter/INPUT", "filter/FORWARD", "filter/OUTPUT"])
        let lines = lines(site)
        #expect(lines.count == 3)
        #expect(lines.allSatisfy { $0.contains(" 1 ") && $0.hasPrefix("-I ") && $0.contains("--nflog-group 5") })
        #expect(site.leftOut.isEmpty)
    }

    @Test("the legacy backend's probes have prefixes of their own")
    func legacy() throws {
        let site = try site(ProbeOptions(), backend: .legacy)
        #expect(
            site.entries.map(\.prefix).allSatisfy { ProbePrefix($0)?.backend == .legacy && ProbePrefix($0)?.run == "a1b2c3" })
    }

    @Test("with user-defined chains there is a probe at their head and behind each jump, from the last to the first")
    func userChains() throws {
        let site = try site(ProbeOptions(includesUserChains: true))
        #expect(Set(places(site)) == ["filter/INPUT", "filter/FORWARD", "filter/OUTPUT", "filter/DOCKER"])
        let behind = lines(site).filter { $0.contains("FORWARD<DOCKER") }
        // Counted without the probe at the head, which comes later: behind the third rule and behind the second.
        #expect(behind.map { $0.components(separatedBy: " ")[2] } == ["4", "3"])
    }

    @Test("only the chains that are asked for, and only the tables")
    func choice() throws {
        #expect(places(try site(ProbeOptions(chains: ["FORWARD"]))) == ["filter/FORWARD"])
        #expect(places(try site(ProbeOptions(), tables: [])).isEmpty)
    }

    @Test("a match of one family leaves the other's chains out, with the reason")
    func oneFamily() throws {
        let options = ProbeOptions(match: ["-s", "10.0.0.1"])
        #expect(places(try site(options)).count == 3)
        let other = try site(options, family: .ipv6)
        #expect(other.entries.isEmpty && other.input.isEmpty)
        #expect(other.leftOut.map(\.chain) == ["any chain of ipv6"])
    }

    @Test("a LOG prefix names the namespace by its number; a chain whose name leaves no room is left out")
    func log() throws {
        let site = try site(ProbeOptions(target: .log))
        #expect(site.entries.map(\.prefix).allSatisfy { ProbePrefix($0)?.namespace == 3 })
        let long = try RuleDump(parsing: "*filter\n:a-chain-with-a-very-long-name - [0:0]\nCOMMIT\n")
        let planned = ProbeSite(
            ProbeOptions(includesUserChains: true, target: .log), run: "a1b2c3", number: 3, family: .ipv4, backend: .nft,
            tables: [.filter], dump: long)
        #expect(planned.leftOut.contains { $0.chain == "filter/a-chain-with-a-very-long-name" })
    }

    @Test("an expiry is a condition of every probe")
    func expiry() throws {
        let site = try site(ProbeOptions(expires: 1_795_248_552))
        #expect(lines(site).allSatisfy { $0.contains("--datestop") })
    }
}
