import EventSources
import Foundation
import Lab
import Testing

/// Every network of the gallery once more, from recordings: no kernel, no root. `make fixtures` records them anew.
@Suite struct GalleryRecordingTests {
    private static let directory =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/gallery"

    struct Entry: CustomTestStringConvertible, Sendable {
        var network: LabNetwork
        var file: String
        var testDescription: String { file }
    }

    /// Without networks for which the kernel that recorded them lacked something.
    private static let entries = Gallery.networks.flatMap { network in
        [Entry(network: network, file: network.name)]
            + network.variants.map { Entry(network: network.with($0), file: "\(network.name).\($0.name)") }
    }
    .filter { $0.network.need == nil || FileManager.default.fileExists(atPath: "\(directory)/\($0.file).pcapng.zst") }

    @Test("a recording of a network gives the result expected of the network", arguments: entries)
    func recorded(_ entry: Entry) throws {
        let path = "\(Self.directory)/\(entry.file).pcapng.zst"
        let result = try Analysis().run(Analysis.Options(files: [path]))
        let verdict = LabAssessment(entry.network, LabReports(result.snapshot))
        #expect(verdict.checks.count > 2 && verdict.checks.filter { !$0.holds }.map(\.what) == [])
        #expect(result.problems.messages == [])
    }

    @Test func everyRecordingIsOfANetwork() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Self.directory).filter { $0.hasSuffix(".zst") }
        #expect(Set(files) == Set(Self.entries.map { "\($0.file).pcapng.zst" }))
    }
}
