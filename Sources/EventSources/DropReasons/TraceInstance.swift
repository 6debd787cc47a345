private import CLinux
private import Foundation
private import Glibc
internal import LinuxSupport

/// An instance of the kernel's tracing of our own (Documentation/trace/ftrace.rst, "Instances"): with its own buffer and settings, beside
/// what others trace.
///
/// It lives as a directory of tracefs, which nothing takes away when its maker is killed. One that is read cannot be removed (EBUSY), so
/// that whoever finds one and can remove it has removed nobody's.
package final class TraceInstance {
    package struct Failure: Error, CustomStringConvertible {
        package var description: String
    }

    /// Readable when there is something to read of some processor (epoll).
    let descriptor: Int32
    private let mount: Int32
    /// By processor; -1 for one that is not there.
    private var pipes: [Int32] = []
    private let path: String

    /// What the names of all instances of this program begin with.
    private static let prefix = "ipt-trace-"

    /// Makes an instance, and takes away those that others left behind.
    ///
    /// - Throws: `Failure` where the kernel has no tracing, or this process no right to it.
    init() throws {
        mount = try Self.mount()
        do {
            _ = try Self.removeAbandoned(below: mount)
            // Numbers of processes are not the same in all PID namespaces.
            path = "\(Self.instances(mount))/\(Self.prefix)\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
            guard FileCalls.makeDirectory(path, mode: 0o700) else {
                throw Failure(description: "no instance of tracing can be made: \(ErrorNumber.text(errno))")
            }
            descriptor = ipt_epoll_create()
        } catch {
            Glibc.close(mount)
            throw error
        }
        try openPipes()
    }

    /// Before anything else: whoever looks for abandoned instances leaves one alone that is open.
    private func openPipes() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: "\(path)/per_cpu")
        for processor in names.compactMap({ $0.hasPrefix("cpu") ? Int($0.dropFirst(3)) : nil }).sorted() {
            let pipe = FileCalls.open("\(path)/per_cpu/cpu\(processor)/trace_pipe_raw", O_RDONLY | O_NONBLOCK)
            guard pipe >= 0 else { throw Failure(description: "the trace cannot be read: \(ErrorNumber.text(errno))") }
            while pipes.count < processor { pipes.append(-1) }
            pipes.append(pipe)
        }
    }

    /// Has `descriptor` tell of what comes, as the settings of the instance have it now.
    func watch() throws {
        for (processor, pipe) in pipes.enumerated() where pipe >= 0 {
            guard ipt_epoll_add(descriptor, pipe, UInt64(processor)) == 0 else {
                throw Failure(description: "the trace cannot be waited for: \(ErrorNumber.text(errno))")
            }
        }
    }

    /// How many processors there are.
    var processors: Int { pipes.count { $0 >= 0 } }

    /// Those of which there is something to read, at most 64.
    var readyProcessors: [Int] {
        var keys = [UInt64](repeating: 0, count: 64)
        let count = unsafe ipt_epoll_ready(descriptor, &keys, Int32(keys.count))
        return keys.prefix(Int(max(0, count))).map { Int($0) }
    }

    /// Reads a sub-buffer of a processor: how many bytes, or none.
    func read(_ processor: Int, into buffer: inout [UInt8]) -> Int { FileCalls.read(pipes[processor], into: &buffer) }

    deinit { close() }

    private(set) var isClosed = false

    /// Takes the instance away.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        // An instance cannot be removed while it is read.
        for pipe in pipes where pipe >= 0 { Glibc.close(pipe) }
        Glibc.close(descriptor)
        _ = FileCalls.removeDirectory(path)
        Glibc.close(mount)
    }

    func write(_ text: String, to file: String) throws {
        let descriptor = FileCalls.open("\(path)/\(file)", O_WRONLY)
        guard descriptor >= 0 else { throw Failure(description: "\(file): \(ErrorNumber.text(errno))") }
        defer { Glibc.close(descriptor) }
        let bytes = Array(text.utf8)
        guard FileCalls.write(descriptor, bytes) == bytes.count else {
            throw Failure(description: "\(file): \(ErrorNumber.text(errno))")
        }
    }

    func read(_ file: String) throws -> String { try String(contentsOfFile: "\(path)/\(file)", encoding: .utf8) }

    /// Why tracing cannot be used here; `nil` where it can.
    package static var obstacle: String? {
        do {
            _ = try TraceInstance()
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// Removes the instances of processes that were killed.
    ///
    /// - Returns: their names; none where tracing cannot be used.
    package static func removeAbandoned() -> [String] {
        guard let mount = try? mount() else { return [] }
        defer { Glibc.close(mount) }
        return (try? removeAbandoned(below: mount)) ?? []
    }

    private static func removeAbandoned(below mount: Int32) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: instances(mount)).filter {
            $0.hasPrefix(prefix) && FileCalls.removeDirectory("\(instances(mount))/\($0)")
        }
    }

    private static func instances(_ mount: Int32) -> String { "/proc/self/fd/\(mount)/instances" }

    /// A mount of tracefs that stands at no path, and goes with its descriptor.
    private static func mount() throws -> Int32 {
        let descriptor = unsafe ipt_mount_detached("tracefs")
        guard descriptor >= 0 else {
            let code = errno
            let reason =
                code == EPERM
                ? "tracing takes root of the machine's first user namespace, and a kernel that is not locked down"
                : code == ENODEV ? "the kernel has no tracefs" : "tracefs cannot be mounted: \(ErrorNumber.text(code))"
            throw Failure(description: reason)
        }
        return descriptor
    }
}
