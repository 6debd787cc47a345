import Diagnosis
import Foundation
import Glibc
import Lab
import LinuxSupport
import Reports
import Testing

/// Rule sets as the programs themselves write them, which are run in the sandbox: what their traffic meets is told as it is, and nothing
/// is found to be wrong with what works.
@Suite(.serialized, .enabled(if: Live.obstacle == nil, "\(Live.obstacle ?? "")"))
struct ProgramRulesTests {
    private static func isInstalled(_ programs: String...) -> Bool {
        programs.allSatisfy { program in
            ["/usr/sbin", "/usr/bin"].contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(program)") }
        }
    }

    /// A client at 192.0.2.2, and a guest at 10.9.0.2 behind a bridge.
    private static func build(_ sandbox: Sandbox) async throws {
        for command in [
            "ip link set lo up", "ip netns add client", "ip link add eth0 type veth peer name eth0 netns client",
            "ip addr add 192.0.2.1/24 dev eth0", "ip link set eth0 up", "ip -n client addr add 192.0.2.2/24 dev eth0",
            "ip -n client link set eth0 up", "ip -n client route add default via 192.0.2.1", "ip netns add guest",
            "ip link add br0 type bridge", "ip addr add 10.9.0.1/24 dev br0", "ip link set br0 up",
            "ip link add port0 type veth peer name eth0 netns guest", "ip link set port0 master br0 up",
            "ip -n guest addr add 10.9.0.2/24 dev eth0", "ip -n guest link set eth0 up",
            "ip -n guest route add default via 10.9.0.1", "sysctl -qw net.ipv4.ip_forward=1",
        ] {
            try await sandbox.sh(command)
        }
    }

    /// A copy of a folder of the machine's, in its place.
    private static func copy(_ path: String, _ sandbox: Sandbox) async throws {
        let copy = "/run/copies\(path.replacing("/", with: "."))"
        try await sandbox.sh("mkdir -p /run")
        try await sandbox.sh("cp -a \(path) \(copy)")
        try await sandbox.sh("mount --bind \(copy) \(path)")
    }

    /// Answers each connection with a word.
    private static func serve(_ port: Int, in netns: String? = nil, _ sandbox: Sandbox) throws -> SandboxProcess {
        let script = """
            import socket
            server = socket.create_server(("", \(port)))
            server.settimeout(120)
            while True:
                client, _ = server.accept()
                client.sendall(b"hello")
                client.close()
            """
        return try SandboxProcess((netns.map { ["ip", "netns", "exec", $0] } ?? []) + ["python3", "-c", script], in: sandbox)
    }

    private static func connect(_ from: String, _ address: String, _ port: Int, _ sandbox: Sandbox) async throws -> Bool {
        let script = """
            import socket
            socket.create_connection(("\(address)", \(port)), 2.5).recv(5) == b"hello" or exit(1)
            """
        return try await sandbox.run(["ip", "netns", "exec", from, "python3", "-c", script]).isSuccess
    }

    /// Connections that are let through and some that are not; what is said of them.
    ///
    /// - Parameter owner: as whose the rule is recognised that keeps 192.0.2.2 from port 2323.
    private static func check(_ sandbox: Sandbox, owner: String) async throws {
        let servers = [try serve(22, sandbox), try serve(2323, sandbox), try serve(80, in: "guest", sandbox)]
        let rules = try await sandbox.rules()
        _ = try await sandbox.trace("install-probes")
        let (findings, drops) = try await sandbox.collecting { _ in
            try await waiting { try await connect("client", "192.0.2.1", 22, sandbox) }
            #expect(try await connect("client", "192.0.2.1", 22, sandbox))
            #expect(try await sandbox.run(["ip", "netns", "exec", "client", "ping", "-c", "2", "192.0.2.1"]).isSuccess)
            #expect(try await connect("guest", "10.9.0.1", 22, sandbox) || owner == "ufw")
            #expect(try await !connect("client", "192.0.2.1", 2323, sandbox))
            #expect(try await !connect("client", "10.9.0.2", 80, sandbox))
            _ = try await sandbox.paths("?outcome=dropped") { report in
                report.paths.contains { $0.decidedBy?.isRule == true && $0.example.destinationPort == 2323 }
            }
            return (
                try await sandbox.get(FindingsReport.self, "/findings"), try await sandbox.get(DropsReport.self, "/drops")
            )
        }
        for server in servers { await server.stop(signal: SIGKILL) }
        // Nothing is wrong with the connections that worked.
        #expect(findings.findings.allSatisfy { $0.kind == "packets-dropped" }, "\(findings.findings.map(\.title))")
        for drop in drops.drops {
            #expect([2323, 80].contains(drop.example.destinationPort ?? 0), "\(drop.example)")
        }
        let named = drops.drops.compactMap { drop in drop.example.destinationPort == 2323 ? drop.decidedBy : nil }
        #expect(named.contains { $0.rule?.contains("2323") == true && $0.owner?.program == owner }, "\(named)")
        #expect(try await sandbox.trace("remove-probes", "--verify").isSuccess)
        #expect(try await sandbox.rules() == rules)
    }

    @Test(
        "ufw: what it lets through is no fault, and the rule that a person asked it for is named as its own",
        .enabled(if: isInstalled("ufw", "python3"), "ufw is not installed"))
    func ufw() async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            for folder in ["/etc/ufw", "/etc/default", "/usr/lib/ufw"] { try await Self.copy(folder, sandbox) }
            for command in ["ufw allow 22/tcp", "ufw deny 2323/tcp", "ufw logging medium", "ufw --force enable"] {
                try await sandbox.sh(command)
            }
            try await Self.check(sandbox, owner: "ufw")
        }
    }

    @Test(
        "firewalld, with either of its backends: what it lets through is no fault, and the rule that a person asked it for is named",
        .enabled(
            if: isInstalled("firewalld", "firewall-cmd", "dbus-daemon", "python3"), "firewalld or dbus-daemon is not installed"),
        arguments: ["iptables", "nftables"])
    func firewalld(_ backend: String) async throws {
        try await Sandbox.with { sandbox in
            try await Self.build(sandbox)
            try await Self.copy("/etc/firewalld", sandbox)
            try await sandbox.sh("sed -i s/^FirewallBackend=.*/FirewallBackend=\(backend)/ /etc/firewalld/firewalld.conf")
            try await sandbox.sh("mkdir -p /run/dbus")
            let bus = try SandboxProcess(
                ["dbus-daemon", "--system", "--nofork", "--nopidfile", "--address=unix:path=/run/dbus/system_bus_socket"],
                in: sandbox)
            try await waiting { try await sandbox.run(["test", "-S", "/run/dbus/system_bus_socket"]).isSuccess }
            let firewalld = try SandboxProcess(["firewalld", "--nofork", "--nopid"], in: sandbox)
            try await waiting { try await sandbox.run(["firewall-cmd", "--state"]).isSuccess }
            for arguments in [
                ["--zone=public", "--add-interface=eth0"], ["--zone=trusted", "--add-interface=br0"],
                ["--zone=public", "--add-port=22/tcp"],
                [
                    "--zone=public",
                    "--add-rich-rule=rule family=ipv4 source address=192.0.2.0/24 port port=2323 protocol=tcp drop",
                ],
            ] {
                _ = try await sandbox.require(["firewall-cmd", "-q"] + arguments)
            }
            try await Self.check(sandbox, owner: "firewalld")
            await firewalld.stop(signal: SIGKILL)
            await bus.stop(signal: SIGKILL)
        }
    }
}
