private import Foundation
public import LinuxSupport
public import TraceModel

/// The iptables programs of this machine: reading and applying rules of one family and backend in a namespace.
public struct Iptables: Sendable {
    /// Which backends can be used at all.
    public let backends: [Backend]

    /// - Throws: `RulesetError.noBackend` where neither is installed.
    public static func discover() async throws -> Iptables {
        let iptables = await installed()
        guard !iptables.backends.isEmpty else { throw RulesetError.noBackend }
        return iptables
    }

    /// The programs that are installed, which may be none.
    static func installed() async -> Iptables {
        var backends: [Backend] = []
        for backend in Backend.allCases where await Tool.isInstalled(tool(.ipv4, backend, "restore")) {
            backends.append(backend)
        }
        return Iptables(backends: backends)
    }

    /// `iptables-nft-save`, `ip6tables-legacy-restore`, …
    static func tool(_ family: AddressFamily, _ backend: Backend, _ action: String) -> String {
        "\(family == .ipv4 ? "iptables" : "ip6tables")-\(backend.rawValue)-\(action)"
    }

    /// The rules of one backend with their counters; `nil` where it holds none.
    public func save(_ family: AddressFamily, _ backend: Backend, in namespace: NetworkNamespace) async throws -> RuleDump? {
        guard backends.contains(backend) else { return nil }
        switch backend {
        case .nft: return try await saveNFTables(family, in: namespace)?.dump
        case .legacy:
            // Looking at a legacy table is enough to create it, so ask first which ones there are.
            guard try !namespace.enter({ try Self.legacyTables(family) }).isEmpty else { return nil }
            let dump = try RuleDump(parsing: try await print(family, .legacy, in: namespace).require().standardOutput)
            return dump.tables.isEmpty ? nil : dump
        }
    }

    /// The rules of iptables-nft with the listing that they were read with; `nil` where no table of iptables has a chain.
    ///
    /// A table that iptables-nft-save does not print, or that changed during every attempt to read both, is in the dump as
    /// nf_tables lists it, with the reason.
    func saveNFTables(
        _ family: AddressFamily, in namespace: NetworkNamespace, known: NFTablesListing? = nil
    ) async throws -> (dump: RuleDump, listing: NFTablesListing)? {
        var listing = try known ?? NFTablesListing.read(in: namespace)
        for attempt in 0..<Self.mostAttempts {
            // Without a chain there is no rule, and no program has to be started to say so.
            guard listing.chains.contains(where: { $0.key.nfTable.iptables?.family == family }) else { return nil }
            let printed = try await print(family, .nft, in: namespace)
            let present = try NFTablesListing.generation(in: namespace)
            let isOneGeneration = present == listing.generation
            if isOneGeneration || attempt + 1 == Self.mostAttempts {
                return (
                    RuleDump(family, listing: listing, printed: printed, isOneGeneration: isOneGeneration), listing
                )
            }
            listing = try NFTablesListing.read(in: namespace)
        }
        throw RulesetError.keepsChanging(namespace: namespace.name)
    }

    /// How often the rules are read again when they change while a program prints them.
    private static let mostAttempts = 5

    /// What iptables-save printed, and its complaint where it could not print all.
    struct Printed {
        var standardOutput: String
        var complaint: String?
        var tool: String

        func require() throws -> Printed {
            guard let complaint else { return self }
            throw NamespaceError.toolFailed(command: tool, status: "failed", message: complaint)
        }
    }

    private func print(_ family: AddressFamily, _ backend: Backend, in namespace: NetworkNamespace) async throws -> Printed {
        let tool = Self.tool(family, backend, "save")
        let output: Tool.Output
        do {
            output = try await Tool.run(tool, ["-c"], in: namespace)
        } catch NamespaceError.toolMissing(_) where backend == .nft {
            // nf_tables' own listing does without.
            return Printed(standardOutput: "", complaint: "not installed", tool: tool)
        }
        guard !output.isSuccess else { return Printed(standardOutput: output.standardOutput, tool: tool) }
        if output.standardError.contains("Permission denied") || output.standardError.contains("must be root") {
            throw RulesetError.permission("\(tool) in namespace \(namespace.name)")
        }
        let message = output.standardError.trimmed
        return Printed(
            standardOutput: output.standardOutput, complaint: message.isEmpty ? "\(output.status)" : message, tool: tool)
    }

    /// The tables that the legacy backend has in the namespace of this thread (`/proc/net/ip_tables_names`); none where the list may
    /// not be read, as in a network namespace made together with its user namespace: its rules are left alone then.
    package static func legacyTables(_ family: AddressFamily) throws -> [String] {
        let path = "/proc/thread-self/net/\(family == .ipv4 ? "ip" : "ip6")_tables_names"
        do {
            return try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile || error.code == .fileReadNoPermission {
            return []
        }
    }

    /// Whether the legacy backend has any table in this namespace.
    func hasLegacyTables(in namespace: NetworkNamespace) throws -> Bool {
        for family in AddressFamily.allCases where try !namespace.enter({ try Self.legacyTables(family) }).isEmpty {
            return true
        }
        return false
    }

    /// Applies `input`, one transaction per table, leaving every other rule alone.
    ///
    /// - Throws: `NamespaceError.toolFailed` with iptables' own message. Tables before the one that failed are applied then.
    public func restore(
        _ input: RestoreInput, _ family: AddressFamily, _ backend: Backend, in namespace: NetworkNamespace
    ) async throws {
        guard !input.isEmpty else { return }
        // With the legacy backend the caller holds the lock that iptables itself would wait for (`XtablesLock`).
        let variables: [String: String] = backend == .legacy ? XtablesLock.variablesOfHolder : [:]
        try await Tool.require(
            Self.tool(family, backend, "restore"), ["--noflush", "-w", "10"], in: namespace, input: input.text,
            variables: variables)
    }
}

extension String {
    var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
