/// An entry of a report that stands for several paths, and adds up their packets and times.
protocol PathGroup {
    var packets: UInt64 { get set }
    var bytes: UInt64 { get set }
    var firstSeen: String { get set }
    var lastSeen: String { get set }
    var protocols: [String: UInt64] { get set }
    var paths: [String] { get set }
    /// What the kernel's traces say of some is inferred of this many; absent for none.
    var inferred: UInt64? { get set }
}

extension PathGroup {
    mutating func add(_ path: PathReport) {
        packets += path.packets
        bytes += path.bytes
        firstSeen = min(firstSeen, path.firstSeen)
        lastSeen = max(lastSeen, path.lastSeen)
        protocols.merge(path.protocols, uniquingKeysWith: +)
        paths.append(path.id)
        noteInferred(path)
    }
}

extension PathGroup {
    mutating func noteInferred(_ path: PathReport) {
        if path.decidedBy?.evidence == "inferred" { inferred = (inferred ?? 0) + path.packets }
    }
}

extension Array where Element: PathGroup {
    /// Most packets first; those with as many stay in their order.
    var byPackets: [(offset: Int, element: Element)] {
        enumerated().sorted { ($1.element.packets, $0.offset) < ($0.element.packets, $1.offset) }
    }
}
