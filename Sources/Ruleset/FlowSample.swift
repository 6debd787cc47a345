public import TraceModel

/// One flow in so many, chosen in the kernel without a state and without changing a packet: a classic BPF program for xt_bpf
/// that adds a packet's two ports, hashes the sum, and accepts one result in `oneIn`.
///
/// A sum is the same in both directions, and translating addresses leaves it alone, so that a flow is traced whole in all chains
/// and namespaces. An ICMP echo is known by its identifier, an ICMP error by the packet that it carries, and a packet that has neither
/// ports nor identifier (other protocols, fragments) by its addresses. Where a translation changes ports, the flow may be traced
/// on one side only: that is what `ProbeSurvey.coverage` says of these probes, so that nothing counts as dropped for it.
public struct FlowSample: Sendable, Hashable {
    public var oneIn: UInt32
    /// Other flows are chosen with another one.
    public var salt: UInt32

    public static let range: ClosedRange<UInt32> = 2...65_535

    public init(oneIn: UInt32, salt: UInt32) {
        self.oneIn = oneIn
        self.salt = salt
    }

    /// The match as iptables takes it.
    public func words(_ family: AddressFamily) -> [String] { ["-m", "bpf", "--bytecode", bytecode(family)] }

    /// Recognises a program of ours; `nil` for anybody else's.
    public init?(bytecode: String) {
        let instructions = bytecode.split(separator: ",")
        guard instructions.count > 7 else { return nil }
        func constant(_ fromEnd: Int) -> UInt32? {
            instructions[instructions.count - fromEnd].split(separator: " ").last.flatMap { UInt32($0) }
        }
        guard let salt = constant(7), let oneIn = constant(4), Self.range.contains(oneIn) else { return nil }
        self.init(oneIn: oneIn, salt: salt)
        guard AddressFamily.allCases.contains(where: { self.bytecode($0) == bytecode }) else { return nil }
    }

    /// A word of `Condition.text`: samples of one rate with different salts are of different flows.
    var condition: String { "sample:\(oneIn):\(salt)" }

    package func bytecode(_ family: AddressFamily) -> String {
        var program = BPFProgram()
        switch family {
        case .ipv4: Self.findFlowIPv4(&program)
        case .ipv6: Self.findFlowIPv6(&program)
        }
        program.mark("ports")
        program.add(.loadHalfAtX, 0)
        program.add(.store, 0)
        program.add(.loadHalfAtX, 2)
        program.add(.loadXFromMemory, 0)
        program.add(.addX)
        program.jump(to: "hash")
        program.mark("identifier")
        program.add(.loadHalfAtX, 4)
        program.jump(to: "hash")
        program.mark("addresses")
        // Of IPv6 the last four bytes, in which hosts differ.
        program.add(.loadWord, family == .ipv4 ? 12 : 20)
        program.add(.store, 0)
        program.add(.loadWord, family == .ipv4 ? 16 : 36)
        program.add(.loadXFromMemory, 0)
        program.add(.addX)
        program.mark("hash")
        program.add(.xor, salt)
        program.add(.multiply, 2_654_435_761)  // 2^32 divided by the golden ratio
        program.add(.shiftRight, 15)
        program.add(.modulo, oneIn)
        program.jumpUnlessEqual(0, to: "reject")
        program.add(.answer, 65_535)
        program.mark("reject")
        program.add(.answer, 0)
        return program.text
    }

    private static let withPorts: [UInt32] = [6, 17, 33, 132, 136]  // TCP, UDP, DCCP, SCTP, UDP-Lite

    private static func findFlowIPv4(_ program: inout BPFProgram) {
        program.add(.loadHalf, 6)
        program.jump(ifAny: 0x3FFF, to: "addresses")  // a fragment
        program.add(.loadXHeaderLength, 0)
        program.add(.loadByte, 9)
        for number in withPorts { program.jump(ifEqual: number, to: "ports") }
        program.jumpUnlessEqual(1, to: "addresses")
        program.add(.loadByteAtX, 0)
        for type: UInt32 in [0, 8, 13, 14] { program.jump(ifEqual: type, to: "identifier") }
        for type: UInt32 in [3, 5, 11, 12] { program.jump(ifEqual: type, to: "error") }
        program.jump(to: "addresses")
        program.mark("error")
        program.add(.loadByteAtX, 8 + 9)
        program.add(.store, 1)
        program.add(.loadByteAtX, 8)
        program.add(.and, 15)
        program.add(.shiftLeft, 2)
        program.add(.addX)
        program.add(.add, 8)
        program.add(.moveToX)
        program.add(.loadFromMemory, 1)
        program.jump(ifEqual: 1, to: "identifier")
        for number in withPorts { program.jump(ifEqual: number, to: "ports") }
        program.jump(to: "addresses")
    }

    private static func findFlowIPv6(_ program: inout BPFProgram) {
        program.add(.loadXConstant, 40)
        program.add(.loadByte, 6)
        for number in withPorts { program.jump(ifEqual: number, to: "ports") }
        program.jumpUnlessEqual(58, to: "addresses")
        program.add(.loadByteAtX, 0)
        for type: UInt32 in [128, 129] { program.jump(ifEqual: type, to: "identifier") }
        for type: UInt32 in [1, 2, 3, 4] { program.jump(ifEqual: type, to: "error") }
        program.jump(to: "addresses")
        program.mark("error")
        program.add(.loadByte, 40 + 8 + 6)
        program.add(.loadXConstant, 40 + 8 + 40)
        program.jump(ifEqual: 58, to: "identifier")
        for number in withPorts { program.jump(ifEqual: number, to: "ports") }
        program.jump(to: "addresses")
    }
}

/// A classic BPF program (linux/filter.h), written with names of places to jump to, forward only.
private struct BPFProgram {
    /// Codes of linux/bpf_common.h. X is the index register, A the accumulator; offsets are from the IP header on.
    enum Operation: UInt16 {
        case loadWord = 0x20
        case loadHalf = 0x28
        case loadByte = 0x30
        case loadHalfAtX = 0x48
        case loadByteAtX = 0x50
        case loadFromMemory = 0x60
        case loadXConstant = 0x01
        case loadXFromMemory = 0x61
        case loadXHeaderLength = 0xB1
        case store = 0x02
        case add = 0x04
        case addX = 0x0C
        case multiply = 0x24
        case modulo = 0x94
        case and = 0x54
        case xor = 0xA4
        case shiftLeft = 0x64
        case shiftRight = 0x74
        case moveToX = 0x07
        case answer = 0x06
        case jumpAlways = 0x05
        case jumpIfEqual = 0x15
        case jumpIfAny = 0x45
    }

    private struct Instruction {
        var operation: Operation
        var constant: UInt32
        var then: String?
        var otherwise: String?
    }

    private var instructions: [Instruction] = []
    private var places: [String: Int] = [:]

    mutating func add(_ operation: Operation, _ constant: UInt32 = 0) {
        instructions.append(Instruction(operation: operation, constant: constant))
    }

    mutating func mark(_ place: String) { places[place] = instructions.count }

    mutating func jump(to place: String) {
        instructions.append(Instruction(operation: .jumpAlways, constant: 0, then: place))
    }

    mutating func jump(ifEqual value: UInt32, to place: String) {
        instructions.append(Instruction(operation: .jumpIfEqual, constant: value, then: place))
    }

    mutating func jump(ifAny bits: UInt32, to place: String) {
        instructions.append(Instruction(operation: .jumpIfAny, constant: bits, then: place))
    }

    mutating func jumpUnlessEqual(_ value: UInt32, to place: String) {
        instructions.append(Instruction(operation: .jumpIfEqual, constant: value, otherwise: place))
    }

    /// As `--bytecode` takes it and iptables-save prints it.
    var text: String {
        let lines = instructions.enumerated().map { index, instruction in
            func distance(_ place: String?) -> Int { place.flatMap { places[$0] }.map { $0 - index - 1 } ?? 0 }
            if instruction.operation == .jumpAlways {
                return "\(instruction.operation.rawValue) 0 0 \(distance(instruction.then))"
            }
            return "\(instruction.operation.rawValue) \(distance(instruction.then)) \(distance(instruction.otherwise)) "
                + "\(instruction.constant)"
        }
        return "\(lines.count)," + lines.joined(separator: ",")
    }
}
