import TestSupport

/// Damages samples in the ways in which files and messages are damaged, the same ones for the same seed.
struct Mutator {
    private var numbers: SplitMix
    private let corpus: [[UInt8]]

    init(seed: UInt64, corpus: [[UInt8]]) {
        numbers = SplitMix(state: seed)
        self.corpus = corpus
    }

    /// Values at which lengths and counts go wrong.
    private static let edges: [UInt8] = [0, 1, 3, 4, 0x0F, 0x40, 0x7F, 0x80, 0xFE, 0xFF]

    mutating func next() -> [UInt8] {
        var bytes = corpus[numbers.below(corpus.count)]
        for _ in 0...numbers.below(4) {
            guard !bytes.isEmpty else { break }
            let position = numbers.below(bytes.count)
            switch numbers.below(8) {
            case 0: bytes[position] ^= 1 << UInt8(numbers.below(8))
            case 1: bytes[position] = UInt8(truncatingIfNeeded: numbers.next())
            case 2: bytes[position] = Self.edges[numbers.below(Self.edges.count)]
            case 3: bytes.removeSubrange(position..<min(bytes.count, position + 1 + numbers.below(16)))
            case 4:
                let inserted = (0...numbers.below(8)).map { _ in UInt8(truncatingIfNeeded: numbers.state) }
                bytes.insert(contentsOf: inserted, at: position)
            case 5: bytes.removeSubrange(position...)
            case 6:
                let end = min(bytes.count, position + 1 + numbers.below(64))
                bytes.insert(contentsOf: bytes[position..<end], at: numbers.below(bytes.count))
            default:
                let other = corpus[numbers.below(corpus.count)]
                bytes = Array(bytes[..<position]) + Array(other[numbers.below(other.count)...])
            }
        }
        return bytes
    }
}
