private import Foundation

/// The names of the running kernel's functions (`/proc/kallsyms`).
public struct KernelSymbols: Sendable {
    /// Rising, each with where its name ends among all names.
    private var entries: [(address: UInt64, name: Range<Int>)] = []
    private var names: [UInt8] = []

    /// Reads them; there are none where the kernel keeps their addresses to itself (`kernel.kptr_restrict`).
    ///
    /// - Throws: an error of Foundation's.
    public init(path: String = "/proc/kallsyms") throws {
        // A file of /proc has no size to go by.
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        defer { try? file.close() }
        self.init(Array(try file.readToEnd() ?? Data()))
    }

    /// - Parameter text: lines of an address, a type and a name: `ffffffff81a3c2d0 T ip_forward`.
    package init(_ text: [UInt8]) {
        var start = 0
        while start < text.count {
            let end = text[start...].firstIndex(of: UInt8(ascii: "\n")) ?? text.count
            defer { start = end + 1 }
            guard end - start > 19 else { continue }
            // Code alone: `t` and `T`, and what may be replaced, `w` and `W`.
            let type = text[start + 17] | 0x20
            guard type == UInt8(ascii: "t") || type == UInt8(ascii: "w") else { continue }
            var address: UInt64 = 0
            for index in start..<start + 16 { address = address << 4 | Self.digit(text[index]) }
            guard address != 0 else { continue }
            // A module's name follows its functions', behind a tab.
            let name = text[
                start + 19..<(text[start + 19..<end].firstIndex { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") } ?? end)]
            entries.append((address, names.count..<names.count + name.count))
            names += name
        }
        entries.sort { $0.address < $1.address }
    }

    private static func digit(_ byte: UInt8) -> UInt64 {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        default: 0
        }
    }

    /// The function that an address lies in; `nil` before the first.
    public func name(at address: UInt64) -> String? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? String(decoding: names[entries[low - 1].name], as: UTF8.self) : nil
    }
}
