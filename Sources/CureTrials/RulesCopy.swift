import Foundation
import LinuxSupport
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
    /// As nft lists them, with handles, by `FAMILY NAME`.
    private var nativeTables: [String: String] = [:]

    /// Reads them.
    init(of namespace: NetworkNamespace) async throws {
        if await Tool.isInstalled("ipset") {
            let sets = try await Tool.require("ipset", ["save"], in: namespace).standardOutput
            if !sets.isEmpty { listings.append(Listing(program: "ipset", arguments: ["restore"], text: sets)) }
        }
        var ownedByIptables: Set<String> = []
        for (family, tool, names) in [
            (AddressFamily.ipv4, "iptables", "/proc/thread-self/net/ip_tables_names"),
            (.ipv6, "ip6tables", "/proc/thread-self/net/ip6_tables_names"),
        ] {
            for backend in Backend.allCases where await Tool.isInstalled("\(tool)-\(backend.rawValue)-save") {
                // Looking at a legacy table is enough to create it.
                if backend == .legacy,
                    try namespace.enter({ try? String(contentsOfFile: names, encoding: .utf8) })?.isEmpty ?? true
                {
                    continue
                }
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
        guard await Tool.isInstalled("nft") else { return }
        let tables = try await Tool.require("nft", ["list", "tables"], in: namespace).standardOutput.split(separator: "\n")
        for line in tables {
            let words = line.split(separator: " ")
            guard words.count == 3, case let name = "\(words[1]) \(words[2])", !ownedByIptables.contains(name),
                !words[2].hasPrefix("ipt-trace")
            else { continue }
            let table = ["list", "table", "\(words[1])", "\(words[2])"]
            let text = try await Tool.require("nft", table, in: namespace).standardOutput
            // Such a table would go with the program that makes it.
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter {
                !$0.drop { $0 == "\t" }.hasPrefix("flags owner")
            }
            listings.append(Listing(program: "nft", arguments: ["-f", "-"], text: lines.joined(separator: "\n")))
            nativeTables[name] = try await Tool.require("nft", ["-a"] + table, in: namespace).standardOutput
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
        guard let listed = nativeTables["\(family) \(table)"] else { return nil }
        let copied = try await Tool.require("nft", ["-a", "list", "table", family, table], in: copy).standardOutput
        let handles = (Self.handles(of: chain, in: listed), Self.handles(of: chain, in: copied))
        guard handles.0.count == handles.1.count, let index = handles.0.firstIndex(of: Substring(command[place + 1])) else {
            return nil
        }
        var command = command
        command[place + 1] = String(handles.1[index])
        return command
    }

    /// The handles of a chain's rules, in order, from the output of `nft -a list table`.
    static func handles(of chain: String, in listing: String) -> [Substring] {
        var isInside = false
        var handles: [Substring] = []
        for line in listing.split(separator: "\n") {
            if line.hasPrefix("\tchain \(chain) {") {
                isInside = true
            } else if line == "\t}" {
                isInside = false
            } else if isInside, let mark = line.range(of: " # handle ") {
                handles.append(line[mark.upperBound...])
            }
        }
        return handles
    }
}

extension String {
    var firstLine: String { split(separator: "\n").first.map(String.init) ?? self }
}

extension Substring {
    /// The last occurrence.
    fileprivate func range(of text: String) -> Range<Index>? { ranges(of: text).last }
}
