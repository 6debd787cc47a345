private import Foundation
private import Glibc

/// What this process takes of the machine (proc_pid_stat(5)).
public struct ProcessFigures: Sendable {
    /// Processor time of all its threads since it began, in seconds.
    public var processorSeconds: Double
    /// Bytes.
    public var residentMemory: UInt64
    public var openDescriptors: Int
    public var descriptorLimit: UInt64
    /// When it began, in seconds since 1970.
    public var startedAt: Double

    /// `nil` where /proc does not tell.
    public static func current() -> ProcessFigures? {
        guard let text = FileManager.default.contents(atPath: "/proc/self/stat").map({ String(decoding: $0, as: UTF8.self) }),
            let uptime = FileManager.default.contents(atPath: "/proc/uptime").map({ String(decoding: $0, as: UTF8.self) }),
            let descriptors = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"),
            // The name, in brackets, may hold anything.
            let name = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: name)...].split(separator: " ")
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        // From the third field on, the state.
        guard fields.count > 21, ticks > 0, let user = Double(fields[11]), let system = Double(fields[12]),
            let start = Double(fields[19]), let pages = UInt64(fields[21]),
            let up = uptime.split(separator: " ").first.flatMap({ Double($0) })
        else { return nil }
        return ProcessFigures(
            processorSeconds: (user + system) / ticks, residentMemory: pages * UInt64(getpagesize()),
            openDescriptors: descriptors.count, descriptorLimit: UInt64(DescriptorLimit.current.soft),
            startedAt: Date().timeIntervalSince1970 - up + start / ticks)
    }
}
