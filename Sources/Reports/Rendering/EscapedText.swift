internal import TraceModel

/// Where text goes, and how text that is not ours is written there: names, prefixes, comments, rules, paths.
public protocol TextDestination: Sendable {
    /// Appends `text` in such a way that the destination shows it and does nothing else.
    static func append(_ text: String, to output: inout String)
}

/// Text for one destination. Literals stand as they are written; every value that is interpolated is escaped, whatever it is, but
/// text for the same destination.
public struct EscapedText<Destination: TextDestination>: ExpressibleByStringInterpolation, CustomStringConvertible, Hashable,
    Sendable
{
    public private(set) var description: String

    public init(stringLiteral value: String) { description = value }

    public init(stringInterpolation: Interpolation) { description = stringInterpolation.text }

    public init(escaping text: String) {
        description = ""
        Destination.append(text, to: &description)
    }

    /// Text that its writer has escaped.
    init(written text: String) { description = text }

    public static func + (one: EscapedText, other: EscapedText) -> EscapedText {
        EscapedText(written: one.description + other.description)
    }

    public static func += (one: inout EscapedText, other: EscapedText) { one.description += other.description }

    public struct Interpolation: StringInterpolationProtocol {
        var text = ""

        public init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + interpolationCount * 16)
        }

        public mutating func appendLiteral(_ literal: String) { text += literal }

        public mutating func appendInterpolation(_ value: EscapedText) { text += value.description }

        public mutating func appendInterpolation<Value>(_ value: Value) {
            Destination.append(String(describing: value), to: &text)
        }
    }
}

extension Sequence {
    public func joined<Destination>(separator: EscapedText<Destination>) -> EscapedText<Destination>
    where Element == EscapedText<Destination> {
        EscapedText(written: map(\.description).joined(separator: separator.description))
    }
}

// MARK: Terminal

public typealias TerminalText = EscapedText<TerminalDestination>

/// A terminal, or a file that is shown on one: stdout and stderr. A value cannot begin a line.
public enum TerminalDestination: TextDestination {
    public static func append(_ text: String, to output: inout String) { output += text.printable }
}

extension EscapedText<TerminalDestination> {
    /// Text of several lines: what another program printed, a message.
    ///
    /// - Parameter isIndented: keeps a line break within a name from looking like another message: all lines but the first begin
    ///   with a blank.
    public init(lines text: String, isIndented: Bool = false) {
        var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            String(line).replacing("\t", with: " ").printable
        }
        if isIndented {
            for index in lines.indices.dropFirst() where !lines[index].isEmpty && !lines[index].hasPrefix(" ") {
                lines[index] = "  " + lines[index]
            }
        }
        self.init(written: lines.joined(separator: "\n"))
    }

    /// Text of another destination, which has no control characters but ends of lines either.
    public init<Other>(_ other: EscapedText<Other>) { self.init(written: other.description) }
}

// MARK: Markdown

public typealias MarkdownText = EscapedText<MarkdownDestination>

/// Markdown with tables (GitHub's): text that is neither markup, nor HTML, nor a link, and does not end a table's cell.
public enum MarkdownDestination: TextDestination {
    public static func append(_ text: String, to output: inout String) {
        let scalars = Array(text.printable.unicodeScalars)
        var isNumber = true
        for (index, scalar) in scalars.enumerated() {
            let isFirst = index == 0
            let isLast = index == scalars.count - 1
            switch scalar {
            case "&": output += "&amp;"
            case "<": output += "&lt;"
            case ">": output += "&gt;"
            case "|": output += "&#124;"
            case "\\", "`", "*", "_", "{", "}", "[", "]", "#", "~", "!", "$", "^": output += "\\\(scalar)"
            // At the beginning of a line: a list, the line below a heading, a block of code. At its end: a line break.
            case "-" where isFirst, "+" where isFirst, "=" where isFirst: output += "\\\(scalar)"
            case "." where isNumber && (isLast || scalars[index + 1] == " "),
                ")" where isNumber && (isLast || scalars[index + 1] == " "):
                output += "\\\(scalar)"
            case " " where isFirst || isLast: output += "&#32;"
            // What GitHub makes a link of.
            case ":" where scalars[(index + 1)...].starts(with: "//".unicodeScalars): output += "&#58;"
            case "." where String(String.UnicodeScalarView(scalars[..<index].suffix(3))).lowercased() == "www":
                output += "&#46;"
            default: output.unicodeScalars.append(scalar)
            }
            isNumber = isNumber && ("0"..."9").contains(scalar)
        }
    }
}

extension EscapedText<MarkdownDestination>.Interpolation {
    /// A line of an indented block of code, where nothing is markup.
    public mutating func appendInterpolation(code: String) { text += code.printable }
}

// MARK: Mermaid

public typealias MermaidText = EscapedText<MermaidDestination>

/// Text within the quotes of a Mermaid label: letters, digits and a few signs stand as they are, all else is an entity of Mermaid's own.
public enum MermaidDestination: TextDestination {
    public static func append(_ text: String, to output: inout String) {
        for scalar in text.printable.unicodeScalars {
            switch scalar {
            case "a"..."z", "A"..."Z", "0"..."9", " ", "-", "_", ".", "/", ",", "(", ")", ":", "→":
                output.unicodeScalars.append(scalar)
            default: output += "#\(scalar.value);"
            }
        }
    }
}

// MARK: Graphviz

public typealias DOTText = EscapedText<DOTDestination>

/// Text within the quotes of a string of Graphviz' language, where a backslash begins an escape.
public enum DOTDestination: TextDestination {
    public static func append(_ text: String, to output: inout String) {
        for scalar in text.printable.unicodeScalars {
            if scalar == "\\" || scalar == "\"" { output += "\\" }
            output.unicodeScalars.append(scalar)
        }
    }
}

// MARK: XML

public typealias XMLText = EscapedText<XMLDestination>

/// Text of an XML document, within an element or the quotes of an attribute.
public enum XMLDestination: TextDestination {
    public static func append(_ text: String, to output: inout String) {
        for scalar in text.printable.unicodeScalars {
            switch scalar {
            case "&": output += "&amp;"
            case "<": output += "&lt;"
            case ">": output += "&gt;"
            case "\"": output += "&quot;"
            case "'": output += "&#39;"
            default: output.unicodeScalars.append(scalar)
            }
        }
    }
}

// MARK: Prometheus

typealias MetricsLine = EscapedText<MetricsDestination>

/// The value of a label in Prometheus' text format.
enum MetricsDestination: TextDestination {
    static func append(_ text: String, to output: inout String) {
        for (index, line) in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if index > 0 { output += "\\n" }
            for scalar in String(line).printable.unicodeScalars {
                if scalar == "\\" || scalar == "\"" { output += "\\" }
                output.unicodeScalars.append(scalar)
            }
        }
    }
}
