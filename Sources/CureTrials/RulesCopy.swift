import LinuxSupport
import Ruleset
import TraceModel

/// The rules of one namespace, to be put into another.
struct RulesCopy {
    /// Why rules cannot be copied.
    struct Obstacle: Error, CustomStringConvertible {
        var description: String
    }

    private struct Listing {
        /// The program that takes it.
        var program: String
        var arguments: [String]
        var text: String
    }

    private var listings: [Listing] = []
    /// By `FAMILY NAME`.
    private var nativeTables: [String: NFTListingText] = [:]

    /// Reads them.
    init(of namespace: NetworkNamespace) async throws {
        var ownedByIptables: Set<String> = []
        for (family, tool) in [(AddressFamily.ipv4, "iptables"), (.ipv6, "ip6tables")] {
            for backend in Backend.allCases where await Tool.isInstalled("\(tool)-\(backend.rawValue)-save") {
                // Looking at a legacy table is enough to create it.
                if backend == .legacy, try namespace.enter({ try Iptables.legacyTables(family) }).isEmpty { continue }
                let output = try await Tool.require("\(tool)-\(backend.rawValue)-save", in: namespace)
                let lines = output.standardOutput.split(separator: "\n")
                let tables = lines.filter { $0.hasPrefix("*") }.map { "\(family.tableName) \($0.dropFirst())" }
                guard !tables.isEmpty else { continue }
                if lines.contains(where: { $0.hasPrefix("#") && $0.contains("incompatible") }) {
                    throw Obstacle(description: "\(tool)-\(backend.rawValue)-save does not print all of its tables")
                }
                if backend == .nft { ownedByIptables.formUnion(tables) }
                listings.append(
                    Listing(
                        program: "\(tool)-\(backend.rawValue)-restore", arguments: [], text: output.standardOutput))
            }
        }
        // Asked only where there are such rules: the question loads the kernel's module.
        if listings.contains(where: { $0.text.contains("--match-set ") || $0.text.contains("-j SET ") }) {
            let sets = try await Tool.require("ipset", ["save"], in: namespace).standardOutput
            listings.insert(Listing(program: "ipset", arguments: ["restore"], text: sets), at: 0)
        }
        guard await Tool.isInstalled("nft") else { return }
        let tables = try await Tool.require("nft", ["list", "tables"], in: namespace).standardOutput.split(separator: "\n")
        for line in tables {
            let words = line.split(separator: " ")
            guard words.count == 3, case let name = "\(words[1]) \(words[2])", !ownedByIptables.contains(name),
                !words[2].hasPrefix("ipt-trace")
            else { continue }
            // nft reads its arguments as commands.
            guard RuleTexts.isPlain(String(words[2])) else {
                throw Obstacle(description: "a table has a name that nft may misread")
            }
            let table = ["list", "table", "\(words[1])", "\(words[2])"]
            let text = try await Tool.require("nft", table, in: namespace).standardOutput
            // Such a table would go with the program that makes it.
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter {
                !$0.drop { $0 == "\t" }.hasPrefix("flags owner")
            }
            listings.append(Listing(program: "nft", arguments: ["-f", "-"], text: lines.joined(separator: "\n")))
            nativeTables[name] = NFTListingText(try await Tool.require("nft", ["-a"] + table, in: namespace).standardOutput)
        }
    }

    /// Puts the rules into a namespace that has none.
    func put(into copy: NetworkNamespace) async throws {
        for listing in listings {
            let output = try await Tool.run(listing.program, listing.arguments, in: copy, input: listing.text)
            guard output.isSuccess else {
                throw Obstacle(description: "\(listing.program): \(output.standardError.firstLine)")
            }
        }
    }

    /// A command for the namespace as it has to be for the copy, whose rules have handles of their own.
    ///
    /// - Returns: `nil` where the rule that it names is not there.
    func translated(_ command: [String], to copy: NetworkNamespace) async throws -> [String]? {
        guard command.first == "nft", let place = command.firstIndex(of: "handle"), place >= 3, place + 1 < command.count else {
            return command
        }
        let (family, table, chain) = (command[place - 3], command[place - 2], command[place - 1])
        guard let listed = nativeTables["\(family) \(table)"]?.chains[chain] else { return nil }
        let output = try await Tool.require("nft", ["-a", "list", "table", family, table], in: copy).standardOutput
        // The same rules in the same order.
        guard let copied = NFTListingText(output).chains[chain], copied.count == listed.count,
            let index = listed.firstIndex(where: { "\($0.handle)" == command[place + 1] })
        else { return nil }
        var command = command
        command[place + 1] = "\(copied[index].handle)"
        return command
    }
}

extension String {
    var firstLine: String { split(separator: "\n").first.map(String.init) ?? self }
}
