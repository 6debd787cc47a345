/// An identifier of 128 bits, unique across hosts, boots and runs: 64 bits that name the run, 64 that count in it.
public struct TraceID: Sendable, Hashable, CustomStringConvertible {
    public let run: UInt64
    public let serial: UInt64

    public init(run: UInt64, serial: UInt64) {
        self.run = run
        self.serial = serial
    }

    /// 32 hexadecimal digits.
    public var description: String { Self.hex(run) + Self.hex(serial) }

    public init?(_ text: some StringProtocol) {
        guard text.utf8.count == 32, let run = UInt64(text.prefix(16), radix: 16),
            let serial = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.run = run
        self.serial = serial
    }

    /// 16 hexadecimal digits.
    public static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
