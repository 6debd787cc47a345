/// Damages samples in the ways in which files and messages are damaged, the same ones for the same seed.
struct Mutator {
    private var state: UInt64
    private let corpus: [[UInt8]]

    init(seed: UInt64, corpus: [[UInt8]]) {
        state = seed
        self.corpus = corpus
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    private mutating func random() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    private mutating func below(_ limit: Int) -> Int { limit <= 0 ? 0 : Int(random() % UInt64(limit)) }

    /// Values at which lengths and counts go wrong.
    private static let edges: [UInt8] = [0, 1, 3, 4, 0x0F, 0x40, 0x7F, 0x80, 0xFE, 0xFF]

    mutating func next() -> [UInt8] {
        var bytes = corpus[below(corpus.count)]
        for _ in 0...below(4) {
            guard !bytes.isEmpty else { break }
            let position = below(bytes.count)
            switch below(8) {
            case 0: bytes[position] ^= 1 << UInt8(below(8))
            case 1: bytes[position] = UInt8(truncatingIfNeeded: random())
            case 2: bytes[position] = Self.edges[below(Self.edges.count)]
            case 3: bytes.removeSubrange(position..<min(bytes.count, position + 1 + below(16)))
            case 4: bytes.insert(contentsOf: (0...below(8)).map { _ in UInt8(truncatingIfNeeded: state) }, at: position)
            case 5: bytes.removeSubrange(position...)
            case 6:
                let end = min(bytes.count, position + 1 + below(64))
                bytes.insert(contentsOf: bytes[position..<end], at: below(bytes.count))
            default:
                let other = corpus[below(corpus.count)]
                bytes = Array(bytes[..<position]) + Array(other[below(other.count)...])
            }
        }
        return bytes
    }
}
