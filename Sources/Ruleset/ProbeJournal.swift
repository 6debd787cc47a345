private import Foundation
public import Namespaces
public import TraceModel

/// What was installed, on disk before it is applied, so that any later process can take out exactly that.
///
/// One file per run under `/run/ipt-trace/probes`, which a reboot clears as it clears the rules.
public struct ProbeJournal: Codable, Sendable {
    public static let directory = "/run/ipt-trace/probes"

    /// The rules of one family and backend in one namespace.
    public struct Site: Codable, Sendable {
        public var family: AddressFamily
        public var backend: Backend
        /// `RuleDump.comparable` without our probes, before they came.
        public var before: [String]
        /// Prefixes of the probes, by table and chain.
        public var probes: [Entry]
    }

    /// The table of sentinels of one family in one namespace.
    public struct Sentinels: Codable, Sendable {
        public var family: AddressFamily
        public var probes: [Entry]
    }

    public struct Entry: Codable, Sendable, Hashable {
        public var table: String
        public var chain: String
        public var prefix: String
    }

    public struct Place: Codable, Sendable {
        /// The namespace's number in LOG prefixes of this run.
        public var number: Int
        public var name: String
        public var inode: UInt64
        public var identity: UInt64?
        public var sites: [Site]
        public var sentinels: [Sentinels]
        /// nf_tables chains that were there before.
        var chainsBefore: Set<TableCleanup.Chain>

        /// All that was installed here.
        var entries: [(family: AddressFamily, backend: Backend, entry: Entry)] {
            sites.flatMap { site in site.probes.map { (site.family, site.backend, $0) } }
                + sentinels.flatMap { table in table.probes.map { (table.family, .nft, $0) } }
        }
    }

    public var schema = 1
    public var run: String
    public var bootID: String
    public var createdAt: Int64
    public var target: ProbeRule.Target
    public var group: UInt16
    public var expires: Int64?
    public var places: [Place]
    /// Set before the first of its probes is taken out.
    public var removing: Bool?

    public var isBeingRemoved: Bool { removing == true }

    /// The probes of a namespace that somebody else has taken out: none while an installation or a removal may be under way.
    public func missing(in namespace: NetworkNamespace, found: [ProbeSurvey.Found]) -> Set<String> {
        let isInstalled = Int64(Date().timeIntervalSince1970) - Self.longestInstallation >= createdAt
        guard isInstalled, !isBeingRemoved else { return [] }
        // Both families have the same prefixes.
        let present = Dictionary(grouping: found, by: \.probe.family).mapValues { Set($0.map(\.probe.prefix)) }
        let places = places.filter { namespace.isSame(inode: $0.inode, identity: $0.identity) }
        return Set(
            places.flatMap(\.entries).filter { present[$0.family]?.contains($0.entry.prefix) != true }.map {
                "\($0.entry.table)/\($0.entry.chain)"
            })
    }

    /// In seconds: the journal is written before the first rule is.
    private static let longestInstallation: Int64 = 10

    var path: String { "\(Self.directory)/\(run).json" }

    /// Writes the file in one step and makes it durable. Only root may read it: it holds the machine's rules.
    func write() throws(RulesetError) {
        do {
            try FileManager.default.createDirectory(
                atPath: Self.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(self).write(to: URL(fileURLWithPath: path), options: .atomic)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        } catch {
            throw .journal(path: path, message: "\(error.localizedDescription)")
        }
    }

    func erase() { try? FileManager.default.removeItem(atPath: path) }

    /// Every journal of this boot, oldest first. A file that cannot be read is skipped: the rules themselves also tell
    /// which are ours.
    public static func readAll() -> [ProbeJournal] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".json") }.compactMap { name -> ProbeJournal? in
            guard let data = FileManager.default.contents(atPath: "\(directory)/\(name)") else { return nil }
            return try? JSONDecoder().decode(ProbeJournal.self, from: data)
        }
        .filter { $0.bootID == currentBootID }
        .sorted { ($0.createdAt, $0.run) < ($1.createdAt, $1.run) }
    }

    /// Changes whenever a run is added or removed; cheap to ask for.
    public static var generation: Int {
        let attributes = try? FileManager.default.attributesOfItem(atPath: directory)
        let date = attributes?[.modificationDate] as? Date
        return Int(((date?.timeIntervalSince1970 ?? 0) * 1_000_000).rounded())
    }

    static var currentBootID: String {
        (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8))?.trimmed ?? ""
    }

    /// Six random hexadecimal digits.
    static func newRun() -> String {
        let digits = String(UInt32.random(in: 0..<1 << 24), radix: 16)
        return String(repeating: "0", count: 6 - digits.count) + digits
    }
}
