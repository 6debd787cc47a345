private import Glibc
private import LinuxSupport

/// Why a file cannot be read or written.
public enum CaptureError: Error, Equatable, Sendable {
    /// `code` is an `errno`.
    case cannotOpen(file: String, code: Int32)
    case cannotRead(file: String, code: Int32)
    case cannotWrite(file: String, code: Int32)
    /// A recording is not written over a file that is there.
    case exists(file: String)
    /// A recording is not written through a symbolic link.
    case isLink(file: String)
    /// Neither a capture nor text.
    case unknownFormat(file: String)
    /// Compressed in a format that is not read; `unpacker` is a command that writes the content of the file behind it to stdout.
    case unsupportedCompression(file: String, format: String, unpacker: String)
    case invalidRules(file: String, message: String)
    case invalidArgument(String)
    /// A recording that a later version made.
    case newerRecording(schema: Int)
}

extension CaptureError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .cannotOpen(let file, let code): "cannot open \(file): \(ErrorNumber.text(code))"
        case .cannotRead(let file, let code): "cannot read \(file): \(ErrorNumber.text(code))"
        case .cannotWrite(let file, let code): "cannot write \(file): \(ErrorNumber.text(code))"
        case .exists(let file):
            "cannot record to \(file): the file exists, and may be needed. Give another name, or replace it with --overwrite"
        case .isLink(let file):
            "cannot record to \(file): it is a symbolic link. Give the name of the file that it stands for"
        case .unknownFormat(let file):
            "\(file) is neither a capture (pcap, pcapng) nor a kernel log. Captures are made with: "
                + "tcpdump -i nflog:5 -w FILE, or ipt-trace collect --record FILE"
        case .unsupportedCompression(let file, let format, let unpacker):
            "\(file) is compressed with \(format), which is not read. Unpack it on the way: \(unpacker) FILE | ipt-trace analyze -"
        case .invalidRules(let file, let message):
            "\(file) is not what iptables-save prints: \(message)"
        case .invalidArgument(let message): message
        case .newerRecording(let schema): "it was recorded by a later version of ipt-trace (layout schema \(schema))"
        }
    }

    /// Whether a file could not be written for want of room: the disk, a quota, the largest size of a file.
    var isNoSpace: Bool {
        guard case .cannotWrite(_, let code) = self else { return isNoSpaceToOpen }
        return code == ENOSPC || code == EDQUOT || code == EFBIG
    }

    /// Whether a file has reached its process' largest size (RLIMIT_FSIZE) or its file system's.
    var isTooLarge: Bool {
        guard case .cannotWrite(_, let code) = self else { return false }
        return code == EFBIG
    }

    private var isNoSpaceToOpen: Bool {
        guard case .cannotOpen(_, let code) = self else { return false }
        return code == ENOSPC || code == EDQUOT
    }

}
