public import Aggregation
public import Captures
internal import Correlation
internal import Engine
private import Foundation
private import Synchronization
internal import TraceModel
internal import WireFormat

/// Reads files as a collector reads sockets, with the same result.
///
/// One thread reads all files, merged by time; others get snapshots of its result at any moment.
public final class Analysis: Sendable {
    public struct Options: Sendable {
        /// Files, `-` for standard input, `NAMESPACE=FILE` for a capture whose namespace the file does not name.
        public var files: [String]
        public var rules: OfflineRules
        public var links: OfflineLinks
        /// Whether to wait for more at the end of a file.
        public var follows: Bool
        /// Microseconds without an event after which a journey is closed; `nil`: what suits the files.
        public var linger: Int64?
        public var maximumJourneys: Int
        /// Starts the packets' fingerprints in all files (`PacketParser`). Random, so that no file can be made for it; what
        /// comes of a file does not depend on it.
        package var seed = UInt64.random(in: 0...UInt64.max)

        public init(
            files: [String], rules: OfflineRules = OfflineRules(), links: OfflineLinks = OfflineLinks(), follows: Bool = false,
            linger: Int64? = nil,
            maximumJourneys: Int = 1 << 20
        ) {
            self.files = files
            self.rules = rules
            self.links = links
            self.follows = follows
            self.linger = linger
            self.maximumJourneys = maximumJourneys
        }
    }

    /// How far the reading has come.
    public struct Progress: Sendable {
        /// Bytes of the files as they are on disk, and in all where that is known.
        public var bytes: UInt64 = 0
        public var size: UInt64?
        public var events: UInt64 = 0
    }

    /// What came of it.
    public struct Result: Sendable {
        public var snapshot: TraceSnapshot
        public var problems: Problems
        /// Lines of kernel logs that no firewall rule wrote.
        public var otherLines: UInt64
    }

    private struct State {
        var progress = Progress()
        var machine = MachineIdentity()
        var isStopping = false
    }

    private let state = Mutex(State())
    private let exchange: SnapshotExchange
    /// Ends a pause at the end of a file that is followed.
    private let wake = DispatchSemaphore(value: 0)

    public init() {
        exchange = SnapshotExchange(interval: .milliseconds(200), patience: .seconds(5)) { [wake] in wake.signal() }
    }

    public var progress: Progress { state.withLock { $0.progress } }

    /// The machine that was recorded, as far as the files have said.
    public var machine: MachineIdentity { state.withLock { $0.machine } }

    /// A snapshot at most 200 ms old, or the last one once the reading has ended; `nil` where none came within 5 s.
    public func snapshot() async -> TraceSnapshot? { await exchange.take(.all) }

    /// Makes `run` return with its result so far.
    public func stop() { state.withLock { $0.isStopping = true } }

    /// Reads the files to their ends, on the thread of the caller.
    ///
    /// - Parameter watcher: gets each journey as it ends.
    public func run(_ options: Options, watcher: (any JourneyWatcher)? = nil) throws(CaptureError) -> Result {
        try run(options, watcher: watcher, observer: nil)
    }

    package func run(
        _ options: Options, watcher: (any JourneyWatcher)? = nil, observer: (any AnalysisObserver)?
    ) throws(CaptureError) -> Result {
        defer { exchange.end() }
        let registry = LayoutRegistry(.offline)
        var inputs: [any TraceInput] = []
        var traits = Traits()
        // An observer is shown the bytes, which are not kept for records decoded ahead.
        let isAhead = observer == nil && Self.processors > 1
        for file in options.files { inputs.append(try open(file, options, &traits, isAhead: isAhead)) }
        for input in inputs { input.begin() }
        defer { for input in inputs { input.end() } }
        var state = AnalysisState(
            registry: registry, rules: options.rules,
            engine: TraceEngine(
                registry: registry, limits: traits.limits(options), run: traits.run, since: 0,
                watcher: watcher),
            seed: options.seed, lateness: traits.lateness, isAlone: inputs.count == 1, observer: observer,
            onMachine: { machine in self.state.withLock { $0.machine = machine } })
        let channels = [EventChannel.nflog] + (inputs.contains { $0.channel == .kernelLog } ? [.kernelLog] : [])
        state.learn(options.links, channels)
        if channels.contains(.kernelLog) { state.learnLogRules() }
        for name in traits.damaged {
            state.problems.add("\(name): its beginning is not that of a capture; what could be recognised behind it is read")
        }
        try read(inputs, options, &state)
        state.finish()
        let last = state.snapshot()
        exchange.publish(last)
        return Result(
            snapshot: last, problems: state.problems, otherLines: state.logReader.others)
    }

    private func read(_ inputs: [any TraceInput], _ options: Options, _ state: inout AnalysisState) throws(CaptureError) {
        var isFollowing = options.follows
        while true {
            var next: (input: any TraceInput, time: Int64)?
            var limit = Int64.max
            for input in inputs {
                guard let time = try input.nextTime(&state.problems) else {
                    if input.isExhausted { input.close(into: &state) }
                    continue
                }
                if let best = next, best.time <= time {
                    limit = min(limit, time)
                } else {
                    if let best = next { limit = min(limit, best.time) }
                    next = (input, time)
                }
            }
            if let next {
                try next.input.deliver(upTo: limit, count: 2048, into: &state)
            } else if inputs.allSatisfy(\.isExhausted) {
                return
            } else {
                // In files that are written meanwhile, silent journeys have ended.
                if isFollowing { state.idle() }
                if inputs.allSatisfy(\.stream.isFile) { _ = wake.wait(timeout: .now() + .milliseconds(100)) }
            }
            let isStopping = note(inputs, state.events)
            if exchange.wanted != nil { exchange.publish(state.snapshot()) }
            if isStopping {
                // A pipe's end may never come; files are still read to their present ends.
                guard isFollowing, inputs.allSatisfy(\.stream.isFile) else { return }
                isFollowing = false
                self.state.withLock { $0.isStopping = false }
                for input in inputs { input.stopFollowing() }
            }
        }
    }

    /// Processors that this process may use (sched_getaffinity(2), as nproc counts them).
    private static var processors: Int { ProcessInfo.processInfo.activeProcessorCount }

    /// - Returns: whether the reading is to end.
    private func note(_ inputs: [any TraceInput], _ events: UInt64) -> Bool {
        var progress = Progress()
        progress.events = events
        var size: UInt64? = 0
        for input in inputs {
            progress.bytes += input.consumed
            size = input.stream.size.flatMap { part in size.map { $0 + part } }
        }
        progress.size = size
        return state.withLock { state in
            state.progress = progress
            return state.isStopping
        }
    }

    // MARK: Opening

    /// Properties of the files that decide how long packets are waited for.
    private struct Traits {
        var isOwnRecordingOnly = true
        /// Names of files whose beginning is damaged.
        var damaged: [String] = []
        /// Hash of the files' beginnings, so that the same files give the same identifiers.
        var run: UInt64 = 0xCBF2_9CE4_8422_2325

        mutating func mix(_ bytes: ArraySlice<UInt8>) {
            for byte in bytes.prefix(1 << 16) { run = (run ^ UInt64(byte)) &* 0x100_0000_01B3 }
        }

        /// Recordings have the times at which the collector received, within milliseconds of the event. tcpdump lets the kernel
        /// gather messages for up to a second (the default flush timeout of nfnetlink_log), and syslog has whole seconds.
        var lateness: Int64 { isOwnRecordingOnly ? 20_000 : 100_000 }

        func limits(_ options: Options) -> Correlator.Limits {
            var limits = Correlator.Limits()
            limits.doubtsGaps = true
            if !isOwnRecordingOnly {
                limits.linger = 2_000_000
                // Where the links are not known nothing is certain to have ended.
                limits.settle = 2_000_000
                limits.delay = 2_000_000
            }
            if let linger = options.linger {
                limits.linger = linger
                limits.settle = isOwnRecordingOnly ? min(limits.settle, linger) : linger
            }
            limits.journeys = options.maximumJourneys
            return limits
        }
    }

    private func open(
        _ argument: String, _ options: Options, _ traits: inout Traits, isAhead: Bool
    ) throws(CaptureError) -> any TraceInput {
        let file = NamedFile(argument)
        let isWanted = {
            // A pipe may stay silent for long; whoever asks for a report meanwhile gets an empty one.
            if self.exchange.wanted != nil { self.exchange.publish(Self.nothingRead) }
            return !self.state.withLock { $0.isStopping }
        }
        let stream = try ByteStream(path: file.path, isWanted: isWanted)
        var window = InputWindow(stream, isFollowing: options.follows)
        // Enough to recognise the format, which a pipe may bring in pieces.
        while !Self.isRecognisable(window), !window.isLast, isWanted() {
            guard try window.fill() || !options.follows || !stream.isFile else { break }
        }
        traits.mix(window.buffer[window.range])
        let recognised = try InputFormat.open(
            UnreadFile(
                stream: stream, window: window, label: file.name ?? Self.label(file.path, options.files),
                isFollowed: options.follows, mayBeDecodedAhead: isAhead && stream.isFile && !options.follows,
                seed: options.seed))
        if recognised.isBeginningDamaged { traits.damaged.append(stream.name) }
        traits.isOwnRecordingOnly = traits.isOwnRecordingOnly && recognised.isOwnRecording
        return recognised.input
    }

    private static var nothingRead: TraceSnapshot {
        TraceSnapshot(
            generatedAt: 0, since: 0, context: TraceContext(run: 0, layout: Layout(), stepTrie: StepTrie(capacity: 1)),
            completeness: Completeness(),
            paths: PathTable(), flows: [], journeys: [])
    }

    /// Whether there are bytes enough to tell the format: a line of text, or more than any header.
    private static func isRecognisable(_ window: InputWindow) -> Bool {
        let bytes = window.buffer[window.range]
        return bytes.count >= 4096 || (bytes.count >= 64 && bytes.contains(0x0A) && !bytes.contains(0))
    }

    /// Name for the namespace of a capture that does not say: the host, or, of several, what the file is called.
    private static func label(_ path: String, _ files: [String]) -> String {
        guard files.count > 1, path != "-" else { return "host" }
        let name = URL(fileURLWithPath: path).lastPathComponent
        return name.split(separator: ".").first.map(String.init) ?? name
    }
}
