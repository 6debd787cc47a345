extension String {
    /// The text with everything that a terminal would act on rather than show as an escape: control characters as `\x1b`; C1
    /// controls, formatting characters (bidirectional overrides, zero-width ones) and separators of lines and paragraphs as
    /// `\u{202e}`. Names and prefixes come from rules and files, which may be anybody's.
    public var printable: String {
        if utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) { return self }
        var text = ""
        for scalar in unicodeScalars {
            if !scalar.isInvisible {
                text.unicodeScalars.append(scalar)
            } else if scalar.isASCII {
                text += "\\x\(scalar.value < 16 ? "0" : "")\(String(scalar.value, radix: 16))"
            } else {
                text += "\\u{\(String(scalar.value, radix: 16))}"
            }
        }
        return text
    }

    /// Decodes UTF-8; bytes that are not UTF-8 become `\xff`, so that different names stay different.
    public init(escapingInvalid bytes: [UInt8]) {
        if let text = String(validating: bytes, as: UTF8.self) {
            self = text
            return
        }
        self = ""
        var parser = Unicode.UTF8.ForwardParser()
        var source = bytes.makeIterator()
        var position = 0
        while true {
            switch parser.parseScalar(from: &source) {
            case .valid(let encoded):
                unicodeScalars.append(Unicode.UTF8.decode(encoded))
                position += encoded.count
            case .error(let length):
                for byte in bytes[position..<position + length] { self += "\\x\(String(byte, radix: 16))" }
                position += length
            case .emptyInput: return
            }
        }
    }
}

extension Unicode.Scalar {
    /// Whether it is a control or formatting character, or separates lines or paragraphs.
    public var isInvisible: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}
