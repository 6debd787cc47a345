public import Aggregation

/// All reports of a snapshot in one JSON object, as the page takes them that can be opened without a collector.
public struct RecordedReports: Sendable {
    /// The most journeys that are put in: those that paths show as their examples.
    public static let mostJourneys = 200

    /// Names of the reports that the page shows.
    public static let names = ReportTable.all.filter { $0 != JourneysReport.self }.map { $0.name }

    private var members: [(name: String, json: [UInt8])] = []
    private var journeys: [(id: String, json: [UInt8])] = []

    public init() {}

    public init(_ snapshot: TraceSnapshot, _ filter: TraceFilter) throws {
        for kind in ReportTable.all where Self.names.contains(kind.name) {
            add(kind.name, try kind.init(snapshot, filter).json())
        }
        for path in snapshot.pathsReport(filter).paths.prefix(Self.mostJourneys) {
            guard let journey = snapshot.journeyReport(id: path.example.journey) else { continue }
            add(journey: journey.id, Array(try ReportJSON.encode(journey)))
        }
    }

    /// - Parameter json: an answer as a collector gives it.
    public mutating func add(_ name: String, _ json: [UInt8]) { members.append((name, json)) }

    public mutating func add(journey id: String, _ json: [UInt8]) { journeys.append((id, json)) }

    public var json: [UInt8] {
        func object(_ members: [(String, [UInt8])]) -> [UInt8] {
            var text: [UInt8] = [UInt8(ascii: "{")]
            for (index, member) in members.enumerated() {
                if index > 0 { text.append(UInt8(ascii: ",")) }
                // Names of reports and identifiers, which are letters and digits.
                text += Array("\"\(member.0)\":".utf8) + member.1
            }
            return text + [UInt8(ascii: "}")]
        }
        return object(members + [("journeys", object(journeys))])
    }
}
