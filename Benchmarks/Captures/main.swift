// Files to reports: how fast, and in how much memory. Generates a capture and a kernel log, reads them with ipt-trace, and with
// tcpdump and tshark for comparison, each on one core and from the page cache, and with a second core for ipt-trace. `make bench-captures` runs it.
//
//   CaptureBenchmark [JOURNEYS] [--keep FOLDER]
//   CaptureBenchmark --recording FILE EVENTS     what collect --record wrote, on one core and on two

import Captures
import Foundation
import Glibc
import TraceModel
import WireFormat

let arguments = Array(CommandLine.arguments.dropFirst())
let journeys = arguments.first.flatMap { Int($0) } ?? 150_000
let kept = arguments.firstIndex(of: "--keep").flatMap { $0 + 1 < arguments.count ? arguments[$0 + 1] : nil }
let folder = kept ?? "\(NSTemporaryDirectory())ipt-trace-bench-\(getpid())"
let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appendingPathComponent("ipt-trace")
    .path

/// Resources that one program used.
struct Cost {
    var wall: Double
    var cpu: Double
    var peakKiB: Int
    var isSuccess: Bool
}

/// Runs a program on some cores, with its output thrown away.
@MainActor func measure(_ words: [String], cores: String) -> Cost? {
    let all = ["taskset", "-c", cores] + words
    var pid: pid_t = 0
    var pointers: [UnsafeMutablePointer<CChar>?] = unsafe all.map { unsafe strdup($0) } + [nil]
    defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    for descriptor in [STDOUT_FILENO, STDERR_FILENO] {
        unsafe posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
    }
    let begun = Date()
    guard unsafe posix_spawnp(&pid, "taskset", &actions, nil, &pointers, environ) == 0 else { return nil }
    var status: Int32 = 0
    var usage = rusage()
    unsafe wait4(pid, &status, 0, &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return Cost(
        wall: Date().timeIntervalSince(begun), cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        peakKiB: usage.ru_maxrss, isSuccess: status == 0)
}

@MainActor @discardableResult
func report(_ name: String, _ count: Int, _ noun: String, _ words: [String], cores: String = "0") -> Cost? {
    guard let cost = measure(words, cores: cores), cost.isSuccess else {
        print("\(name): did not run")
        return nil
    }
    func rounded(_ value: Double) -> String { String(format: "%.2f", value) }
    print(
        "\(name): \(rounded(cost.wall)) s, CPU \(rounded(cost.cpu)) s, \(Int(Double(count) / cost.cpu)) \(noun)/s of CPU, "
            + "\(Int(Double(count) / cost.wall)) \(noun)/s, peak \(cost.peakKiB / 1024) MiB")
    return cost
}

/// The same file on one core and on two in turn, after a run that brings it into the page cache.
@MainActor func compare(_ name: String, _ events: Int, _ words: [String], rounds: Int = 7) {
    _ = measure(words, cores: "0,1")
    var times: (one: [Double], two: [Double]) = ([], [])
    for _ in 1...rounds {
        if let one = report(name, events, "events", words) { times.one.append(one.wall) }
        if let two = report("\(name), two cores", events, "events", words, cores: "0,1") { times.two.append(two.wall) }
    }
    guard !times.one.isEmpty, !times.two.isEmpty else { return }
    func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
    let gain = median(times.one) / median(times.two)
    let best = (times.one.min() ?? 0) / (times.two.min() ?? 1)
    print(
        "a second core: \(String(format: "%.2f", gain)) times as fast (of the medians; of the quickest "
            + "\(String(format: "%.2f", best)))")
}

if arguments.first == "--recording", arguments.count == 3, let events = Int(arguments[2]) {
    compare("ipt-trace analyze, a recording", events, [program, "analyze", arguments[1]])
    exit(0)
}

try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
defer { if kept == nil { try? FileManager.default.removeItem(atPath: folder) } }
let events = journeys * Traffic.steps.count
let lines = min(journeys, 50_000) * Traffic.steps.count
print("\(events) NFLOG events in \(journeys) journeys; \(lines) lines of kernel log")
let size = try Traffic.writeCapture(journeys, to: "\(folder)/full.pcapng")
_ = try Traffic.writeCapture(journeys / 2, to: "\(folder)/half.pcapng")
try Traffic.writeLog(lines / Traffic.steps.count, to: "\(folder)/kernel.log")
print("capture: \(size >> 20) MiB")
compare("ipt-trace analyze, the capture", events, [program, "analyze", "\(folder)/full.pcapng"])
for round in 1...3 {
    print("round \(round)")
    report("ipt-trace analyze, half of the capture", events / 2, "events", [program, "analyze", "\(folder)/half.pcapng"])
    report("ipt-trace analyze, kernel log", lines, "lines", [program, "analyze", "\(folder)/kernel.log"])
    report("tcpdump -r FILE -n", events, "events", ["tcpdump", "-r", "\(folder)/full.pcapng", "-n"])
}
report(
    "tshark -T fields", events, "events",
    ["tshark", "-r", "\(folder)/full.pcapng", "-T", "fields", "-e", "nflog.prefix", "-e", "ip.src", "-e", "ip.dst"])
