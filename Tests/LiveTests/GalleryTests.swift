import Foundation
import Lab
import LinuxSupport
import Testing

/// Every network of the gallery, with every variant, does what it says: the traffic succeeds or fails, and the paths are the
/// expected ones.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct GalleryTests {
    struct Entry: CustomStringConvertible, Sendable {
        var network: String
        var variant: String?
        var description: String { network + (variant.map { " --variant \($0)" } ?? "") }
    }

    /// All, or those of the network that GALLERY names.
    static let entries: [Entry] = Gallery.networks.filter { network in
        ProcessInfo.processInfo.environment["GALLERY"].map { $0 == network.name } ?? true
    }
    .flatMap { network in
        [Entry(network: network.name)] + network.variants.map { Entry(network: network.name, variant: $0.name) }
    }

    /// Several at once: most of the time they wait.
    @Test func everyNetworkDoesWhatItSays() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, entry) in Self.entries.enumerated() {
                if index >= 4 { try await group.next() }
                group.addTask { try await check(entry) }
            }
            try await group.waitForAll()
        }
    }

    private func check(_ entry: Entry) async throws {
        let arguments = ["lab", "run", entry.network, "--json"] + (entry.variant.map { ["--variant", $0] } ?? [])
        let output = try await Tool.run(Live.program, arguments)
        if output.standardError.contains("cannot be set up on this kernel") {
            // Test.cancel would end the others too.
            print("skipped \(entry): \(output.standardError)")
            return
        }
        struct Verdict: Decodable {
            struct Check: Decodable {
                var what: String
                var holds: Bool
            }
            var checks: [Check]
        }
        let verdict = try? JSONDecoder().decode(Verdict.self, from: Data(output.standardOutput.utf8))
        let failed = verdict?.checks.filter { !$0.holds }.map(\.what)
        #expect(failed == [], "\(entry): \(output.standardError)")
        #expect(output.exitCode == 0 && (verdict?.checks.count ?? 0) > 2, "\(entry)")
    }

    @Test func aNetworkThatIsKeptCanBeLookedAroundIn() async throws {
        let run = try await Tool.run(Live.program, ["lab", "run", "tables", "--keep"])
        #expect(run.exitCode == 0 && run.standardError.contains("tables is up still"))
        let looked = try await Tool.run(Live.program, ["lab", "shell", "tables", "--", "iptables-save", "-t", "mangle"])
        #expect(looked.standardOutput.contains("-A FORWARD -s 172.16.0.2/32 -j ACCEPT"))
        #expect(try await Tool.run(Live.program, ["lab", "run", "tables", "--keep"]).exitCode == 1)
        #expect(try await Tool.run(Live.program, ["lab", "down", "tables"]).exitCode == 0)
        #expect(try await Tool.run(Live.program, ["lab", "shell", "tables", "--", "true"]).exitCode == 1)
    }

    @Test func namesTellNetworksApart() {
        #expect(Set(Gallery.networks.map(\.name)).count == Gallery.networks.count)
        for network in Gallery.networks {
            #expect(Set(network.variants.map(\.name)).count == network.variants.count)
        }
    }
}
