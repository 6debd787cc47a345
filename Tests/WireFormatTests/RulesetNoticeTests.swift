import Testing
import WireFormat

@Suite struct RulesetNoticeTests {
    private static func text(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
    private static let head: [UInt8] = [2, 0, 0, 0]

    private static func notice(_ type: UInt16, _ body: [UInt8]) throws -> RulesetNotice? {
        let bytes = netlinkMessage(type: type, body)
        var offset = 0
        guard let message = try NetlinkMessage.next(in: bytes.octets, at: &offset) else { return nil }
        return try RulesetNotice(parsing: bytes.octets, message)
    }

    @Test(
        "a notification names the table and the chain that have changed",
        arguments: [
            ("NFT_MSG_DELTABLE", 0x0A02, [1], RulesetNotice.Subject.table, ""),
            ("NFT_MSG_NEWCHAIN", 0x0A03, [1, 3], .chain, "INPUT"), ("NFT_MSG_DELCHAIN", 0x0A05, [1, 3], .chain, "INPUT"),
            ("NFT_MSG_NEWRULE", 0x0A06, [1, 2], .rule, "INPUT"), ("NFT_MSG_DELRULE", 0x0A08, [1, 2], .rule, "INPUT"),
        ] as [(String, UInt16, [UInt16], RulesetNotice.Subject, String)])
    func notifications(
        _ name: String, _ type: UInt16, _ attributes: [UInt16], _ subject: RulesetNotice.Subject, _ chain: String
    )
        throws
    {
        let values = zip(attributes, ["filter", "INPUT"]).flatMap { attribute($0, Self.text($1)) }
        let notice = try #require(try Self.notice(type, Self.head + values))
        #expect(notice.subject == subject && notice.family == 2 && notice.table == "filter" && notice.chain == chain)
    }

    @Test("a notification of a set element or a generation is of no rule", arguments: [0x0A0C, 0x0A0F] as [UInt16])
    func others(_ type: UInt16) throws { #expect(try Self.notice(type, Self.head) == nil) }

    @Test("a notification that is cut short is an error, not a change of nothing")
    func short() { #expect(throws: ParseError.self) { try Self.notice(0x0A08, [2, 0]) } }
}
