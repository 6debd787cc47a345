/// How the running kernel lays out one of its trace events: the `format` file of tracefs (Documentation/trace/events.rst).
package struct KernelTraceFormat: Sendable {
    package struct Field: Equatable, Sendable {
        package var offset: Int
        package var size: Int
    }

    package var id: UInt16
    package var fields: [String: Field]
    /// Numbers that the event's own description has names for: `{ 2, "NOT_SPECIFIED" }`.
    package var names: [UInt32: String]

    /// - Returns: `nil` for a text without a number or fields.
    package init?(_ text: String) {
        var id: UInt16?
        var fields: [String: Field] = [:]
        var description: Substring = ""
        for line in text.split(separator: "\n") {
            let line = line.drop { $0 == "\t" || $0 == " " }
            if line.hasPrefix("ID:") {
                id = UInt16(line.dropFirst(3).filter(\.isNumber))
            } else if line.hasPrefix("field:") {
                // `field:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;`
                let parts = line.dropFirst(6).split(separator: ";")
                guard let name = parts.first?.split(separator: " ").last?.prefix(while: { $0 != "[" }),
                    let offset = Self.number(parts, "offset:"), let size = Self.number(parts, "size:"),
                    offset >= 0, size >= 0, offset + size <= 1 << 16
                else { continue }
                fields[String(name)] = Field(offset: offset, size: size)
            } else if line.hasPrefix("print fmt:") {
                description = line
            }
        }
        guard let id, !fields.isEmpty else { return nil }
        self.id = id
        self.fields = fields
        names = Self.names(in: description)
    }

    private static func number(_ parts: [Substring], _ name: String) -> Int? {
        parts.lazy.map { $0.drop { $0 == "\t" } }.first { $0.hasPrefix(name) }.flatMap { Int($0.dropFirst(name.count)) }
    }

    private static func names(in description: Substring) -> [UInt32: String] {
        var names: [UInt32: String] = [:]
        for part in description.split(separator: "{").dropFirst() {
            let pair = part.prefix { $0 != "}" }.split(separator: ",", maxSplits: 1)
            guard pair.count == 2, let number = UInt32(pair[0].filter { $0 != " " }) else { continue }
            names[number] = String(pair[1].filter { $0 != " " && $0 != "\"" })
        }
        return names
    }
}
