private import Foundation
private import Glibc
public import LinuxSupport
public import TraceModel

/// The record of one run of probes, on disk before the first of its rules is applied, so that any later process can take out
/// exactly that.
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
        /// `NFTablesListing.comparable` before the probes came; empty for the legacy backend.
        var listingBefore: [String]
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

    /// How far the run has come in one namespace. `installing` and `removing` are true only while `ProbeLock` is held; after a crash
    /// the rules alone tell which probes there are.
    public enum Progress: String, Codable, Sendable {
        case installing, installed, removing
    }

    public struct Place: Codable, Sendable {
        /// The namespace's number in LOG prefixes of this run.
        public var number: Int
        public var name: String
        public var inode: UInt64
        public var identity: UInt64?
        public var sites: [Site]
        public var sentinels: [Sentinels]
        public var progress: Progress
        /// nf_tables chains and tables that were there before.
        var chainsBefore: Set<NFChain>
        var tablesBefore: Set<NFTable>

        /// The probes of one backend.
        func entries(_ backend: Backend) -> [Entry] { entries.filter { $0.backend == backend }.map(\.entry) }

        /// All that was installed here.
        var entries: [(family: AddressFamily, backend: Backend, entry: Entry)] {
            sites.flatMap { site in site.probes.map { (site.family, site.backend, $0) } }
                + sentinels.flatMap { table in table.probes.map { (table.family, .nft, $0) } }
        }
    }

    /// The layout of the file. A file of another version is damaged as far as this one is concerned.
    static let schema = 3

    public var schema = ProbeJournal.schema
    /// Digest of the file with `noDigest` in this field: detects damage that leaves the file readable.
    var digest = ProbeJournal.noDigest
    public var run: String
    public var bootID: String
    public var createdAt: Int64
    public var target: ProbeRule.Target
    public var group: UInt16
    public var expires: Int64?
    /// The match of each family's probes, as words of iptables.
    var matches: [AddressFamily: [String]]
    public var places: [Place]

    /// The place of the run in `namespace`, if it has one.
    func place(in namespace: NetworkNamespace) -> Place? {
        places.first { namespace.isSame(inode: $0.inode, identity: $0.identity) }
    }

    /// The probes of a namespace that somebody else has taken out: none while an installation or a removal is or was under way.
    public func missing(in namespace: NetworkNamespace, found: [ProbeSurvey.Found]) -> Set<String> {
        guard let place = place(in: namespace), place.progress == .installed else { return [] }
        // Both families have the same prefixes.
        let present = Dictionary(grouping: found, by: \.probe.family).mapValues { Set($0.map(\.probe.prefix)) }
        return Set(
            place.entries.filter { present[$0.family]?.contains($0.entry.prefix) != true }.map {
                "\($0.entry.table)/\($0.entry.chain)"
            })
    }

    // MARK: Files

    var path: String { "\(Self.directory)/\(run).json" }

    /// Writes the file in one step and makes it durable. Only root may read it: it holds the machine's rules.
    func write() throws(RulesetError) {
        let text: Data
        do {
            try FileManager.default.createDirectory(
                atPath: Self.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            let plain = try encoder.encode(self)
            text = Self.sealed(plain) ?? plain
        } catch {
            throw .journal(path: path, message: "\(error.localizedDescription)")
        }
        // Whatever ends this process in between leaves the file as it was; the next write removes the rest.
        let draft = "\(path).new"
        FileCalls.remove(draft)
        let descriptor = FileCalls.open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        guard descriptor >= 0 else { throw .journal(path: path, message: ErrorNumber.text(errno)) }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        do {
            try file.write(contentsOf: text)
            try file.synchronize()
            try file.close()
        } catch {
            FileCalls.remove(draft)
            throw .journal(path: path, message: "\(error.localizedDescription)")
        }
        guard FileCalls.rename(draft, to: path) else { throw .journal(path: path, message: ErrorNumber.text(errno)) }
    }

    private static let noDigest = "0000000000000000"

    /// The text of a file with its digest filled in; `nil` where it has no place for one.
    private static func sealed(_ text: Data) -> Data? {
        guard let place = placeOfDigest(text) else { return nil }
        var sealed = text
        sealed.replaceSubrange(place, with: Data(noDigest.utf8))
        // FNV-1a: a guard against accidents.
        let hash = sealed.reduce(into: 0xcbf2_9ce4_8422_2325 as UInt64) { $0 = ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        let digits = String(hash, radix: 16)
        sealed.replaceSubrange(place, with: Data((noDigest.dropFirst(digits.utf8.count) + digits).utf8))
        return sealed
    }

    private static func placeOfDigest(_ text: Data) -> Range<Data.Index>? {
        guard let key = text.firstRange(of: Data("\"digest\" : \"".utf8)), text.endIndex - key.upperBound >= noDigest.utf8.count
        else { return nil }
        return key.upperBound..<key.upperBound + noDigest.utf8.count
    }

    /// Removes the file; that it is gone already is fine.
    func erase() throws(RulesetError) {
        guard !FileCalls.remove(path), errno != ENOENT else { return }
        throw .journal(path: path, message: "it cannot be removed: \(ErrorNumber.text(errno))")
    }

    /// Removes files that cannot be used.
    ///
    /// - Returns: those that could not be removed.
    public static func erase(_ damaged: [Damaged]) -> [Damaged] {
        damaged.filter { file in
            guard file.path != directory, !FileCalls.remove(file.path), errno != ENOENT else { return false }
            // Somebody put an empty directory in its place.
            return !FileCalls.removeDirectory(file.path)
        }
    }

    /// Removes drafts of processes that ended while they wrote a file. The caller holds `ProbeLock`.
    static func eraseDrafts() {
        // A draft that stays does no harm.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        for name in names where name.hasSuffix(".json.new") { FileCalls.remove("\(directory)/\(name)") }
    }

    /// A file of the journal that says nothing, with the reason.
    public struct Damaged: Sendable, Equatable {
        public var path: String
        public var reason: String
        /// Whether it is whole, and speaks of rules that a reboot has cleared.
        public var isOfAnotherBoot = false
    }

    /// All that is on record.
    public struct Reading: Sendable {
        /// Oldest first.
        public var journals: [ProbeJournal] = []
        public var damaged: [Damaged] = []
    }

    /// Reads every file of the journal.
    public static func read() -> Reading {
        var reading = Reading()
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory)
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile || error.code == .fileNoSuchFile {
            return reading
        } catch {
            reading.damaged.append(Damaged(path: directory, reason: error.localizedDescription))
            return reading
        }
        for name in names.sorted() where name.hasSuffix(".json") {
            let path = "\(directory)/\(name)"
            let run = String(name.dropLast(5))
            do {
                let journal = try read(path, run: run)
                reading.journals.append(journal)
            } catch {
                reading.damaged.append(
                    Damaged(path: path, reason: error.reason, isOfAnotherBoot: error.isOfAnotherBoot))
            }
        }
        reading.journals.sort { ($0.createdAt, $0.run) < ($1.createdAt, $1.run) }
        return reading
    }

    private struct Unusable: Error {
        var reason: String
        var isOfAnotherBoot = false
    }

    private static func read(_ path: String, run: String) throws(Unusable) -> ProbeJournal {
        let journal: ProbeJournal
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path))
            struct Head: Decodable { var schema: Int }
            let head = try JSONDecoder().decode(Head.self, from: data)
            guard head.schema == schema else {
                throw Unusable(reason: "it is of version \(head.schema); this program writes \(schema)")
            }
            journal = try JSONDecoder().decode(ProbeJournal.self, from: data)
        } catch let error as Unusable {
            throw error
        } catch let error as DecodingError {
            throw Unusable(reason: text(error))
        } catch {
            throw Unusable(reason: error.localizedDescription)
        }
        guard journal.run == run else { throw Unusable(reason: "it speaks of run \(journal.run)") }
        guard journal.bootID == currentBootID else {
            throw Unusable(reason: "it is of another boot of the machine", isOfAnotherBoot: true)
        }
        guard sealed(data) == data else { throw Unusable(reason: "its content does not agree with its digest") }
        return journal
    }

    private static func text(_ error: DecodingError) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.map(\.stringValue).joined(separator: ".")
        }
        switch error {
        case .dataCorrupted(let context):
            return "not a journal: \(context.debugDescription)"
        case .keyNotFound(let key, let context):
            return "not a journal: \(place(context).isEmpty ? "" : place(context) + ".")\(key.stringValue) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "not a journal: \(place(context)): \(context.debugDescription)"
        @unknown default:
            return "not a journal: \(error)"
        }
    }

    /// Every usable journal of this boot, oldest first.
    public static func readAll() -> [ProbeJournal] { read().journals }

    /// Changes whenever a run is added, changed or removed; cheap to ask for.
    public static var generation: Int {
        let attributes = try? FileManager.default.attributesOfItem(atPath: directory)
        let date = attributes?[.modificationDate] as? Date
        return Int(((date?.timeIntervalSince1970 ?? 0) * 1_000_000).rounded())
    }

    static var currentBootID: String {
        (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8))?.trimmed ?? ""
    }
}

extension [ProbeJournal] {
    /// The runs whose probes are on their way out of `namespace`: their silence proves nothing.
    public func runsBeingRemoved(from namespace: NetworkNamespace) -> Set<String> {
        guard ProbeLock.isHeld else { return [] }
        return Set(filter { $0.place(in: namespace)?.progress == .removing }.map(\.run))
    }
}
