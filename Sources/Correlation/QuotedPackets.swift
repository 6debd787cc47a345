internal import TraceModel

/// What ICMP errors under way tell of the packets that they are about. Apart from the journeys, most of which are no errors.
struct QuotedPackets {
    private struct Quotation {
        var flow: UInt64
        var header: UInt64
    }

    private var bySerial: [UInt64: Quotation] = [:]
    /// Past it all are forgotten.
    private static let capacity = 1 << 14

    @inline(__always)
    var isEmpty: Bool { bySerial.isEmpty }

    /// A journey begins with an ICMP error.
    mutating func note(_ error: Packet, serial: UInt64) {
        if bySerial.count >= Self.capacity { bySerial.removeAll(keepingCapacity: true) }
        bySerial[serial] = Quotation(flow: error.quotedFlow, header: error.quotedHeader)
    }

    /// Completes the packet of the journey with this serial.
    func complete(_ packet: inout Packet, serial: UInt64) {
        guard let quotation = bySerial[serial] else { return }
        packet.quotedFlow = quotation.flow
        packet.quotedHeader = quotation.header
    }

    mutating func forget(serial: UInt64) { bySerial[serial] = nil }
}
