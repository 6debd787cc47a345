internal import TraceModel

/// What dropped packets of which no trace tells: another packet of the same connection was dropped at the same place by
/// a rule that is known. Inferred, since the rules may have been others at that time.
enum InferredDecisions {
    /// Where packets of a path ended.
    private struct Ending: Hashable {
        var stepPaths: [StepPathID]
        var expected: [UInt32]

        init(_ path: PathRecord) {
            stepPaths = path.stepPaths
            expected = path.expected
        }
    }

    /// - Returns: by path; of those of which each connection that is remembered had another packet dropped by the same rule.
    static func find(_ paths: PathTable, _ flows: [FlowRecord]) -> [Int: RuleDecision] {
        var unnamed: Set<Int> = []
        var named: [Ending: [Int]] = [:]
        for index in paths.indices where paths[index].outcome == .dropped {
            switch paths[index].decision {
            case nil: unnamed.insert(index)
            case .rule?: named[Ending(paths[index]), default: []].append(index)
            case .kernel?: break
            }
        }
        // By path, those that ended at the same place by a rule.
        var likely: [Int: [Int]] = [:]
        for index in unnamed { likely[index] = named[Ending(paths[index])] }
        guard !likely.isEmpty else { return [:] }
        var found: [Int: RuleDecision] = [:]
        var refuted: Set<Int> = []
        for flow in flows {
            for side in [flow.original, flow.reply].compactMap(\.self) {
                for index in side.paths {
                    guard let rules = likely[index], !refuted.contains(index) else { continue }
                    let own = rules.filter(side.paths.contains).compactMap { paths[$0].decision?.rule }
                    if let first = own.first, (own + [found[index] ?? first]).allSatisfy(first.isSameRule) {
                        found[index] = first
                    } else {
                        refuted.insert(index)
                    }
                }
            }
        }
        for index in refuted { found[index] = nil }
        return found.mapValues { $0.inferred(from: .otherPackets) }
    }
}
