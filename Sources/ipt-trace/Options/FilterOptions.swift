import ArgumentParser
import Reports

/// The filters that choose single packets. Each may be repeated; then one of its values has to fit.
struct PacketFilterOptions: ParsableArguments {
    @Option(help: "Only this protocol: tcp, udp, icmp, a number.") var proto: [String] = []
    @Option(help: "Only this outcome: delivered, sent, dropped, incomplete, open.") var outcome: [String] = []
    @Option(help: "Only this address or prefix (10.0.0.0/8), at any step.") var address: [String] = []
    @Option(help: "Only this port, at any step.") var port: [String] = []

    func validate() throws {
        do { _ = try filter() } catch { throw ValidationError("--\(error).") }
    }

    func filter() throws(FilterProblem) -> TraceFilter {
        var filter = TraceFilter()
        try add(to: &filter)
        return filter
    }

    func add(to filter: inout TraceFilter) throws(FilterProblem) {
        let values: [(TraceFilter.Field, [String])] = [
            (.proto, proto), (.outcome, outcome), (.address, address), (.port, port),
        ]
        for (field, texts) in values {
            for text in texts { try filter.add(field, text) }
        }
    }
}

/// The filters of lists. Each may be repeated; then one of its values has to fit.
struct FilterOptions: ParsableArguments {
    @Option(help: "At most this many entries.") var limit = 100
    @Option(help: "Only what passes this namespace.") var netns: [String] = []
    @OptionGroup var packets: PacketFilterOptions
    @Option(help: "Only what was seen later: 5m (ago), or 2026-01-31T12:00:00Z.") var since: [String] = []
    @Option(help: "Only what was seen earlier: 5m (ago), or 2026-01-31T12:00:00Z.") var until: [String] = []

    func validate() throws {
        do { _ = try filter() } catch let problem as FilterProblem { throw ValidationError("--\(problem).") }
    }

    func filter() throws -> TraceFilter {
        var filter = TraceFilter()
        try filter.add(.limit, "\(limit)")
        try packets.add(to: &filter)
        let values: [(TraceFilter.Field, [String])] = [
            (.netns, netns), (.since, since), (.until, until),
        ]
        for (field, texts) in values {
            for text in texts { try filter.add(field, text) }
        }
        return filter
    }
}
