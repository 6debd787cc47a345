import Ruleset
import Testing
import TraceModel

/// Names of chains as prefixes have them.
@Suite struct ChainNameTests {
    @Test(
        "a prefix gives the chain's name back",
        arguments: [
            "~log0", "@net2fw", "%Limit", "A+B", "a:b", "a::b", "a:", "x[1]", "a,b", "$x", "a#b", "DOCKER-USER", "f2b-sshd",
        ])
    func roundTrip(_ chain: String) throws {
        let prefix = ProbePrefix(run: "abcdef", table: .filter, chain: chain)
        #expect(ProbePrefix(prefix.nflog) == prefix)
        let back = ProbePrefix(run: "abcdef", table: .nat, chain: chain, backFrom: "~log0")
        #expect(ProbePrefix(back.nflog) == back)
    }
}
