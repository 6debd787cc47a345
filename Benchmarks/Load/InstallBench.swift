import Foundation
import Lab
import LinuxSupport

/// How long installing and removing probes takes.
enum InstallBench {
    static func run(namespaces: Int, rules: Int, rounds: Int) async throws {
        try await report("\(namespaces) namespaces without rules, both families", rounds: rounds) { sandbox in
            for number in 1..<max(2, namespaces) { try await sandbox.sh("ip netns add n\(number)") }
        }
        try await report("\(namespaces) namespaces with a few rules each, both families", rounds: rounds) { sandbox in
            for number in 1..<max(2, namespaces) {
                try await sandbox.sh("ip netns add n\(number)")
                for tool in ["iptables-nft-restore", "ip6tables-nft-restore"] {
                    try await sandbox.require(
                        ["ip", "netns", "exec", "n\(number)", tool],
                        input: "*filter\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -p udp -j DROP\nCOMMIT\n")
                }
            }
        }
        try await report("1 namespace, \(rules) rules", rounds: rounds) { sandbox in
            var text = "*filter\n"
            for chain in 0..<(rules / 1000) { text += ":SET\(chain) - [0:0]\n-A INPUT -j SET\(chain)\n" }
            for number in 0..<rules {
                text += "-A SET\(number / 1000) -s 10.\(number >> 16 & 255).\(number >> 8 & 255).\(number & 255)/32 -p tcp "
                text += "-m tcp --dport \(number % 60_000 + 1) -m comment --comment \"rule \(number)\" -j ACCEPT\n"
            }
            try await sandbox.require(["iptables-nft-restore"], input: text + "COMMIT\n")
        }
    }

    private static func report(
        _ name: String, rounds: Int, setUp: @Sendable (Sandbox) async throws -> Void
    ) async throws {
        try await Sandbox.with { sandbox in
            try await setUp(sandbox)
            var installing: [Double] = []
            var again: [Double] = []
            var removing: [Double] = []
            var said = ""
            for _ in 0..<rounds {
                said = try await time(&installing) { try await sandbox.require([Bench.program, "install-probes"]) }
                _ = try await time(&again) { try await sandbox.require([Bench.program, "install-probes"]) }
                _ = try await time(&removing) { try await sandbox.require([Bench.program, "remove-probes", "--verify"]) }
            }
            Bench.show(
                "\(name): \(said.prefix { $0 != "(" }), installed in \(Bench.text(Bench.median(installing))) s, replaced in "
                    + "\(Bench.text(Bench.median(again))) s, removed and verified in \(Bench.text(Bench.median(removing))) s")
        }
    }

    private static func time(_ times: inout [Double], _ body: () async throws -> Tool.Output) async throws -> String {
        let begun = Date()
        let output = try await body()
        times.append(Date().timeIntervalSince(begun))
        return output.standardOutput
    }
}
