private import Glibc
private import Logging
public import Subprocess
private import SystemPackage
private import TraceModel

/// Runs other programs, by name and arguments and never through a shell.
public enum Tool {
    public struct Output: Sendable {
        public var status: TerminationStatus
        public var standardOutput: String
        public var standardError: String

        public var isSuccess: Bool { status.isSuccess }

        /// `nil` where a signal ended it.
        public var exitCode: Int32? {
            if case .exited(let code) = status { code } else { nil }
        }
    }

    /// Runs `name` inside `namespace`, waits for its end, and returns its output.
    ///
    /// - Parameters:
    ///   - namespace: `nil` for the one this process is in.
    ///   - input: its standard input.
    ///   - variables: added to its environment.
    /// - Throws: `NamespaceError.toolMissing`, `.descriptors` where too few are left to start it, or what the launch failed
    ///   with. An exit code other than 0 does not throw.
    public static func run(
        _ name: String, _ arguments: [String] = [], in namespace: NetworkNamespace? = nil, input: String = "",
        variables: [String: String] = [:]
    ) async throws -> Output {
        guard await isInstalled(name) else { throw NamespaceError.toolMissing(name) }
        guard let namespace else { return try await launch([name] + arguments, place: "", input: input, variables: variables) }
        guard await isInstalled("nsenter") else { throw NamespaceError.toolMissing("nsenter") }
        // Without the privilege this throws a typed error, where nsenter only prints one.
        try namespace.enter {}
        let descriptor = try namespace.opened()
        defer { withExtendedLifetime(descriptor) {} }
        let path = "/proc/\(getpid())/fd/\(descriptor.number)"
        return try await launch(
            ["nsenter", "--net=\(path)", "--", name] + arguments, place: " in \(namespace.name)", input: input,
            variables: variables)
    }

    private static let logger = Logger(label: "programs")

    private static func launch(
        _ command: [String], place: String, input: String, variables: [String: String]
    ) async throws -> Output {
        try await LaunchGate.pass("start \(command[0])") {
            let begun = ContinuousClock.now
            let result = try await Subprocess.run(
                executable(command[0]), arguments: Arguments(Array(command.dropFirst())),
                environment: searchPath.updating(
                    Dictionary(uniqueKeysWithValues: variables.map { (Environment.Key(stringLiteral: $0.key), $0.value) })),
                input: .string(input), output: .bytes(limit: outputLimit), error: .bytes(limit: outputLimit))
            logger.debug(
                """
                \(command.joined(separator: " "))\(place): \(result.terminationStatus), \(input.utf8.count) bytes in, \
                \(result.standardOutput.count) out, after \(begun.duration(to: .now).formattedMilliseconds)
                """)
            return Output(
                status: result.terminationStatus, standardOutput: String(escapingInvalid: result.standardOutput),
                standardError: String(escapingInvalid: result.standardError))
        }
    }

    /// As `run`, but an exit code other than 0 throws `NamespaceError.toolFailed` with the program's own message.
    @discardableResult
    public static func require(
        _ name: String, _ arguments: [String] = [], in namespace: NetworkNamespace? = nil, input: String = "",
        variables: [String: String] = [:]
    ) async throws -> Output {
        let output = try await run(name, arguments, in: namespace, input: input, variables: variables)
        guard output.isSuccess else {
            throw NamespaceError.toolFailed(
                command: ([name] + arguments).joined(separator: " "), status: "\(output.status)",
                message: String(output.standardError.prefix(4096)).trimmingNewlines)
        }
        return output
    }

    /// Whether `name` is found on the search path, or is the path of a program.
    public static func isInstalled(_ name: String) async -> Bool {
        (try? await executable(name).resolveExecutablePath(in: searchPath)) != nil
    }

    private static func executable(_ name: String) -> Executable {
        name.contains("/") ? .path(FilePath(name)) : .name(name)
    }

    /// The most that a program may print: an `iptables-save` of some 400,000 rules.
    private static let outputLimit = 64 << 20

    /// The user's search path and the directories of administration, which an ordinary user's lacks. English messages.
    public static let searchPath = Environment.inherit.updating([
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
    ])
}

extension Duration {
    fileprivate var formattedMilliseconds: String {
        "\(components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000) ms"
    }
}

extension String {
    var trimmingNewlines: String {
        var text = Substring(self)
        while let last = text.last, last.isNewline { text.removeLast() }
        return String(text)
    }
}
