/// A key that a person pressed in the live view.
public enum LiveKey: Equatable, Sendable {
    case up, down, pageUp, pageDown
    case enter, escape, backspace
    case character(Character)

    /// Reads what a terminal sent: the letters of UTF-8, and the sequences that xterm and the Linux console send for keys.
    ///
    /// - Parameter bytes: whole sequences; a key that is not known is passed over.
    public static func read(_ bytes: some Sequence<UInt8>) -> [LiveKey] {
        var keys: [LiveKey] = []
        var rest = Substring(String(decoding: Array(bytes), as: UTF8.self))
        while let first = rest.popFirst() {
            switch first {
            case "\u{1B}":
                guard let kind = rest.first, kind == "[" || kind == "O" else {
                    keys.append(.escape)
                    continue
                }
                rest.removeFirst()
                let parameters = rest.prefix { $0.isNumber || $0 == ";" }
                rest = rest.dropFirst(parameters.count)
                switch (rest.popFirst(), parameters) {
                case ("A", _): keys.append(.up)
                case ("B", _): keys.append(.down)
                case ("~", "5"): keys.append(.pageUp)
                case ("~", "6"): keys.append(.pageDown)
                default: break
                }
            case "\r", "\n", "\r\n": keys.append(.enter)
            case "\u{7F}", "\u{8}": keys.append(.backspace)
            default:
                // Other control characters are no letters.
                if first.unicodeScalars.allSatisfy({ $0.value >= 0x20 }) { keys.append(.character(first)) }
            }
        }
        return keys
    }
}
