/// One step of a packet through a namespace: a probe, and the interfaces it reported.
@frozen public struct Step: Sendable, Hashable {
    public var probe: UInt32
    public var inInterface: UInt32
    public var outInterface: UInt32

    @inlinable public init(probe: UInt32, inInterface: UInt32, outInterface: UInt32) {
        self.probe = probe
        self.inInterface = inInterface
        self.outInterface = outInterface
    }
}

/// A sequence of steps within one namespace, by number: the node of a `StepTrie` at which it ends.
public typealias StepPathID = UInt32

/// All step sequences seen so far, as a tree: a packet's way is one number, and advancing it by a step is one look-up.
///
/// Grows with the number of distinct sequences, not with traffic; `capacity` bounds it.
public struct StepTrie: Sendable {
    /// Half a line of memory, since going on from a node is all that is done with it most of the time.
    private struct Node: Sendable, BitwiseCopyable {
        var step: Step
        var parent: StepPathID
        // The child that was taken last: on real traffic mostly the next one too.
        var recentStep = StepTrie.noStep
        var recentChild: StepPathID = 0
    }

    /// The empty sequence.
    public static let root: StepPathID = 0

    private var nodes: [Node]
    /// Nodes by parent and step, in open addressing; 0, which is nobody's child, in a free slot. At most two thirds are taken.
    private var children = [StepPathID](repeating: 0, count: 64)
    private let capacity: Int
    /// Random, so that nobody can send packets whose ways collide.
    private let seed = (UInt64.random(in: 1...(.max)), UInt64.random(in: 1...(.max)))

    /// - Parameter capacity: the most sequences that are kept apart. Past it `advance` stays where it is, and says so
    ///   through `overflows`.
    public init(capacity: Int = 1 << 20) {
        self.capacity = capacity
        nodes = [Node(step: Self.noStep, parent: 0)]
    }

    private static let noStep = Step(probe: .max, inInterface: 0, outInterface: 0)

    /// For telling steps only.
    public var forReading: StepTrie {
        var table = self
        table.children = []
        return table
    }

    /// How often a step was left out for want of room.
    public private(set) var overflows = 0

    /// The sequence `route` with one step more.
    public mutating func advance(_ stepPath: StepPathID, by step: Step) -> StepPathID {
        let index = Int(stepPath)
        if nodes[index].recentStep == step { return nodes[index].recentChild }
        var slot = slot(stepPath, step)
        while children[slot] != 0, !isChild(children[slot], of: stepPath, step) { slot = (slot + 1) & (children.count - 1) }
        var child = children[slot]
        if child == 0 {
            guard nodes.count < capacity else {
                overflows += 1
                return stepPath
            }
            child = StepPathID(nodes.count)
            nodes.append(Node(step: step, parent: stepPath))
            children[slot] = child
            if nodes.count * 3 > children.count * 2 { grow() }
        }
        nodes[index].recentStep = step
        nodes[index].recentChild = child
        return child
    }

    private func isChild(_ child: StepPathID, of stepPath: StepPathID, _ step: Step) -> Bool {
        nodes[Int(child)].parent == stepPath && nodes[Int(child)].step == step
    }

    private func slot(_ stepPath: StepPathID, _ step: Step) -> Int {
        let one = UInt64(stepPath) << 32 | UInt64(step.probe)
        let other = UInt64(step.inInterface) << 32 | UInt64(step.outInterface)
        let product = (one ^ seed.0).multipliedFullWidth(by: other ^ seed.1)
        return Int(truncatingIfNeeded: product.high ^ product.low) & (children.count - 1)
    }

    private mutating func grow() {
        children = [StepPathID](repeating: 0, count: children.count * 2)
        for node in 1..<nodes.count {
            var slot = slot(nodes[node].parent, nodes[node].step)
            while children[slot] != 0 { slot = (slot + 1) & (children.count - 1) }
            children[slot] = StepPathID(node)
        }
    }

    /// The probe of the last step of a sequence; that of no probe for the empty one.
    public func lastProbe(of stepPath: StepPathID) -> UInt32 { nodes[Int(stepPath)].step.probe }

    /// The steps of a sequence, first to last.
    public func steps(of stepPath: StepPathID) -> [Step] {
        var steps: [Step] = []
        var node = Int(stepPath)
        while node != 0 {
            steps.append(nodes[node].step)
            node = Int(nodes[node].parent)
        }
        return steps.reversed()
    }
}
