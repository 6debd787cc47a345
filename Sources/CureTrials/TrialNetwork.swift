import Diagnosis
import Foundation
import LinuxSupport
import Ruleset
import TraceModel

/// A namespace with the interfaces and addresses that packets of a plan need, and one around it that sends them and sees them leave. Both
/// are without names, so that the kernel takes them away with this process, however it ends.
struct TrialNetwork {
    /// Where the rules are.
    let inside: NetworkNamespace
    private let outside: NetworkNamespace
    /// The other ends of the interfaces, by the names of these.
    private let ends: [String: PacketSocket]

    private static let linkLayer: [UInt8] = [0x02, 0, 0, 0, 0, 1]
    /// How long a packet is waited for. Milliseconds.
    private static let patience: Int32 = 300

    init(for plan: TrialPlan, like original: NetworkNamespace) async throws {
        inside = try NetworkNamespace.made(name: "a copy of \(original.name)")
        outside = try NetworkNamespace.made(name: "around a copy of \(original.name)")
        let passages = [plan.opening, plan.dropped].compactMap(\.self)
        let names = Set(passages.flatMap { [$0.arrival, $0.departure] }.compactMap(\.self)).subtracting(["lo"]).sorted()
        let links = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, "trial\($0)") })
        try Self.setUp(inside, like: original)
        try await Self.ip(Self.links(links, outside: outside), in: inside)
        try await Self.ip(links.values.sorted().map { "link set dev \($0) up" }, in: outside)
        let addresses = try await Self.addresses(of: original)
        try await Self.ip(Self.addressing(addresses, links: links) + Self.routes(passages), in: inside)
        var ends: [String: PacketSocket] = [:]
        for (name, other) in links { ends[name] = try PacketSocket(on: other, of: outside) }
        self.ends = ends
    }

    /// The settings by which packets are let through that the real namespace lets through.
    private static func setUp(_ inside: NetworkNamespace, like original: NetworkNamespace) throws {
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            guard let value = try ChangedSetting.value(of: name, in: original) else { continue }
            try inside.enter { try Self.set(name.split(separator: ".").dropFirst().joined(separator: "/"), value) }
        }
        for (name, value) in [
            ("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/default/rp_filter", "0"), ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/all/disable_ipv6", "0"), ("ipv6/conf/default/disable_ipv6", "0"),
        ] {
            // Without IPv6 its settings are missing.
            try? inside.enter { try Self.set(name, value) }
        }
    }

    private static func set(_ name: String, _ value: String) throws {
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: "/proc/sys/net/\(name)"))
        try file.write(contentsOf: Data(value.utf8))
        try file.close()
    }

    /// Without address resolution: whatever is sent goes to the other end, which takes it.
    private static func links(_ links: [String: String], outside: NetworkNamespace) throws -> [String] {
        let mac = linkLayer.map { String($0, radix: 16) }.joined(separator: ":")
        let path = try outside.withDescriptor { "/proc/\(getpid())/fd/\($0)" }
        return ["link set dev lo up"]
            + links.sorted { $0.key < $1.key }.flatMap { name, other in
                [
                    "link add name \(name) address \(mac) type veth peer name \(other) netns \(path)",
                    "link set dev \(name) arp off", "link set dev \(name) up",
                ]
            }
    }

    private struct Interface: Decodable {
        struct Address: Decodable {
            var local: String?
            var prefixlen: Int?
            var scope: String?
        }

        var ifname: String?
        var addr_info: [Address]?
    }

    private static func addresses(of namespace: NetworkNamespace) async throws -> [(
        interface: String, address: IPAddress, prefix: Int
    )] {
        let output = try await Tool.require("ip", ["-json", "address", "show"], in: namespace).standardOutput
        return try JSONDecoder().decode([Interface].self, from: Data(output.utf8)).flatMap { interface in
            (interface.addr_info ?? []).compactMap { one in
                guard one.scope != "link", let name = interface.ifname, let address = one.local.flatMap({ IPAddress($0) }),
                    let prefix = one.prefixlen, !address.isLoopback
                else { return nil }
                return (name, address, prefix)
            }
        }
    }

    /// Gives the copy all addresses of the namespace; those of interfaces that are left out are put on the loopback interface.
    private static func addressing(
        _ addresses: [(interface: String, address: IPAddress, prefix: Int)], links: [String: String]
    ) -> [String] {
        addresses.map { interface, address, prefix in
            let noDetection = address.family == .ipv6 ? " nodad" : ""
            return links[interface] != nil
                ? "address replace \(address)/\(prefix) dev \(interface)\(noDetection)"
                : "address replace \(address)/\(address.family == .ipv4 ? 32 : 128) dev lo\(noDetection)"
        }
    }

    /// Where the packets are to go, and where they come from. Whatever else translation makes of a destination is on the other side of the
    /// interface by which the dropped packet was to leave.
    private static func routes(_ passages: [TrialPlan.Passage]) -> [String] {
        var routes: [String] = []
        if let last = passages.last, let departure = last.departure, departure != "lo" {
            routes.append("\(last.tuple.destination.family == .ipv4 ? "" : "-6 ")route replace default dev \(departure)")
        }
        for passage in passages {
            if let departure = passage.departure, departure != "lo" {
                routes += [passage.tuple.destination, passage.destination].map { route(to: $0, departure) }
            }
            if let arrival = passage.arrival, arrival != "lo" { routes.append(route(to: passage.tuple.source, arrival)) }
        }
        return routes
    }

    private static func route(to address: IPAddress, _ interface: String) -> String {
        address.family == .ipv4
            ? "route replace \(address)/32 dev \(interface)" : "-6 route replace \(address)/128 dev \(interface)"
    }

    private static func ip(_ commands: [String], in namespace: NetworkNamespace) async throws {
        guard !commands.isEmpty else { return }
        for command in commands {
            try await Tool.require("ip", command.split(separator: " ").map(String.init), in: namespace)
        }
    }

    /// Sends a packet through the rules.
    ///
    /// - Returns: whether it came out where it was to.
    func passes(_ packet: TrialPacket) throws -> Bool {
        let passage = packet.passage
        // Past what dropped it, translation may have it delivered here.
        let delivered = try PacketSocket(
            deliveredIn: inside, passage.tuple.destination.family, transport: passage.tuple.transport)
        let receivers = [passage.departure.flatMap { ends[$0] }, delivered].compactMap(\.self)
        if let sender = passage.arrival.flatMap({ ends[$0] }) {
            try sender.send(packet.bytes, to: Self.linkLayer)
        } else {
            try PacketSocket.send(packet.bytes, to: passage.tuple.destination, from: inside)
        }
        return PacketSocket.receives(on: receivers, within: Self.patience) { packet.isIn($0, hasHeader: $1) }
    }
}
