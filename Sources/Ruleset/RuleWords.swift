/// The words of a rule as iptables-save prints and iptables-restore reads them: separated by blanks, in double quotes
/// where they hold blanks or quotes, with a backslash before a quote or backslash (xtables-restore's `add_param`).
public enum RuleWords {
    public static func split(_ text: some StringProtocol) throws(RulesetError) -> [String] {
        var words: [String] = []
        var word = ""
        var isInWord = false
        var quote: Character?
        var isEscaped = false
        for character in text {
            if isEscaped {
                word.append(character)
                isEscaped = false
            } else if let open = quote {
                if character == open {
                    quote = nil
                } else if character == "\\", open == "\"" {
                    isEscaped = true
                } else {
                    word.append(character)
                }
            } else if character == "\"" || character == "'" {
                quote = character
                isInWord = true
            } else if character == "\\" {
                isEscaped = true
                isInWord = true
            } else if character == " " || character == "\t" {
                if isInWord { words.append(word) }
                word = ""
                isInWord = false
            } else {
                word.append(character)
                isInWord = true
            }
        }
        guard quote == nil, !isEscaped else { throw .unbalancedQuotes(String(text)) }
        if isInWord { words.append(word) }
        return words
    }

    /// `word` as iptables-restore reads it back.
    public static func quote(_ word: String) -> String {
        let isPlain = !word.isEmpty && word.allSatisfy { !" \t\"'\\#".contains($0) }
        if isPlain { return word }
        return "\"" + word.map { "\"\\".contains($0) ? "\\\($0)" : String($0) }.joined() + "\""
    }

    public static func join(_ words: [String]) -> String { words.map(quote).joined(separator: " ") }
}
