package import TraceModel

/// Which of a list of journeys each ICMP error among them is about: the one packet whose headers it quotes. Where several look the same,
/// as datagrams that are sent again do, none is told.
package struct Quotations {
    private var packets: [UInt64: Journey] = [:]
    private var errors: [UInt64: [Journey]] = [:]

    package init(_ records: [JourneyRecord]) {
        let quoting = records.lazy.map(\.journey).filter { $0.packet.quotedHeader != 0 }
        let headers = Set(quoting.map(\.packet.quotedHeader))
        guard !headers.isEmpty else { return }
        var quoted: [UInt64: [Journey]] = [:]
        for record in records where headers.contains(record.journey.packet.fingerprint.header) {
            quoted[record.journey.packet.fingerprint.header, default: []].append(record.journey)
        }
        for error in quoting {
            let candidates = (quoted[error.packet.quotedHeader] ?? []).filter { $0.has(flow: error.packet.quotedFlow) }
            guard candidates.count == 1, let packet = candidates.first else { continue }
            packets[error.serial] = packet
            errors[packet.serial, default: []].append(error)
        }
    }

    /// The packet that an ICMP error is about.
    package func packet(of error: Journey) -> Journey? { packets[error.serial] }

    /// The ICMP errors about a packet, oldest first.
    package func errors(about journey: Journey) -> [Journey] { errors[journey.serial] ?? [] }
}

extension Journey {
    /// Whether the packet had addresses and ports of a flow where it came into a namespace or left it.
    fileprivate func has(flow: UInt64) -> Bool { legs.contains { $0.entry.flow == flow || $0.exit.flow == flow } }
}
