import Ruleset
import Testing

@Suite struct RuleTextsTests {
    @Test("only a table's name that nft reads as one word is given to it")
    func names() {
        for name in ["fw", "kube-proxy", "_a.b/c9"] { #expect(RuleTexts.isPlain(name)) }
        for name in ["", "x; flush ruleset", "x y", "-f", "9a", "a\nb", "a{", "é", "\"a\"", "@a", "[", "a\\"] {
            #expect(!RuleTexts.isPlain(name), "\(name)")
        }
    }

    @Test("rules of nft -a list table are found by number; chains, sets and comments with a mark are not taken for rules")
    func listing() {
        let texts = NFTListingText(
            """
            table inet fw { # handle 3
            \tset bad { # handle 4
            \t\ttype ipv4_addr
            \t}

            \tchain input { # handle 1
            \t\ttype filter hook input priority filter; policy accept;
            \t\tip saddr @bad counter packets 1 bytes 60 drop # handle 5
            \t\ttcp dport 22 comment "a # handle 9 b" drop # handle 6
            \t}
            }
            """
        ).texts
        #expect(
            texts == [
                5: "ip saddr @bad counter packets 1 bytes 60 drop", 6: "tcp dport 22 comment \"a # handle 9 b\" drop",
            ])
    }
}
