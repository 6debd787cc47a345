import Foundation
import Lab
import Reports
import Testing

/// ICMP errors and the packets that they are about, through address translation.
@Suite(.enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ICMPErrorTests {
    private struct Sent {
        var command: String
        /// Of the packet: its protocol, the start of its place, and the error about it with who sends it.
        var transport: String
        var port: Int?
        var message: String
        var from: String
    }

    private static let sent = [
        Sent(
            command: "timeout 2 bash -c 'exec 3<>/dev/tcp/10.0.2.2/81' || true", transport: "tcp", port: 81,
            message: "destination unreachable (port unreachable)", from: "10.0.1.1"),
        Sent(
            command: "bash -c 'echo > /dev/udp/10.0.2.2/9'", transport: "udp", port: 9,
            message: "destination unreachable (port unreachable)", from: "10.0.2.2"),
        Sent(
            command: "ping -c 1 -W 1 -t 1 10.0.2.2 || true", transport: "icmp", port: nil,
            message: "time exceeded (TTL exceeded)",
            from: "10.0.1.1"),
        Sent(
            command: "timeout 2 bash -c 'exec 3<>/dev/tcp/fd00:2::2/81' || true", transport: "tcp", port: 81,
            message: "destination unreachable (administratively prohibited)", from: "fd00:1::1"),
    ]

    @Test("an error has the packet that it is about, and the packet and its connection have the error")
    func ties() async throws {
        try await Sandbox.with { sandbox in
            try await sandbox.require(["sh", "-ec", routedNetwork])
            try await sandbox.sh("iptables-nft -t nat -A POSTROUTING -o v2 -j MASQUERADE")
            try await sandbox.sh("iptables-nft -A FORWARD -p tcp --dport 81 -j REJECT")
            try await sandbox.sh("ip6tables-nft -A FORWARD -p tcp --dport 81 -j REJECT --reject-with icmp6-adm-prohibited")
            _ = try await sandbox.trace("install-probes")
            try await sandbox.collecting { _ in
                for sent in Self.sent { try await sandbox.require(["ip", "netns", "exec", "c", "sh", "-c", sent.command]) }
                var journeys: [JourneyReport] = []
                try await waiting {
                    journeys = try await sandbox.get(JourneysReport.self, "/journeys?limit=1000").journeys
                    try await Task.sleep(for: .milliseconds(500))
                    return journeys.filter { $0.about != nil }.count >= Self.sent.count
                }
                let flows = try await sandbox.get(FlowsReport.self, "/flows?limit=1000").flows
                for sent in Self.sent {
                    let errors = journeys.filter { error in
                        error.message == sent.message && error.source == sent.from && error.about?.protocol == sent.transport
                    }
                    let error = try #require(
                        errors.first,
                        "\(sent.command): \(journeys.filter { $0.message?.contains("unreach") == true || $0.protocol == "tcp" }.map { "\($0.id) \($0.protocol) \($0.source):\($0.sourcePort ?? 0) \($0.destination) \($0.message ?? "") \($0.outcome) about \($0.about?.journey ?? "-")" })"
                    )
                    let packet = try #require(journeys.first { $0.id == error.about?.journey }, "\(sent.command)")
                    #expect(packet.destinationPort == sent.port && packet.destination == error.about?.destination)
                    #expect(
                        packet.icmpErrors?.contains { $0.journey == error.id && $0.message == sent.message } == true,
                        "\(sent.command): \(packet.icmpErrors ?? [])")
                    let flow = flows.first {
                        $0.original.latestJourney == packet.id
                            || $0.original.source == packet.source
                                && $0.original.destinationPort == sent.port && $0.protocol == sent.transport
                    }
                    let told = try #require(flow?.icmpErrors?.first, "\(sent.command): \(flows)")
                    #expect(told.message == sent.message && told.source == sent.from && told.packets >= 1)
                    // The error is none of the connection's own packets.
                    #expect(!flows.contains { $0.original.latestJourney == error.id || $0.reply?.latestJourney == error.id })
                    // A filter for the connection's far end finds the error, whatever its own addresses are.
                    let chosen = try await sandbox.get(
                        JourneysReport.self, "/journeys?limit=1000&address=\(packet.destination)"
                    ).journeys
                    #expect(chosen.contains { $0.id == error.id }, "\(sent.command)")
                }
            }
        }
    }
}
