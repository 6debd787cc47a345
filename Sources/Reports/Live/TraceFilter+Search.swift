internal import TraceModel

extension TraceFilter {
    /// Reads the line that a person types into the live view. Each word is `key=value`, or a value alone, whose field is guessed: an
    /// address or a prefix, a port (`443`, `:443`), both (`10.0.0.5:443`), a protocol or an outcome. Any other word is a namespace.
    ///
    /// - Throws: `FilterProblem` for a value that its field does not take.
    public init(search text: String) throws(FilterProblem) {
        self.init()
        for word in text.split(whereSeparator: \.isWhitespace).map(String.init) {
            for (field, value) in Self.meanings(of: word) { try add(field, value) }
        }
    }

    private static func meanings(of word: String) -> [(Field, String)] {
        if let equals = word.firstIndex(of: "="), let field = Field(rawValue: String(word[..<equals])), field != .limit {
            return [(field, String(word[word.index(after: equals)...]))]
        }
        if AddressPrefix(word) != nil { return [(.address, word)] }
        let port = word.hasPrefix(":") ? String(word.dropFirst()) : word
        if !port.isEmpty, port.allSatisfy({ $0.isASCII && $0.isNumber }) { return [(.port, port)] }
        if let colon = word.lastIndex(of: ":"), AddressPrefix(String(word[..<colon])) != nil {
            return [(.address, String(word[..<colon])), (.port, String(word[word.index(after: colon)...]))]
        }
        let lower = word.lowercased()
        if Outcome(name: lower) != nil { return [(.outcome, lower)] }
        // Numbers are ports, so that a name is meant.
        if TransportProtocol.number(lower) != nil { return [(.proto, lower)] }
        return [(.netns, word)]
    }
}
