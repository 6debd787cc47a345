/// Calico's Felix (felix/rules of projectcalico/calico): its rules carry a hash, `cali:` and sixteen characters, and newer ones say more.
struct CalicoOwner: OwnerRule {
    let program = "calico"
    func owner(of rule: OwnedRule) -> RuleOwner? {
        let comments = rule.comments
        let isHashed = comments.contains { comment in
            comment.hasPrefix("cali:") && comment.count == 21
                && comment.dropFirst(5).allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
        }
        guard isHashed || rule.table == "calico" else { return nil }
        // Policy default/allow-web ingress
        let policy = comments.first { $0.hasPrefix("Policy ") }.flatMap { $0.split(separator: " ").dropFirst().first }
        let workload = ["cali-tw-", "cali-fw-"].first { rule.chain.hasPrefix($0) }.map { rule.chain.dropFirst($0.count) }
        return RuleOwner(program: program, object: policy.map { "policy \($0)" } ?? workload.map { "workload \($0)" })
    }
}
