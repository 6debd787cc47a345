import Ruleset
import Testing
import TraceModel

/// Chains and families that cannot have a match get no probe, and it is said why.
@Suite struct ProbeMatchTests {
    private func site(_ match: String, _ family: AddressFamily) throws -> ProbeSite {
        ProbeSite(
            ProbeOptions(match: try ProbeOptions.parseMatch(match)), run: "abcdef", number: 0, family: family, backend: .nft,
            tables: Table.iptables, dump: nil)
    }

    @Test(
        "an interface that packets do not have in a chain leaves it out",
        arguments: [("-i eth0", ["OUTPUT", "POSTROUTING"]), ("! -o eth+", ["PREROUTING", "INPUT"]), ("-p icmp", [])])
    func interfaces(_ match: String, _ leftOut: [String]) throws {
        let site = try site(match, .ipv4)
        #expect(Set(site.leftOut.compactMap { $0.chain.split(separator: "/").last.map(String.init) }) == Set(leftOut))
        #expect(site.entries.allSatisfy { !leftOut.contains($0.chain) })
        #expect(site.entries.count + site.leftOut.count == 17)
    }

    @Test(
        "an address or an ICMP type of one family leaves the other out",
        arguments: [
            ("-s 10.0.0.1", AddressFamily.ipv4), ("! -d 10.0.0.0/8", .ipv4), ("-d 2001:db8::/32", .ipv6),
            ("-m iprange --src-range 10.0.0.1-10.0.0.9", .ipv4), ("-p icmp --icmp-type echo-request", .ipv4),
            ("-p icmpv6 --icmpv6-type 128", .ipv6),
        ])
    func families(_ match: String, _ family: AddressFamily) throws {
        for other in AddressFamily.allCases {
            let site = try site(match, other)
            #expect(site.entries.isEmpty == (other != family) && site.leftOut.isEmpty == (other == family))
        }
    }

    @Test(
        "what translation may change is told",
        arguments: [("-p tcp --dport 80", true), ("-s 10.0.0.1", true), ("-p icmp", false), ("-p tcp", false)])
    func translation(_ match: String, _ depends: Bool) throws {
        #expect(ProbeOptions(match: try ProbeOptions.parseMatch(match)).dependsOnTranslation == depends)
    }
}
