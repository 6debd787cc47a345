package import Correlation
internal import TraceModel
package import WireFormat

/// Turns what NFLOG reports of one namespace, from a socket or a file, into events: decodes, places, and counts what is
/// missing.
///
/// Needs no kernel: it is fed bytes.
package struct NFLogReader {
    package private(set) var decoder: NFLogDecoder
    private var cache = ResolverCache()
    private var resolver: ProbeResolver
    /// The latest message's report.
    private var report = NFLogReport.none

    package init(namespace: Int, parser: PacketParser, registry: LayoutRegistry) {
        decoder = NFLogDecoder(parser: parser)
        resolver = ProbeResolver(namespace: namespace, registry: registry)
    }

    package var namespace: Int { resolver.namespace }
    package var counters: IntakeCounters { resolver.counters }
    package var unresolved: UnresolvedPrefixes { resolver.unresolved }

    /// One flow of 2 to this power is followed.
    package var thinning: Int {
        get { resolver.thinning }
        set { resolver.thinning = newValue }
    }

    /// Forgets which prefix belongs to which probe, because the layout has changed.
    package mutating func layoutChanged() { resolver.layoutChanged() }

    /// Events are missing that no sequence number tells of.
    package mutating func noteLoss(_ count: UInt64) { resolver.noteLoss(count) }

    /// Stands for a message that is part of no journey.
    package static let noTag = UInt64.max

    /// Reads one datagram.
    ///
    /// - Parameters:
    ///   - templates: always the same for one reader.
    ///   - now: microseconds since 1970, for events that the kernel did not stamp.
    ///   - tags: where it is given, gets the leg of each message (`Correlator.ingest`), or `noTag`.
    package mutating func read(
        _ bytes: RawSpan, with templates: inout TemplateRegistry, now: Int64, into correlator: inout Correlator,
        tags: inout [UInt64]?
    ) {
        var offset = 0
        while true {
            let message: NetlinkMessage
            do {
                guard let next = try NetlinkMessage.next(in: bytes, at: &offset) else { return }
                message = next
            } catch {
                // Without a sound length there is no next message to go on with.
                resolver.countMalformed(&correlator)
                return
            }
            guard message.type == NFLogMessage.packetType else { continue }
            var tag = Self.noTag
            do {
                let notice = try decoder.decode(bytes, body: message.body, with: &templates, into: &report)
                if notice.contains(.packet) { correlator.expect(decoder.packet(report.packet), namespace: namespace) }
                tag = take(templates, now, &correlator)
            } catch {
                resolver.countMalformed(&correlator)
            }
            tags?.append(tag)
        }
    }

    package mutating func read(
        _ bytes: RawSpan, with templates: inout TemplateRegistry, now: Int64, into correlator: inout Correlator
    ) {
        var tags: [UInt64]?
        read(bytes, with: &templates, now: now, into: &correlator, tags: &tags)
    }

    @inline(__always)
    private mutating func take(_ templates: TemplateRegistry, _ now: Int64, _ correlator: inout Correlator) -> UInt64 {
        resolver.take(
            report, decoder.packet(report.packet), templates.origin(Int(report.origin)), &cache, now: now,
            into: &correlator)
    }
}
