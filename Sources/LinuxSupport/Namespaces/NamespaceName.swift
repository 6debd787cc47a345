internal import TraceModel

/// A file name under `/run/netns` as text, and back. Any bytes but a slash may be in one.
package enum NamespaceName {
    static let directory = "/run/netns"

    /// The bytes of a path, ended by 0: of one in the directory of names, with those that its name stands for.
    static func path(_ text: String) -> [CChar] {
        let beginning = "\(directory)/"
        let name = text.hasPrefix(beginning) ? bytes(of: String(text.dropFirst(beginning.count))) : nil
        return (name.map { Array(beginning.utf8) + $0 } ?? Array(text.utf8)).map { CChar(bitPattern: $0) } + [0]
    }

    /// Bytes that are not UTF-8 become `\xff`; so does a backslash before which that could be read, as `\x5c`.
    package static func text(of bytes: [UInt8]) -> String {
        var escaped: [UInt8] = []
        for (index, byte) in bytes.enumerated() {
            let isLikeEscape = byte == UInt8(ascii: "\\") && index + 1 < bytes.count && bytes[index + 1] == UInt8(ascii: "x")
            escaped += isLikeEscape ? Array("\\x5c".utf8) : [byte]
        }
        return String(escapingInvalid: escaped)
    }

    /// The bytes that `text` stands for.
    package static func bytes(of text: String) -> [UInt8] {
        let source = Array(text.utf8)
        var bytes: [UInt8] = []
        var index = 0
        while index < source.count {
            if source[index...].starts(with: Array("\\x".utf8)), index + 4 <= source.count,
                let byte = UInt8(String(decoding: source[index + 2..<index + 4], as: UTF8.self), radix: 16)
            {
                bytes.append(byte)
                index += 4
            } else {
                bytes.append(source[index])
                index += 1
            }
        }
        return bytes
    }
}
