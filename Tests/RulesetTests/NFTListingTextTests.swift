import Ruleset
import Testing
import TraceModel

/// Rules of native nf_tables as nft prints them: their texts, and which of them come close to accepting what a policy drops.
@Suite struct NFTListingTextTests {
    /// As `nft -a list table inet fw` printed it (nft 1.0.9), shortened.
    private static let listing = """
        table inet fw { # handle 3
        \tset friends { # handle 1
        \t\ttype ipv4_addr
        \t\telements = { 10.9.9.9 }
        \t}

        \tchain web { # handle 4
        \t\ttcp dport { 80, 443, 8000-8010 } accept comment "web { x" # handle 7
        \t\tip saddr @friends accept # handle 8
        \t}

        \tchain input { # handle 2
        \t\ttype filter hook input priority filter; policy drop;
        \t\tct state established,related accept # handle 10
        \t\tiifname "lan*" ip saddr 10.0.0.0/8 counter packets 0 bytes 0 jump web # handle 11
        \t\tip saddr { 10.1.0.1, 10.1.0.2, 10.1.0.3,
        \t\t\t   10.1.0.4 } udp dport != 53 accept # handle 12
        \t\ticmp type echo-request limit rate 5/second accept # handle 13
        \t\tip saddr . tcp dport { 10.0.0.1 . 22 } accept # handle 14
        \t\tct state vmap { invalid : drop, established : accept } # handle 15
        \t\tmeta l4proto { tcp, udp } th dport 22 log prefix "a accept" level info accept # handle 16
        \t\tcounter packets 3 bytes 180 reject with icmpx port-unreachable # handle 17
        \t}
        }
        """

    @Test("each rule has its text, those that are printed in several lines too")
    func texts() {
        let texts = NFTListingText(Self.listing).texts
        #expect(texts.keys.sorted() == [7, 8, 10, 11, 12, 13, 14, 15, 16, 17])
        #expect(texts[12] == "ip saddr { 10.1.0.1, 10.1.0.2, 10.1.0.3, 10.1.0.4 } udp dport != 53 accept")
        #expect(texts[7] == #"tcp dport { 80, 443, 8000-8010 } accept comment "web { x""#)
    }

    @Test("those that accept before the policy, and before a rule without conditions; none before one with conditions")
    func accepting() {
        let listing = NFTListingText(Self.listing)
        let rules = listing.acceptingBeforeTheRest(of: "input", handle: nil)
        #expect(rules.count == 7)
        #expect(listing.acceptingBeforeTheRest(of: "input", handle: 17).map(\.text) == rules.map(\.text))
        #expect(listing.acceptingBeforeTheRest(of: "input", handle: 12).isEmpty)
        #expect(listing.acceptingBeforeTheRest(of: "gone", handle: nil).isEmpty)
        let byText = Dictionary(rules.map { ($0.text, $0) }) { first, _ in first }
        let web = byText.values.first { $0.text.contains("web {") }
        #expect(
            web?.match.conditions.map(\.text) == [
                "iifname \"lan*\"", "ip saddr 10.0.0.0/8", "tcp dport { 80, 443, 8000-8010 }",
                "tcp dport { 80, 443, 8000-8010 }",
            ] && web?.others.isEmpty == true)
        #expect(byText["ct state established,related accept"]?.others == ["ct state established,related"])
        #expect(byText["ip saddr @friends accept"]?.others == ["ip saddr @friends"])
        #expect(
            byText["icmp type echo-request limit rate 5/second accept"]?.others == [
                "icmp type echo-request", "limit rate 5/second",
            ])
        // Several fields at once are one condition that is not understood.
        #expect(byText["ip saddr . tcp dport { 10.0.0.1 . 22 } accept"]?.others == ["ip saddr . tcp dport { 10.0.0.1 . 22 }"])
        #expect(!rules.contains { $0.text.contains("vmap") })
    }

    private static func packet(
        _ transport: UInt8, _ port: UInt16, from source: String = "10.0.0.5", by interface: String = "lan0"
    )
        throws -> RuleMatch.Packet
    {
        var packet = RuleMatch.Packet(
            PacketTuple(
                source: try #require(IPAddress(source)), destination: IPAddress(ipv4: 0x0A00_0001), sourcePort: 40_000,
                destinationPort: port, transport: transport))
        packet.inInterface = interface
        return packet
    }

    @Test("conditions hold as nft means them")
    func conditions() throws {
        let rules = NFTListingText(Self.listing).acceptingBeforeTheRest(of: "input", handle: nil)
        func match(_ part: String) throws -> RuleMatch { try #require(rules.first { $0.text.contains(part) }).match }
        let web = try match("8000-8010")
        #expect(try web.admits(Self.packet(6, 8_005)) == true && web.admits(Self.packet(6, 81)) == false)
        #expect(try web.admits(Self.packet(6, 80, by: "wan0")) == false && web.admits(Self.packet(17, 80)) == false)
        #expect(try web.failed(by: Self.packet(6, 81)).map(\.text) == ["tcp dport { 80, 443, 8000-8010 }"])
        let names = try match("!= 53")
        #expect(try names.admits(Self.packet(17, 54, from: "10.1.0.4")) == true)
        #expect(try names.admits(Self.packet(17, 53, from: "10.1.0.4")) == false)
        #expect(try names.admits(Self.packet(17, 54, from: "10.1.0.5")) == false)
        let remote = try match("th dport 22")
        #expect(try remote.admits(Self.packet(17, 22)) == true && remote.admits(Self.packet(132, 22)) == false)
        // Another family's address fits no prefix of this one.
        #expect(try web.admits(Self.packet(6, 80, from: "fd00::1")) != true)
    }
}
