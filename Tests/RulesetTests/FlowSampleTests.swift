import Ruleset
import Testing
import TraceModel

struct FlowSampleTests {
    /// As net/core/filter.c does what our programs ask for; a load from behind the end rejects.
    private func accepts(_ bytecode: String, _ packet: [UInt8]) -> Bool {
        let program = bytecode.split(separator: ",").dropFirst().map { line in
            line.split(separator: " ").compactMap { UInt32($0) }
        }
        var a: UInt32 = 0
        var x: UInt32 = 0
        var memory = [UInt32](repeating: 0, count: 16)
        func load(_ offset: UInt32, _ count: Int) -> UInt32? {
            let start = Int(offset)
            guard start + count <= packet.count else { return nil }
            return packet[start..<start + count].reduce(0) { $0 << 8 | UInt32($1) }
        }
        var index = 0
        while index < program.count {
            let (code, then, otherwise, constant) = (
                program[index][0], Int(program[index][1]), Int(program[index][2]), program[index][3]
            )
            index += 1
            var loaded: UInt32? = a
            switch code {
            case 0x20: loaded = load(constant, 4)
            case 0x28: loaded = load(constant, 2)
            case 0x30: loaded = load(constant, 1)
            case 0x48: loaded = load(x &+ constant, 2)
            case 0x50: loaded = load(x &+ constant, 1)
            case 0x60: loaded = memory[Int(constant)]
            case 0x01: x = constant
            case 0x61: x = memory[Int(constant)]
            case 0xB1: x = (load(constant, 1) ?? 0) % 16 * 4
            case 0x02: memory[Int(constant)] = a
            case 0x04: loaded = a &+ constant
            case 0x0C: loaded = a &+ x
            case 0x24: loaded = a &* constant
            case 0x94: loaded = a % constant
            case 0x54: loaded = a & constant
            case 0xA4: loaded = a ^ constant
            case 0x64: loaded = a << constant
            case 0x74: loaded = a >> constant
            case 0x07: x = a
            case 0x05: index += Int(constant)
            case 0x15: index += a == constant ? then : otherwise
            case 0x45: index += a & constant != 0 ? then : otherwise
            case 0x06: return constant != 0
            default: Issue.record("unknown code \(code)")
            }
            guard let loaded else { return false }
            a = loaded
        }
        return false
    }

    private func ipv4(_ transport: UInt8, _ source: UInt8, _ destination: UInt8, _ body: [UInt8]) -> [UInt8] {
        [0x45, 0, 0, UInt8(20 + body.count), 0, 1, 0, 0, 64, transport, 0, 0, 10, 0, 0, source, 10, 0, 0, destination] + body
    }

    private func ports(_ source: UInt16, _ destination: UInt16) -> [UInt8] {
        [UInt8(source >> 8), UInt8(source & 255), UInt8(destination >> 8), UInt8(destination & 255), 0, 12, 0, 0, 1, 2, 3, 4]
    }

    @Test func aFlowIsChosenInBothDirectionsBehindATranslationAndInErrors() {
        let program = FlowSample(oneIn: 4, salt: 12_345).bytecode(.ipv4)
        var chosen = 0
        for port in UInt16(1000)..<2000 {
            let request = accepts(program, ipv4(17, 1, 2, ports(port, 53)))
            #expect(accepts(program, ipv4(17, 2, 1, ports(53, port))) == request)
            #expect(accepts(program, ipv4(17, 9, 2, ports(port, 53))) == request)
            let error: [UInt8] = [3, 3, 0, 0, 0, 0, 0, 0] + ipv4(17, 1, 2, ports(port, 53))
            #expect(accepts(program, ipv4(1, 7, 1, error)) == request)
            if request { chosen += 1 }
        }
        #expect((200...300).contains(chosen))
    }

    @Test func echoesGoByTheirIdentifierAndFragmentsByTheirAddresses() {
        let program = FlowSample(oneIn: 2, salt: 7).bytecode(.ipv4)
        for number in UInt8(0)...255 {
            let request = accepts(program, ipv4(1, 1, 2, [8, 0, 0, 0, 1, number, 0, 1]))
            #expect(accepts(program, ipv4(1, 2, 1, [0, 0, 0, 0, 1, number, 0, 1])) == request)
            var fragment = ipv4(17, number, 2, [1, 2, 3, 4])
            fragment[7] = 9
            var reverse = ipv4(17, 2, number, [5, 6, 7, 8])
            reverse[7] = 10
            #expect(accepts(program, fragment) == accepts(program, reverse))
        }
    }

    @Test func ipv6IsChosenTheSameWay() {
        func packet(_ next: UInt8, _ source: UInt8, _ destination: UInt8, _ body: [UInt8]) -> [UInt8] {
            let zeros = [UInt8](repeating: 0, count: 15)
            return [0x60, 0, 0, 0, 0, UInt8(body.count), next, 64] + zeros + [source] + zeros + [destination] + body
        }
        let program = FlowSample(oneIn: 3, salt: 99).bytecode(.ipv6)
        var chosen = 0
        for port in UInt16(1000)..<1300 {
            let request = accepts(program, packet(6, 1, 2, ports(port, 443)))
            #expect(accepts(program, packet(6, 2, 1, ports(443, port))) == request)
            let error: [UInt8] = [1, 4, 0, 0, 0, 0, 0, 0] + packet(6, 1, 2, ports(port, 443))
            #expect(accepts(program, packet(58, 5, 1, error)) == request)
            if request { chosen += 1 }
        }
        #expect((60...140).contains(chosen))
        #expect(accepts(program, packet(89, 1, 2, [0])) == accepts(program, packet(89, 2, 1, [0])))
    }

    @Test func aProbeThatSamplesIsKnownByItsProgramAndSaysThatTranslationsMatter() {
        let sample = FlowSample(oneIn: 16, salt: 4_000_000_000)
        for family in AddressFamily.allCases {
            #expect(FlowSample(bytecode: sample.bytecode(family)) == sample)
            guard case .every(let condition, _) = ProbeSurvey.coverage(of: sample.words(family)) else {
                Issue.record("not understood")
                continue
            }
            #expect(condition.sampledOneIn == 16 && condition.dependence == [.source, .destination])
        }
        #expect(FlowSample(bytecode: "1,6 0 0 65535") == nil)
        #expect(ProbeSurvey.coverage(of: ["-m", "bpf", "--bytecode", "1,6 0 0 65535"]) == .some)
    }
}
