/// Names the content of a report for `ETag` and `If-None-Match` (RFC 9110, section 8.8.3).
enum ContentTag {
    /// Fields that change from one moment to the next while the content stays the same.
    private static let momentary: Set<String> = ["generated_at", "completeness", "next_cursor"]

    /// A weak tag: the same for reports that differ only in when they were made.
    ///
    /// - Parameter json: one object.
    static func of(_ json: [UInt8]) -> String {
        // FNV-1a: equal content has equal tags, and who can make others collide can see the content anyway.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        var depth = 0
        var isInText = false
        var isEscaped = false
        var key: [UInt8] = []
        var isKey = false
        var isLeftOut = false
        for byte in json {
            if isInText {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInText = false
                } else if isKey {
                    key.append(byte)
                }
            } else {
                switch byte {
                case UInt8(ascii: "\""):
                    isInText = true
                    if isKey { key.removeAll(keepingCapacity: true) }
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    depth += 1
                    if depth == 1 { isKey = true }
                case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
                case UInt8(ascii: ":") where depth == 1:
                    isKey = false
                    isLeftOut = momentary.contains(String(decoding: key, as: UTF8.self))
                case UInt8(ascii: ",") where depth == 1:
                    isKey = true
                    isLeftOut = false
                default: break
                }
            }
            if !isLeftOut { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        }
        let digits = String(hash, radix: 16)
        return "W/\"" + String(repeating: "0", count: 16 - digits.count) + digits + "\""
    }

    /// Whether an If-None-Match field names `tag`, by weak comparison.
    static func isNamed(_ tag: String, in field: String?) -> Bool {
        guard let field else { return false }
        let named = field.split(separator: ",").map { $0.trimmed }
        return named.contains("*") || named.contains { $0.withoutWeakness == tag[...].withoutWeakness }
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        let start = drop { $0 == " " || $0 == "\t" }
        var end = start
        while let last = end.last, last == " " || last == "\t" { end.removeLast() }
        return end
    }

    fileprivate var withoutWeakness: Substring { hasPrefix("W/") ? dropFirst(2) : self }
}
