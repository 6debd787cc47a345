/// Compressed formats that are told from their first bytes, so that an error can name them; none is unpacked.
enum UnreadFormat: String, CaseIterable {
    case xz
    case bzip2
    case lz4
    case zip

    /// Whether a file that begins with these four bytes has the format.
    func begins(_ head: [UInt8]) -> Bool {
        switch self {
        case .xz: head == [0xFD, 0x37, 0x7A, 0x58]
        case .bzip2: head.count == 4 && head.starts(with: Array("BZh".utf8)) && (0x31...0x39).contains(head[3])
        case .lz4: head == [0x04, 0x22, 0x4D, 0x18]
        case .zip: head == [0x50, 0x4B, 0x03, 0x04]
        }
    }

    /// The command that unpacks a file, named behind it, to stdout.
    var unpacker: String {
        switch self {
        case .xz: "xz -dc"
        case .bzip2: "bzip2 -dc"
        case .lz4: "lz4 -dc"
        case .zip: "unzip -p"
        }
    }
}
