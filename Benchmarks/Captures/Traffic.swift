import Captures
import Foundation
import TraceModel
import WireFormat

/// UDP packets of a thousand flows from a client through a masquerading router to a server, a packet every 100 µs.
enum Traffic {
    struct Step {
        var namespace: Int
        var table: Table
        var hook: Hook
    }

    static let names = ["client", "router", "server"]

    static let steps: [Step] =
        way(0, [.raw, .mangle, .nat, .filter, .security], .output) + way(0, [.mangle, .nat], .postrouting)
        + way(1, [.raw, .mangle, .nat], .prerouting) + way(1, [.mangle, .filter, .security], .forward)
        + way(1, [.mangle, .nat], .postrouting) + way(2, [.raw, .mangle], .prerouting)
        + way(2, [.mangle, .filter, .security], .input)

    private static func way(_ namespace: Int, _ tables: [Table], _ hook: Hook) -> [Step] {
        tables.map { Step(namespace: namespace, table: $0, hook: hook) }
    }

    private static func source(_ step: Step, _ flow: Int) -> UInt32 {
        step.namespace == 2 ? 0x0A00_020F : 0xAC10_0000 | UInt32(flow + 2)
    }

    // MARK: pcapng

    static func writeCapture(_ journeys: Int, to path: String) throws -> UInt64 {
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        defer { try? file.close() }
        var writer = CaptureWriter()
        writer.section(application: "CaptureBenchmark")
        for name in names { writer.interface(name: name, description: "generated") }
        let templates = steps.map(template)
        for journey in 0..<journeys {
            let time = 1_700_000_000_000_000 + Int64(journey) * 100
            for (step, template) in zip(steps, templates) {
                var message = template
                fill(&message, step, journey)
                writer.packet(
                    interface: UInt32(step.namespace), time: time, message.octets, 0..<message.count, comment: nil)
            }
            if writer.bytes.count > 1 << 22 {
                try file.write(contentsOf: writer.bytes)
                writer.removeAll()
            }
        }
        try file.write(contentsOf: writer.bytes)
        return try file.offset()
    }

    private static let packetLength = 92

    /// A message whose packet stands at its end.
    private static func template(_ step: Step) -> [UInt8] {
        var body: [UInt8] = [2, 0, 0, 5]
        body += attribute(1, [8, 0, step.hook.rawValue, 0])
        body += attribute(10, Array("ipt-trace:a1b2c3:\(step.table.name):\(step.hook.name)".utf8) + [0])
        if step.hook != .output { body += attribute(4, [0, 0, 0, 2]) }
        if step.hook != .prerouting, step.hook != .input { body += attribute(5, [0, 0, 0, 3]) }
        // The router counts down when it has decided where the packet goes.
        let timeToLive: UInt8 = step.namespace == 0 || (step.namespace == 1 && step.hook == .prerouting) ? 64 : 63
        let packet: [UInt8] =
            [0x45, 0, 0, UInt8(packetLength), 0, 0, 0x40, 0, timeToLive, 17, 0, 0]
            + [UInt8](repeating: 0, count: 4) + [8, 8, 8, 8, 0x9C, 0x40, 0, 9, 0, 72, 0, 0]
            + [UInt8](repeating: 0, count: packetLength - 28)
        return body + attribute(9, packet)
    }

    private static func fill(_ message: inout [UInt8], _ step: Step, _ journey: Int) {
        let start = message.count - packetLength
        let flow = journey % 1000
        let source = source(step, flow)
        message[start + 4] = UInt8(truncatingIfNeeded: journey >> 8)
        message[start + 5] = UInt8(truncatingIfNeeded: journey)
        for index in 0..<4 { message[start + 12 + index] = UInt8(truncatingIfNeeded: source >> UInt32(24 - 8 * index)) }
        message[start + 20] = UInt8(truncatingIfNeeded: (10_000 + flow) >> 8)
        message[start + 21] = UInt8(truncatingIfNeeded: 10_000 + flow)
        for index in 0..<8 { message[start + 28 + index] = UInt8(truncatingIfNeeded: journey >> (8 * index)) }
    }

    private static func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
        let length = UInt16(4 + value.count)
        return [UInt8(length & 255), UInt8(length >> 8), UInt8(type & 255), UInt8(type >> 8)] + value
            + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    // MARK: Kernel log

    static func writeLog(_ journeys: Int, to path: String) throws {
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        defer { try? file.close() }
        var text: [UInt8] = []
        for journey in 0..<journeys {
            let microseconds = journey * 100
            let stamp = "\(1000 + microseconds / 1_000_000).\(String(format: "%06d", microseconds % 1_000_000))"
            for step in steps {
                let source = IPAddress(ipv4: source(step, journey % 1000))
                let isReceived = step.hook != .output
                let prefix = "\(names[step.namespace].uppercased())_\(step.table.name.uppercased())_\(step.hook.name) "
                text += Array(
                    ("Nov 21 10:59:\(10 + journey / 10_000) router kernel: [ \(stamp)] \(prefix)"
                        + "IN=\(isReceived ? "eth0" : "") OUT=\(step.hook == .prerouting || step.hook == .input ? "" : "eth1") "
                        + (isReceived ? "MAC=52:54:00:12:34:56:52:54:00:65:43:21:08:00 " : "")
                        + "SRC=\(source) DST=8.8.8.8 LEN=92 TOS=0x00 PREC=0x00 TTL=\(step.namespace == 0 ? 64 : 63) "
                        + "ID=\(journey & 0xFFFF) DF PROTO=UDP SPT=\(10_000 + journey % 1000) DPT=9 LEN=72 \n").utf8)
            }
            if text.count > 1 << 22 {
                try file.write(contentsOf: text)
                text.removeAll(keepingCapacity: true)
            }
        }
        try file.write(contentsOf: text)
    }
}
