import Testing
import TraceModel

@Suite struct ConnectionMapTests {
    private struct Key: Hashable {
        var namespace: Int
        var port: Int

        var tuple: PacketTuple {
            PacketTuple(
                source: IPAddress(ipv4: 1), destination: IPAddress(ipv4: 2), sourcePort: UInt16(port), destinationPort: 53,
                transport: 17)
        }
    }

    /// The lower bits of a key's hash say which slot it is looked for in first.
    private static func hash(_ tuple: PacketTuple) -> UInt32 { UInt32(truncatingIfNeeded: tuple.mixed ^ tuple.mixed >> 32) }

    @Test("entries whose slots are the last ones go round to the first, and are found, replaced and removed there")
    func wrapAround() {
        let keys = (0..<60_000).lazy.map { Key(namespace: 0, port: $0) }.filter { Self.hash($0.tuple) & 0x3F >= 0x3E }
        var map = ConnectionMap<Int>()
        var dictionary: [Key: Int] = [:]
        var state: UInt64 = 3
        for (number, key) in (Array(keys) + Array(keys)).enumerated() {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            map[key.tuple, in: 0] = number
            dictionary[key] = number
            // Few at a time, so that they stay in one cluster at the end.
            if dictionary.count > 24,
                let gone = dictionary.keys.sorted(by: { $0.port < $1.port })[Int(state >> 33) % 24] as Key?
            {
                map[gone.tuple, in: 0] = nil
                dictionary[gone] = nil
                #expect(map[gone.tuple, in: 0] == nil)
            }
            #expect(map.count == dictionary.count)
            #expect(dictionary.allSatisfy { map[$0.key.tuple, in: 0] == $0.value })
        }
        #expect(keys.count > 1000)
    }

    /// Against a dictionary, with many entries put in and taken out again.
    @Test func itHoldsWhatADictionaryHolds() {
        var map = ConnectionMap<Int>()
        var dictionary: [Key: Int] = [:]
        var state: UInt64 = 42
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for number in 0..<50_000 {
            let key = Key(namespace: random(3), port: random(300))
            if random(2) == 0 {
                map[key.tuple, in: key.namespace] = number
                dictionary[key] = number
            } else {
                map[key.tuple, in: key.namespace] = nil
                dictionary[key] = nil
            }
            #expect(map.count == dictionary.count)
        }
        for namespace in 0..<3 {
            for port in 0..<300 {
                let key = Key(namespace: namespace, port: port)
                #expect(map[key.tuple, in: namespace] == dictionary[key])
            }
        }
        let removed = map.removeAll(namespace: 1)
        #expect(removed.count == dictionary.keys.count { $0.namespace == 1 })
        #expect(map.count == dictionary.keys.count { $0.namespace != 1 })
        #expect(dictionary.allSatisfy { $0.key.namespace == 1 || map[$0.key.tuple, in: $0.key.namespace] == $0.value })
    }
}
