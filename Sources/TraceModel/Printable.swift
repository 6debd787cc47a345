extension String {
    /// The text with what could command a terminal replaced: control characters (C0, DEL, C1). Names and prefixes come from
    /// rules and files, which may be anybody's.
    public var printable: String {
        guard unicodeScalars.contains(where: Self.isControl) else { return self }
        var text = String.UnicodeScalarView()
        for scalar in unicodeScalars { text.append(Self.isControl(scalar) ? "\u{FFFD}" : scalar) }
        return String(text)
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
    }
}
