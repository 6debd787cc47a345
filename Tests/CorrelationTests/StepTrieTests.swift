import Testing
import TraceModel

@Suite struct StepTrieTests {
    @Test("a table holds the sequences that fit, and stays where it is past its room", arguments: [1, 2, 3, 64, 1000])
    func model(capacity: Int) {
        var table = StepTrie(capacity: capacity)
        var known: [[Step]: StepPathID] = [[]: StepTrie.root]
        var state: UInt64 = 9
        var left = 0
        for _ in 0..<5000 {
            var steps: [Step] = []
            for _ in 0..<4 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let extremes: [UInt32] = [0, 1, .max - 1, .max]
                let step = Step(
                    probe: UInt32(state >> 60), inInterface: extremes[Int(state >> 40) & 3],
                    outInterface: extremes[Int(state >> 50) & 3])
                guard let before = known[steps] else { break }
                let stepPath = table.advance(before, by: step)
                if stepPath == before {
                    left += 1
                    break
                }
                steps.append(step)
                if let expected = known[steps] { #expect(stepPath == expected) }
                known[steps] = stepPath
                #expect(table.lastProbe(of: stepPath) == step.probe)
            }
        }
        #expect(table.overflows == left)
        #expect(known.count <= max(1, capacity))
        for (steps, stepPath) in known { #expect(table.steps(of: stepPath) == steps) }
    }
}
