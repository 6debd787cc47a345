/// The words of a rule as iptables-save prints and iptables-restore reads them: separated by blanks, in double quotes
/// where they hold blanks or quotes, with a backslash before a quote or backslash (xtables-restore's `add_param`).
///
/// Read by Unicode scalars as iptables reads bytes: to Swift a quote and a combining accent behind it are one character.
public enum RuleWords {
    public static func split(_ text: some StringProtocol) throws(RulesetError) -> [String] {
        try split(text, hasRawNames: false)
    }

    /// The words of a line that iptables-save printed, which leaves names of chains as they are, quotes and backslashes included.
    static func splitPrinted(_ line: some StringProtocol) throws(RulesetError) -> [String] {
        try split(line, hasRawNames: true)
    }

    private static func split(_ text: some StringProtocol, hasRawNames: Bool) throws(RulesetError) -> [String] {
        var words: [String] = []
        var word = String.UnicodeScalarView()
        var isInWord = false
        var isName = false
        var quote: Unicode.Scalar?
        var isEscaped = false
        for scalar in text.unicodeScalars {
            if isEscaped {
                word.append(scalar)
                isEscaped = false
            } else if let open = quote {
                if scalar == open {
                    quote = nil
                } else if scalar == "\\", open == "\"" {
                    isEscaped = true
                } else {
                    word.append(scalar)
                }
            } else if scalar == " " || scalar == "\t" {
                guard isInWord else { continue }
                let text = String(word)
                words.append(isName ? withoutQuotes(text) : text)
                isName = hasRawNames && !isName && ["-A", "-j", "-g"].contains(text)
                word = String.UnicodeScalarView()
                isInWord = false
            } else {
                isInWord = true
                switch scalar {
                case "\"" where !isName, "'" where !isName: quote = scalar
                case "\\" where !isName: isEscaped = true
                default: word.append(scalar)
                }
            }
        }
        guard quote == nil, !isEscaped else { throw .unbalancedQuotes(String(text)) }
        if isInWord { words.append(isName ? withoutQuotes(String(word)) : String(word)) }
        return words
    }

    /// A name that somebody has put in quotes by hand, as iptables-restore reads it.
    private static func withoutQuotes(_ name: String) -> String {
        let scalars = name.unicodeScalars
        guard scalars.count >= 2, let first = scalars.first, first == scalars.last, first == "\"" || first == "'" else {
            return name
        }
        return String(scalars.dropFirst().dropLast())
    }

    /// `word` as iptables-restore reads it back.
    public static func quote(_ word: String) -> String {
        let special: Set<Unicode.Scalar> = [" ", "\t", "\"", "'", "\\", "#"]
        guard word.isEmpty || word.unicodeScalars.contains(where: special.contains) else { return word }
        var quoted = String.UnicodeScalarView("\"".unicodeScalars)
        for scalar in word.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { quoted.append("\\") }
            quoted.append(scalar)
        }
        quoted.append("\"")
        return String(quoted)
    }

    public static func join(_ words: [String]) -> String { words.map(quote).joined(separator: " ") }
}
