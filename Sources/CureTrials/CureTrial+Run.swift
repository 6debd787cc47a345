public import Diagnosis
public import LinuxSupport
import TraceModel

extension CureTrial {
    /// Tries a cure: puts a copy of the namespace's rules into a namespace that is made for it, sends the packets of `plan` through it without
    /// and then with the cure, and changes nothing else.
    ///
    /// A copy has no memory: what rules have counted or seen before, such as `limit` and `recent`, is as after a start. Routes by mark and
    /// other tables are not copied, nor are interfaces that the packets do not pass.
    ///
    /// - Parameter plan: `nil` where it is not known which packets to send, and where they are to come out.
    /// - Returns: `nil` where the cure is no change of rules.
    public static func run(_ cure: Cure, _ plan: TrialPlan?, in namespace: NetworkNamespace) async -> CureTrial? {
        guard let program = cure.words.first, Self.programs.contains(program) else { return nil }
        guard let plan, cure.netns == plan.netns else {
            return CureTrial(.untried, "where the packet would go on is not known")
        }
        do {
            let copy = try await RulesCopy(of: namespace)
            let network = try await TrialNetwork(for: plan, like: namespace)
            try await copy.put(into: network.inside)
            guard try !send(plan, through: network) else {
                return CureTrial(.untried, "the copy of the rules lets the packet pass without it")
            }
            guard let words = try await copy.translated(cure.words, to: network.inside) else {
                return CureTrial(.untried, "the copy of the rules lacks the rule that it names")
            }
            let output = try await Tool.run(words[0], Array(words.dropFirst()), in: network.inside)
            guard output.isSuccess else { return CureTrial(.refused, output.standardError.firstLine) }
            return CureTrial(try send(plan, through: network) ? .mends : .fails)
        } catch {
            return CureTrial(.untried, "\(error)")
        }
    }

    private static let programs: Set<String> = [
        "iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy", "nft",
    ]

    /// - Returns: whether the packet that was dropped passes now.
    /// - Throws: also where the one that it answers does not.
    private static func send(_ plan: TrialPlan, through network: TrialNetwork) throws -> Bool {
        var acknowledged: UInt32 = 0
        if let opening = plan.opening {
            let packet = TrialPacket(opening)
            guard try network.passes(packet) else {
                throw RulesCopy.Obstacle(description: "the copy of the rules drops the packet that it answers")
            }
            acknowledged = packet.acknowledgement
        }
        return try network.passes(TrialPacket(plan.dropped, acknowledged: acknowledged))
    }
}
