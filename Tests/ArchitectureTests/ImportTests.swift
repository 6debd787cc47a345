import Foundation
import Testing

/// The modules' imports against what Package.swift declares and docs/architecture.md says: imports point down only.
@Suite struct ImportTests {
    /// From the top down; a module imports only modules behind it.
    private static let order = [
        "ipt-trace", "Lab", "API", "WebPage", "HTTPServer", "Reports", "CureTrials", "Diagnosis", "EventSources", "HostLayout",
        "Engine",
        "Aggregation",
        "Correlation",
        "Ruleset", "Captures", "LinuxSupport", "WireFormat", "TraceModel", "CMnl", "CNetfilterLog", "CZlib", "CZstd", "CPcap",
        "CLinux",
    ]

    /// Libraries of other packages, by the name in Package.swift.
    private static let libraries = [
        "argumentParser": "ArgumentParser", "logging": "Logging", "deque": "DequeModule", "subprocess": "Subprocess",
        "httpTypes": "HTTPTypes", "systemPackage": "SystemPackage",
    ]

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")

    /// Dependencies by module, from Package.swift's `module(…)` and its targets under Sources.
    private static func declared() throws -> [String: Set<String>] {
        let text = try String(contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
        var modules: [String: Set<String>] = [:]
        let pattern =
            #/(?:module\(\s*"([A-Za-z-]+)"(?:,\s*\[([^\]]*)\])?(?:,\s*(?:also|resources): \[[^\]]*\])?\)|arget\(\s*name: "(ipt-trace)",\s*dependencies: \[([^\]]*)\])/#
        for match in text.matches(of: pattern) {
            guard let name = match.output.1 ?? match.output.3 else { continue }
            let list = match.output.2 ?? match.output.4 ?? ""
            modules[String(name)] = Set(
                list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty }.map
                {
                    $0.hasPrefix("\"") ? String($0.dropFirst().dropLast()) : libraries[$0] ?? $0
                })
        }
        return modules
    }

    /// Modules that the sources of `module` import, those of the toolchain aside.
    private static func imported(by module: String) throws -> Set<String> {
        let toolchain: Set<String> = ["Foundation", "Glibc", "Synchronization", "Dispatch", "FoundationNetworking"]
        let folder = root.appendingPathComponent("Sources/\(module)")
        let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
        var found: Set<String> = []
        while let file = files?.nextObject() as? URL {
            guard file.pathExtension == "swift" else { continue }
            for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            where line.contains("import ") {
                if let match = line.wholeMatch(
                    of: #/(?:(?:public|package|internal|private|@\w+(?:\(.*\))?) )*import (?:struct |func )?(\w+)(?:\.\w+)?/#)
                {
                    found.insert(String(match.output.1))
                }
            }
        }
        return found.subtracting(toolchain)
    }

    @Test("every module of Package.swift has its place in the order, and each is found")
    func order() throws {
        let modules = try Self.declared()
        #expect(modules.count >= 15)
        #expect(Set(modules.keys).isSubset(of: Self.order))
    }

    @Test("a module's imports equal its declared dependencies")
    func declarations() throws {
        for (module, dependencies) in try Self.declared().sorted(by: { $0.key < $1.key }) {
            let imported = try Self.imported(by: module)
            #expect(imported.subtracting(dependencies).sorted() == [], "\(module) imports these without declaring them")
            #expect(dependencies.subtracting(imported).sorted() == [], "\(module) declares these without importing them")
        }
    }

    @Test("imports point down")
    func direction() throws {
        for (module, dependencies) in try Self.declared() {
            let own = try #require(Self.order.firstIndex(of: module))
            for dependency in dependencies {
                guard let other = Self.order.firstIndex(of: dependency) else { continue }
                #expect(other > own, "\(module) imports \(dependency), which stands above it")
            }
        }
    }
}
