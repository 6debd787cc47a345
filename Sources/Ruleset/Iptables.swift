private import Foundation
public import Namespaces
public import TraceModel

/// The iptables programs of this machine: reading and applying rules of one family and backend in a namespace.
public struct Iptables: Sendable {
    /// Which backends can be used at all.
    public let backends: [Backend]

    /// - Throws: `RulesetError.noBackend` where neither is installed.
    public static func discover() async throws -> Iptables {
        var backends: [Backend] = []
        for backend in Backend.allCases where await Tool.isInstalled(tool(.ipv4, backend, "restore")) {
            backends.append(backend)
        }
        guard !backends.isEmpty else { throw RulesetError.noBackend }
        return Iptables(backends: backends)
    }

    /// `iptables-nft-save`, `ip6tables-legacy-restore`, …
    static func tool(_ family: AddressFamily, _ backend: Backend, _ action: String) -> String {
        "\(family == .ipv4 ? "iptables" : "ip6tables")-\(backend.rawValue)-\(action)"
    }

    /// The rules of one backend with their counters; `nil` where it holds none.
    public func save(_ family: AddressFamily, _ backend: Backend, in namespace: NetworkNamespace) async throws -> RuleDump? {
        guard backends.contains(backend) else { return nil }
        // Looking at a legacy table is enough to create it, so ask first which ones there are.
        if backend == .legacy {
            guard try !legacyTables(family, in: namespace).isEmpty else { return nil }
        }
        let tool = Self.tool(family, backend, "save")
        let output = try await Tool.run(tool, ["-c"], in: namespace)
        guard output.isSuccess else {
            if output.standardError.contains("Permission denied") || output.standardError.contains("must be root") {
                throw RulesetError.permission("\(tool) in namespace \(namespace.name)")
            }
            throw NamespaceError.toolFailed(
                command: tool, status: "\(output.status)", message: output.standardError.trimmed)
        }
        let dump = try RuleDump(parsing: output.standardOutput)
        return dump.tables.isEmpty ? nil : dump
    }

    /// The tables that the legacy backend has in this namespace (`/proc/net/ip_tables_names`); none where the list may not
    /// be read, as in a network namespace made together with its user namespace: its rules are left alone then.
    private func legacyTables(_ family: AddressFamily, in namespace: NetworkNamespace) throws -> [String] {
        let path = "/proc/thread-self/net/\(family == .ipv4 ? "ip" : "ip6")_tables_names"
        let names = try namespace.enter { try? String(contentsOfFile: path, encoding: .utf8) }
        return (names ?? "").split(separator: "\n").map(String.init)
    }

    /// Applies `input`, one transaction per table, leaving every other rule alone.
    ///
    /// - Throws: `NamespaceError.toolFailed` with iptables' own message. Tables before the one that failed are applied then.
    public func restore(
        _ input: RestoreInput, _ family: AddressFamily, _ backend: Backend, in namespace: NetworkNamespace
    ) async throws {
        guard !input.isEmpty else { return }
        try await Tool.require(
            Self.tool(family, backend, "restore"), ["--noflush", "-w", "10"], in: namespace, input: input.text)
    }
}

extension String {
    var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
