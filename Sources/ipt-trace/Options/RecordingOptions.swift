import ArgumentParser
import Captures

/// Where `collect` records to, and how much.
struct RecordingOptions: ParsableArguments {
    @Option(
        name: .customLong("record"),
        help: ArgumentHelp(
            "Write every event into a capture (pcapng) that analyze, Wireshark and tshark read. A file that exists is refused.",
            valueName: "file"))
    var path: String?

    @Flag(help: "Replace the file of --record if it exists.")
    var overwrite = false

    @Option(help: ArgumentHelp("Begin another file at this size: 100M, 1G.", valueName: "size"))
    var recordRotateSize: ByteSize?

    @Option(help: ArgumentHelp("Begin another file after this time: 10m, 1h.", valueName: "time"))
    var recordRotateTime: Lifetime?

    @Option(
        help: ArgumentHelp(
            "Bytes of all files together: then the oldest goes, or, without rotation, recording ends.", valueName: "size"))
    var recordLimit = ByteSize(bytes: 1 << 30)

    func validate() throws {
        guard path != nil || !overwrite else { throw ValidationError("--overwrite goes with --record.") }
        guard path != nil || (recordRotateSize == nil && recordRotateTime == nil) else {
            throw ValidationError("--record-rotate-size and --record-rotate-time go with --record.")
        }
        if let recordRotateSize, recordRotateSize.bytes > recordLimit.bytes {
            throw ValidationError("--record-rotate-size is more than --record-limit allows for all files.")
        }
    }

    /// Opens the file; nothing is written before the recorder begins.
    func open() throws -> Recorder? {
        guard let path else { return nil }
        return try Recorder(
            path: path,
            limits: RecordingLimits(
                fileSize: recordRotateSize?.bytes, fileSeconds: recordRotateTime?.seconds, total: recordLimit.bytes),
            run: UInt64.random(in: 1...UInt64.max), overwrites: overwrite)
    }
}

/// A number of bytes on the command line: `500000`, `64K`, `100M`, `2G`, in powers of 1024.
struct ByteSize: ExpressibleByArgument {
    var bytes: UInt64

    init(bytes: UInt64) { self.bytes = bytes }

    init?(argument: String) {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        guard let last = argument.uppercased().last else { return nil }
        let digits = units[last] == nil ? Substring(argument) : argument.dropLast()
        guard let number = UInt64(digits), number > 0, number <= 1 << 20 || units[last] == nil else { return nil }
        bytes = number * (units[last] ?? 1)
    }

    var defaultValueDescription: String { "1G" }
}
