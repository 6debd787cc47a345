/// The name of a run, parsed: its journal has it, and every prefix of its probes.
public enum RunName {
    /// The purpose of a run's probes.
    public enum Purpose: Sendable {
        /// They stand until they are taken out or expire; the next installation replaces them.
        case standing
        /// They go with one `trace`; no installation replaces them.
        case trace
    }

    /// Begins the names of traces' runs; those of others are hexadecimal digits.
    private static let traceMark = "t"

    /// Six characters, of which five at least are random hexadecimal digits.
    static func new(_ purpose: Purpose) -> String {
        let digits = String(UInt32.random(in: 0..<1 << 24), radix: 16)
        let name = String(repeating: "0", count: 6 - digits.count) + digits
        return purpose == .trace ? traceMark + name.prefix(5) : name
    }

    static func purpose(of name: String) -> Purpose { name.hasPrefix(traceMark) ? .trace : .standing }
}
