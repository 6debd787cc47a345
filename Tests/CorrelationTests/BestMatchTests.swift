import Correlation
import Testing

@Suite struct BestMatchTests {
    private func match(_ fits: [Int], isPreferred: (LegIndex, LegIndex) -> Bool = { _, _ in false }) -> BestMatch {
        var match = BestMatch()
        for (number, fit) in fits.enumerated() {
            match.look()
            match.consider(LegIndex(number: Int32(number)), fit: fit, isPreferred: isPreferred)
        }
        return match
    }

    @Test("the best fit wins, and those before it count no longer")
    func best() {
        let match = match([1, 1, 3, 2])
        #expect(match.best == LegIndex(number: 2))
        #expect(!match.isTied)
        #expect(match.tied.isEmpty)
    }

    @Test("those that fit alike are all kept, whichever is preferred")
    func tied() {
        let first = match([2, 2, 1, 2])
        #expect(first.best == LegIndex(number: 0))
        #expect(first.tied == [1, 3].map { LegIndex(number: $0) })
        let last = match([2, 2, 2]) { $0.number > $1.number }
        #expect(last.best == LegIndex(number: 2))
        #expect(Set(last.tied) == Set([0, 1].map { LegIndex(number: $0) }))
    }

    @Test("nothing considered is no match, and 256 candidates are enough")
    func bounds() {
        #expect(!BestMatch().best.exists)
        #expect(!match([Int](repeating: 0, count: 255)).isExhausted)
        #expect(match([Int](repeating: 0, count: 256)).isExhausted)
    }
}
