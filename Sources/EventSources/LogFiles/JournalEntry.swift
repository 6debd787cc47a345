private import Foundation
internal import WireFormat

/// Message and times of one entry of the kernel's log, as journalctl (`-o json`, `json-pretty`, `json-seq`, `export`) and
/// `dmesg --json` write it.
struct JournalEntry {
    var message: [UInt8]
    /// Microseconds since 1970.
    var realtime: Int64?
    /// Microseconds since the machine started.
    var monotonic: Int64?

    private struct Fields: Decodable {
        var message: Message?
        var realtime: String?
        var monotonic: String?
        var transport: String?
        /// Of dmesg: the message, and seconds since the machine started.
        var dmesgMessage: String?
        var dmesgTime: Seconds?

        // systemd.journal-fields(7); sys-utils/dmesg.c of util-linux
        private enum CodingKeys: String, CodingKey {
            case message = "MESSAGE"
            case realtime = "__REALTIME_TIMESTAMP"
            case monotonic = "_SOURCE_MONOTONIC_TIMESTAMP"
            case transport = "_TRANSPORT"
            case dmesgMessage = "msg"
            case dmesgTime = "time"
        }

        /// Text, or an array of bytes where it is not UTF-8.
        enum Message: Decodable {
            case text(String)
            case bytes([UInt8])

            init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                if let text = try? container.decode(String.self) {
                    self = .text(text)
                } else {
                    self = .bytes(try container.decode([UInt8].self))
                }
            }
        }

        /// `nil` for a time as text, which `dmesg -T` puts there.
        struct Seconds: Decodable {
            var value: Double?

            init(from decoder: any Decoder) throws {
                value = try? decoder.singleValueContainer().decode(Double.self)
            }
        }
    }

    /// - Returns: `nil` for text that is no object with these fields. Messages of other programs, which anybody may write, are empty.
    init?(json: [UInt8]) {
        guard let fields = try? JSONDecoder().decode(Fields.self, from: Data(json)) else { return nil }
        let isOfKernel = fields.transport.map { $0 == "kernel" } ?? true
        switch isOfKernel ? fields.message ?? fields.dmesgMessage.map(Fields.Message.text) : nil {
        case .text(let text): message = Array(text.utf8)
        case .bytes(let bytes): message = bytes
        case nil: message = []
        }
        realtime = fields.realtime.flatMap { Int64($0) }
        monotonic =
            fields.monotonic.flatMap { Int64($0) }
            ?? fields.dmesgTime?.value.flatMap { Int64(exactly: ($0 * 1_000_000).rounded()) }
    }

    /// - Parameter fields: lines of `journalctl -o export`, without those of binary fields.
    init(export fields: [Substring]) {
        func value(_ name: String) -> String? {
            fields.first { $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.count + 1)) }
        }
        let isOfKernel = value("_TRANSPORT").map { $0 == "kernel" } ?? true
        message = isOfKernel ? Array((value("MESSAGE") ?? "").utf8) : []
        realtime = value("__REALTIME_TIMESTAMP").flatMap { Int64($0) }
        monotonic = value("_SOURCE_MONOTONIC_TIMESTAMP").flatMap { Int64($0) }
    }
}

/// Puts entries together that take several lines.
struct JournalEntryLines {
    enum Step {
        /// The line is no part of such an entry.
        case none
        /// It is, and the entry goes on.
        case part
        case entry(JournalEntry)
        /// The entry cannot be read.
        case damaged
    }

    /// The lines so far of an object of JSON.
    private var object: [UInt8]?
    /// The lines so far of an entry of the export format; `nil` outside of one.
    private var export: [UInt8]?

    /// Longer entries are damaged: no packet's comes near.
    private static let limit = 1 << 16
    private static let exportBeginning = Array("__CURSOR=".utf8)

    /// Whether a line may be part of such an entry: told by few bytes, since most logs have none.
    func mayTake(_ bytes: RawSpan, _ line: Range<Int>) -> Bool {
        guard object == nil, export == nil else { return true }
        guard let first = line.first, let last = line.last else { return false }
        switch bytes.byte(first) {
        case UInt8(ascii: "{"), UInt8(ascii: "_"), UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: "\t"): return true
        case UInt8(ascii: " "): return [UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: "]")].contains(bytes.byte(last))
        default: return false
        }
    }

    /// Takes a line without its end.
    mutating func take(_ line: [UInt8]) -> Step {
        if export != nil || line.starts(with: Self.exportBeginning) { return takeExport(line) }
        let text = line.trimmingBlanks
        let isOpening = text.last == UInt8(ascii: "{")
        guard object != nil else {
            // In the objects of dmesg's list; an object in one line is whole.
            guard isOpening, text.count == 1 || text.first == UInt8(ascii: "\"") else {
                return Self.isPunctuation(text) ? .part : .none
            }
            object = [UInt8(ascii: "{")]
            return .part
        }
        if text.first == UInt8(ascii: "}") {
            let whole = (object ?? []) + [UInt8(ascii: "}")]
            object = isOpening ? [UInt8(ascii: "{")] : nil
            return JournalEntry(json: whole).map { .entry($0) } ?? .damaged
        }
        if isOpening {
            object = [UInt8(ascii: "{")]
        } else {
            object? += text + [UInt8(ascii: " ")]
        }
        if (object?.count ?? 0) > Self.limit {
            object = nil
            return .damaged
        }
        return .part
    }

    /// The entry that the end of the file leaves unfinished.
    mutating func finish() -> JournalEntry? {
        defer { export = nil }
        return export.flatMap(Self.entry)
    }

    private mutating func takeExport(_ line: [UInt8]) -> Step {
        guard line.isEmpty || (export != nil && line.starts(with: Self.exportBeginning)) else {
            export = (export ?? []) + line + [0x0A]
            if (export?.count ?? 0) > Self.limit {
                export = nil
                return .damaged
            }
            return .part
        }
        let entry = export.flatMap(Self.entry)
        export = line.isEmpty ? nil : line + [0x0A]
        return entry.map { .entry($0) } ?? .part
    }

    private static func entry(_ export: [UInt8]) -> JournalEntry? {
        JournalEntry(export: String(decoding: export, as: UTF8.self).split(separator: "\n"))
    }

    /// Brackets between dmesg's objects.
    private static func isPunctuation(_ text: ArraySlice<UInt8>) -> Bool {
        !text.isEmpty && text.allSatisfy { "[]{},".utf8.contains($0) }
    }
}

extension [UInt8] {
    fileprivate var trimmingBlanks: ArraySlice<UInt8> {
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x1E }
        var rest = self[...]
        while let first = rest.first, isBlank(first) { rest.removeFirst() }
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return rest
    }
}
