import Lab
import LinuxSupport

/// The networks that a flood goes through: those of `lab up ping` with these additions.
enum LoadTopology: String, CaseIterable {
    case two = "2 namespaces"
    case one = "1 namespace"
    case twenty = "20 namespaces"
    case both = "2 namespaces, IPv4 and IPv6"
    case busy = "20 namespaces, 4 senders at once"
    case busyBoth = "2 namespaces, IPv4 and IPv6, 2 senders at once"

    /// The namespaces that get probes and are received.
    var traced: [String] {
        switch self {
        case .one: ["guest"]
        case .two, .both, .busyBoth: ["host", "guest"]
        case .twenty, .busy: ["host", "guest"] + (2...19).map { "guest\($0)" }
        }
    }

    var probeOptions: [String] { ["--family", isBoth ? "both" : "ipv4"] + namespaceOptions }
    private var isBoth: Bool { self == .both || self == .busyBoth }
    var namespaceOptions: [String] { traced.flatMap { ["--netns", $0] } }

    func setUp(in sandbox: Sandbox) async throws {
        try await Gallery.ping.setUp(in: sandbox)
        // Nobody listens on the port: without this the server would answer every packet with an ICMP error.
        try await sandbox.sh("ip netns exec inet iptables -A INPUT -p udp -j DROP")
        switch self {
        case .one, .two: break
        case .twenty, .busy:
            for number in 2...19 {
                try await sandbox.sh("ip netns add guest\(number)")
                try await sandbox.sh("ip link add port\(number) type veth peer name up netns guest\(number)")
                try await sandbox.sh("ip link set port\(number) master br0 up")
                try await sandbox.sh("ip -n guest\(number) address add 172.16.1.\(number)/16 dev up")
                try await sandbox.sh("ip -n guest\(number) link set dev up up")
                try await sandbox.sh("ip -n guest\(number) route add default via 172.16.0.1")
            }
        case .both, .busyBoth:
            // The network was made for IPv4 and has IPv6 switched off.
            for place in ["", "ip netns exec guest ", "ip netns exec inet "] {
                for scope in ["default", "all"] {
                    try await sandbox.sh("\(place)sysctl -qw net.ipv6.conf.\(scope).disable_ipv6=0")
                }
            }
            try await sandbox.sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
            try await sandbox.sh("ip address add fd00:16::1/64 dev br0 nodad")
            try await sandbox.sh("ip -n guest address add fd00:16::2/64 dev vGUEST nodad")
            try await sandbox.sh("ip -n guest -6 route add default via fd00:16::1")
            try await sandbox.sh("ip address add fd00:10::15/64 dev eth0 nodad")
            try await sandbox.sh("ip -n inet address add fd00:10::2/64 dev up0 nodad")
            try await sandbox.sh("ip -n inet -6 route add default via fd00:10::15")
            try await sandbox.sh("ip netns exec inet ip6tables -A INPUT -p udp -j DROP")
            // Until link-local addresses may be used.
            for _ in 0..<50 where try await !sandbox.run(ping("guest", "fd00:10::2")).isSuccess {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
        for guest in senders { try await sandbox.require(ping(guest, "8.8.8.8")) }
    }

    private func ping(_ guest: String, _ address: String) -> [String] {
        ["ip", "netns", "exec", guest, "ping", "-c", "1", "-W", "2", address]
    }

    private var senders: [String] { self == .twenty || self == .busy ? ["guest", "guest2", "guest3", "guest4"] : ["guest"] }

    /// Sends `packets` in all and gives how many were sent per second.
    func flood(_ packets: Int, in sandbox: Sandbox, ports: Int = 1) async throws -> Double {
        let targets = isBoth ? ["8.8.8.8", "fd00:10::2"] : ["8.8.8.8"]
        let flows = senders.flatMap { guest in targets.map { (guest, $0) } }
        let share = String(max(1, packets / flows.count))
        @Sendable func send(_ guest: String, _ target: String) async throws -> (sent: Int, seconds: Double) {
            let output = try await sandbox.require(
                ["ip", "netns", "exec", guest, "\(Bench.products)/flood", target, "9", share, "64", String(ports)]
            ).standardOutput
            guard let sent = Bench.number(before: " packets in", in: output),
                let seconds = Bench.number(after: "packets in", in: output)
            else { throw Failure(description: "flood printed \(output)") }
            return (sent, seconds)
        }
        if self != .busy, self != .busyBoth {
            // One after the other: the same flood as in fewer namespaces.
            var sent = 0
            var seconds = 0.0
            for (guest, target) in flows {
                let part = try await send(guest, target)
                sent += part.sent
                seconds += part.seconds
            }
            return Double(sent) / seconds
        }
        return try await withThrowingTaskGroup(of: (sent: Int, seconds: Double).self) { group in
            for (guest, target) in flows { group.addTask { try await send(guest, target) } }
            var sent = 0
            var seconds = 0.0
            for try await result in group {
                sent += result.sent
                seconds = max(seconds, result.seconds)
            }
            return Double(sent) / seconds
        }
    }
}
