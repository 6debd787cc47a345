public import Foundation
internal import TraceModel

/// The JSON of all reports: snake_case names, sorted keys, slashes as they are.
public enum ReportJSON {
    public static func encode(_ value: some Encodable, isPretty: Bool = false) throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if isPretty { encoder.outputFormatting.insert(.prettyPrinted) }
        return escaped(try encoder.encode(value))
    }

    /// As `encode`, for a terminal.
    public static func text(_ value: some Encodable, isPretty: Bool = false) throws -> TerminalText {
        TerminalText(written: String(decoding: try encode(value, isPretty: isPretty), as: UTF8.self))
    }

    /// Escapes what JSON allows in strings and a terminal acts on: DEL, C1 controls, formatting characters.
    static func escaped(_ json: Data) -> Data {
        guard json.contains(where: { $0 >= 0x7F }) else { return json }
        var text = ""
        for scalar in String(decoding: json, as: UTF8.self).unicodeScalars {
            if scalar.value < 0x7F || !scalar.isInvisible {
                text.unicodeScalars.append(scalar)
            } else {
                for unit in String(scalar).utf16 { text += "\\u" + String(0x10000 | UInt32(unit), radix: 16).dropFirst() }
            }
        }
        return Data(text.utf8)
    }

    public static func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: data)
    }
}
