import Foundation
import Testing

/// Every parser of outside input, on damaged input: nothing traps, nothing hangs.
///
/// `FUZZ_ITERATIONS=1000000 swift test -c release --filter Fuzz` goes on for longer, `FUZZ_SEED` begins elsewhere; what is
/// found goes into the corpus.
@Suite struct FuzzTests {
    static let iterations = ProcessInfo.processInfo.environment["FUZZ_ITERATIONS"].flatMap { Int($0) } ?? 4000
    static let seed = ProcessInfo.processInfo.environment["FUZZ_SEED"].flatMap { UInt64($0) } ?? 1

    @Test("damaged input is read as far as it makes sense", arguments: FuzzTarget.all)
    func damaged(_ target: FuzzTarget) throws {
        let corpus = try target.corpus()
        try #require(!corpus.isEmpty, "there is no corpus for \(target.name)")
        for sample in corpus { target.parse(sample) }
        var mutator = Mutator(seed: Self.seed, corpus: corpus)
        for _ in 0..<Self.iterations { target.parse(mutator.next()) }
    }

    @Test("the corpus is understood as it stands", arguments: FuzzTarget.all)
    func understood(_ target: FuzzTarget) throws {
        for sample in try target.corpus() { #expect(target.parse(sample), "\(target.name): a sample is not understood") }
    }
}
