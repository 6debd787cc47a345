import Engine
import Testing
import TraceModel

@Suite struct PrefixWordsTests {
    @Test(
        "what people write",
        arguments: [
            ("HOST_FILTER_INPUT", "host filter INPUT"), ("NETNS_NAT_PREROUTE", "netns nat PREROUTING"),
            ("HOST_MANGLE_POSTROUTE ", "host mangle POSTROUTING"), ("fw-drop-INPUT ", "- filter INPUT"),
            ("[guest] raw OUTPUT: ", "guest raw OUTPUT"), ("iptables: FORWARD denied ", "- filter FORWARD"),
            ("web-1 nat post", "web-1 nat POSTROUTING"), ("pod7.security.fwd", "pod7 security FORWARD"),
            ("raw/PREROUTING", "- raw PREROUTING"), ("DROP IN: ", "- filter INPUT"),
            // A zone, a rule set, a protocol, an interface: no namespaces.
            ("filter_IN_public_REJECT: ", "- filter INPUT"), ("REJECT wan in: ", "- filter INPUT"),
            ("[WAN_IN-2001-D]", "- filter INPUT"), ("INPUT ICMP: ", "- filter INPUT"), ("eth0 input drop ", "- filter INPUT"),
            ("Shorewall:net2fw:DROP:FORWARD", "- filter FORWARD"),
        ])
    func words(_ prefix: String, _ meaning: String) throws {
        let words = try #require(PrefixWords(prefix))
        #expect("\(words.place ?? "-") \(words.table.name) \(words.chain)" == meaning && !words.isTrace)
    }

    @Test(
        "TRACE",
        arguments: [
            ("TRACE: raw:PREROUTING:policy:2 ", "raw PREROUTING"), ("TRACE: filter:DOCKER-USER:rule:1 ", "filter DOCKER-USER"),
            ("TRACE: nat:a:b:return:3", "nat a:b"),
        ])
    func trace(_ prefix: String, _ meaning: String) throws {
        let words = try #require(PrefixWords(prefix))
        #expect("\(words.table.name) \(words.chain)" == meaning && words.isTrace && words.place == nil)
    }

    @Test(
        "what names no chain, or one that no table has",
        arguments: [
            "", "DROP: ", "filter", "PREROUTING dropped", "raw INPUT", "TRACE: what:ever", "TRACE: filter::rule:1",
            "nat FORWARD",
        ])
    func none(_ prefix: String) {
        #expect(PrefixWords(prefix) == nil)
    }
}
