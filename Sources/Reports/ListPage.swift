/// Where a page of a list begins.
public struct ListCursor: Sendable, Equatable {
    /// Which list: that of one moment.
    public var list: UInt64
    /// How many entries are before it.
    public var offset: Int

    public init(list: UInt64, offset: Int) {
        self.list = list
        self.offset = offset
    }

    /// As `next_cursor` has it: `5d41402abc4b2a76.100`.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let list = UInt64(parts[0], radix: 16), let offset = Int(parts[1]),
            (0...1_000_000).contains(offset)
        else { return nil }
        self.init(list: list, offset: offset)
    }

    public var text: String { "\(String(list, radix: 16)).\(offset)" }
}

extension TraceFilter {
    /// The entries of the page that is asked for, with where the next one begins; `nil` where there is none.
    func page<Entries: RandomAccessCollection>(of entries: Entries) -> (entries: Entries.SubSequence, next: String?) {
        let offset = cursor?.offset ?? 0
        let page = entries.dropFirst(offset).prefix(max(0, limit))
        guard let cursor, limit > 0, offset + page.count < entries.count else { return (page, nil) }
        return (page, ListCursor(list: cursor.list, offset: offset + page.count).text)
    }
}
