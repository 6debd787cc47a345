internal import Aggregation
internal import TraceModel

/// The drops that no fault explains, one finding for what decided: a firewall drops on purpose, and whether it was meant to is for a
/// person to say.
struct PacketsDropped {
    /// Indices of paths that other findings show.
    let explained: Set<Int>

    private struct Place: Hashable {
        var netns: String
        var decision: RuleDecision?
        var kernel: KernelDecision?
        /// Where nothing is known to have decided.
        var after: String
        var suspects: [Suspect]
    }

    func findings(in evidence: Evidence) -> [Finding] {
        var order: [Place] = []
        var groups: [Place: [PathEvidence]] = [:]
        for path in evidence.paths where !explained.contains(path.index) {
            guard let site = path.dropSite, let last = path.droppedAfter?.probe else { continue }
            let place = Place(
                netns: evidence.layout.namespaces[site.decision?.namespace ?? last.namespace].name, decision: site.decision,
                kernel: site.kernel,
                after: site.decision == nil ? last.sentinel == nil ? "\(last.table.name)/\(last.chain)" : last.hook.name : "",
                suspects: site.decision == nil ? site.suspects : [])
            if groups[place] == nil { order.append(place) }
            groups[place, default: []].append(path)
        }
        return order.compactMap { place in groups[place].flatMap { finding(place, $0, evidence) } }
    }

    private func finding(_ place: Place, _ paths: [PathEvidence], _ evidence: Evidence) -> Finding? {
        if let kernel = place.kernel { return told(kernel, place, paths) }
        guard let decision = place.decision else { return undecided(place, paths) }
        let chain = "\(decision.place.table)/\(decision.place.chain)"
        let what = decision.kind == .policy ? "the policy" : "a rule"
        let text =
            decision.kind == .policy
            ? "No rule of the chain decided about them, and its policy is DROP."
            : decision.text.map { "The rule: \($0)." } ?? "The rule is gone, or could not be read."
        var finding = Finding(
            "packets-dropped", .notice,
            "\(place.netns) \(decision.isReject ? "rejects" : "drops") packets by \(what) of \(chain)", in: place.netns,
            shownBy: paths,
            because:
                "\(text)\(Self.words(decision.owner))\(decision.invalidity.map { " Connection tracking calls them INVALID: \($0)." } ?? "") \(Self.witness(paths))"
        )
        if let path = paths.first, let cure = evidence.acceptance(of: path, past: decision, in: place.netns) {
            finding?.cures = [cure]
        }
        return finding
    }

    /// How it is known that a rule dropped packets.
    private static func witness(_ paths: [PathEvidence]) -> String {
        func packets(_ inference: RuleDecision.Inference?) -> UInt64 {
            paths.reduce(0) { $1.dropSite?.decision?.inference == inference ? $0 + $1.packets : $0 }
        }
        let later = packets(.otherPackets)
        if packets(.givenRules) > 0 { return "(Inferred from the rules that were given.)" }
        return "(The kernel's own trace says so"
            + (later == 0
                ? ".)"
                : "; of \(later == 1 ? "one packet" : "\(later) packets") without a trace it is inferred from others of their connections.)")
    }

    private static func words(_ owner: RuleOwner?) -> String {
        owner.map { " It was written by \($0.program)\($0.object.map { ": \($0)" } ?? "")." } ?? ""
    }

    private func told(_ kernel: KernelDecision, _ place: Place, _ paths: [PathEvidence]) -> Finding? {
        Finding(
            "packets-dropped", .notice, "the kernel drops packets in \(place.netns): \(kernel.explanation)", in: place.netns,
            shownBy: paths, because: "They were last seen in \(place.after), and no table dropped them. \(paths.witness(""))")
    }

    private func undecided(_ place: Place, _ paths: [PathEvidence]) -> Finding? {
        let suspects = place.suspects.map(\.description).joined(separator: " or ")
        let isTold = paths.allSatisfy { $0.dropSite?.isToldByKernel == true }
        let causes = Set(paths.flatMap { $0.dropSite?.causes ?? [] }).map(\.explanation).sorted().joined(separator: "; ")
        return Finding(
            "packets-dropped", .notice, "packets vanish in \(place.netns) behind \(place.after)", in: place.netns,
            shownBy: paths,
            because: "They were seen there, and not where they had to come next"
                + (suspects.isEmpty ? "." : ": lost in \(suspects).")
                + (causes.isEmpty ? "" : isTold ? " The kernel says why: \(causes)." : " It may be that \(causes).")
                + (isTold ? "" : " No rule trace has named what dropped them."))
    }
}
