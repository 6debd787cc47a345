import Diagnosis
import Testing
import TraceModel

/// Who wrote a rule: rules as the programs write them, and rules that look like theirs.
@Suite struct RuleOwnerTests {
    private static func owner(_ chain: String, _ text: String, table: String = "filter", family: String = "ip") -> String? {
        let place = RulePlace(tableFamily: family, table: table, chain: chain, handle: 1)
        let owner = RuleDecision(.rule, at: place, text: text).owner
        return owner.map { $0.program + ($0.object.map { ": \($0)" } ?? "") }
    }

    @Test(
        "iptables' rules",
        arguments: [
            (
                "KUBE-SERVICES",
                "-A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m comment --comment \"default/web:http has no endpoints\" -m tcp --dport 80 "
                    + "-j REJECT --reject-with icmp-port-unreachable", "kube-proxy: default/web:http"
            ),
            (
                "KUBE-FIREWALL",
                "-A KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark --mark 0x8000/0x8000 -j DROP",
                "kubernetes"
            ),
            (
                "KUBE-POD-FW-24CAQJ4LYSAY3PHB",
                "-A KUBE-POD-FW-24CAQJ4LYSAY3PHB -m comment --comment \"rule to REJECT traffic destined for POD name:web-0 namespace: shop\" "
                    + "-m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable",
                "kube-router: pod shop/web-0"
            ),
            (
                "INPUT",
                "-A INPUT -p tcp -m multiport --dports 22 -m set --match-set f2b-sshd src -j REJECT --reject-with icmp-port-unreachable",
                "fail2ban: jail sshd"
            ),
            ("KUBE-FORWARD", "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP", "kube-proxy"),
            (
                "KUBE-FW-TCOU7JCQXEZGVUNU",
                "-A KUBE-FW-TCOU7JCQXEZGVUNU -m comment --comment \"default/web:http loadbalancer IP\" -j DROP",
                "kube-proxy: default/web:http"
            ),
            ("DOCKER", "-A DOCKER ! -i docker0 -o docker0 -j DROP", "docker: network docker0"),
            (
                "DOCKER-ISOLATION-STAGE-2", "-A DOCKER-ISOLATION-STAGE-2 -o br-0a1b2c3d4e5f -j DROP",
                "docker: network br-0a1b2c3d4e5f"
            ),
            (
                "cali-tw-cali12d4a061371",
                "-A cali-tw-cali12d4a061371 -m comment --comment \"cali:fyqkIfuT6GBj9Ld4\" -m comment --comment "
                    + "\"Drop if no profiles matched\" -j DROP", "calico: workload cali12d4a061371"
            ),
            (
                "cali-pi-_Gh0d0yl2ZmQ2x9LPl5r",
                "-A cali-pi-_Gh0d0yl2ZmQ2x9LPl5r -m comment --comment \"cali:0123456789abcdeF\" -m comment --comment "
                    + "\"Policy default/allow-web ingress\" -j DROP", "calico: policy default/allow-web"
            ),
            ("ufw-user-input", "-A ufw-user-input -p tcp -m tcp --dport 22 -j DROP", "ufw: user rules for input"),
            ("ufw-skip-to-policy-input", "-A ufw-skip-to-policy-input -j DROP", "ufw: default policy for input"),
            ("ufw-not-local", "-A ufw-not-local -j DROP", "ufw"),
            ("ufw6-before-input", "-A ufw6-before-input -m rt --rt-type 0 -j DROP", "ufw"),
            ("f2b-sshd", "-A f2b-sshd -s 192.0.2.1/32 -j REJECT --reject-with icmp-port-unreachable", "fail2ban: jail sshd"),
            ("ts-input", "-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP", "tailscale"),
            (
                "LIBVIRT_FWI", "-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable",
                "libvirt: network virbr0"
            ),
            ("ISTIO_INBOUND", "-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j DROP", "istio"),
            ("FLANNEL-FWD", "-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment \"flanneld forward\" -j DROP", "flannel"),
        ])
    func iptables(_ chain: String, _ text: String, _ expected: String) {
        #expect(Self.owner(chain, text) == expected)
    }

    @Test(
        "nf_tables' rules",
        arguments: [
            (
                "inet", "firewalld", "filter_IN_public_deny", "tcp dport 22 reject with icmpx admin-prohibited",
                "firewalld: zone public"
            ),
            ("inet", "firewalld", "filter_FORWARD", "reject with icmpx admin-prohibited", "firewalld"),
            ("ip", "kube-proxy", "service-ULMVA6XW-default/nginx/tcp/http", "drop", "kube-proxy: default/nginx/tcp/http"),
            ("ip", "kube-proxy", "reject-chain", "reject", "kube-proxy"),
            (
                "ip", "kube-proxy", "endpoint-5OJB2KTY-demo/web/tcp/http__10.244.1.5/8080", "drop",
                "kube-proxy: demo/web/tcp/http"
            ),
            (
                "inet", "f2b-table", "f2b-chain", "tcp dport 22 ip saddr @addr-set-sshd reject with icmp port-unreachable",
                "fail2ban: jail sshd"
            ),
            (
                "ip", "libvirt_network", "guest_input", "oifname \"virbr0\" counter packets 0 bytes 0 reject",
                "libvirt: network virbr0"
            ),
        ])
    func nftables(_ family: String, _ table: String, _ chain: String, _ text: String, _ expected: String) {
        #expect(Self.owner(chain, text, table: table, family: family) == expected)
    }

    @Test("firewalld's rules among iptables', by the chains that lead to them")
    func firewalld() {
        func owner(_ chain: String, by way: [String]) -> String? {
            let place = RulePlace(tableFamily: "ip", table: "filter", chain: chain, number: 1, backend: .legacy)
            let jumps = way.map { chain in
                RuleDecision.Jump(RulePlace(tableFamily: "ip", table: "filter", chain: chain, number: 1, backend: .legacy))
            }
            return RuleDecision(.rule, at: place, text: "-A \(chain) -j DROP", way: jumps).owner?.object
        }
        #expect(owner("IN_public_deny", by: ["INPUT", "INPUT_ZONES", "IN_public"]) == "zone public")
        #expect(owner("FWDI_my_zone_deny", by: ["FORWARD", "FORWARD_IN_ZONES", "FWDI_my_zone"]) == "zone my_zone")
        #expect(owner("IN_drop", by: ["INPUT", "INPUT_ZONES_SOURCE"]) == "zone drop")
        #expect(owner("IN_web_deny", by: ["INPUT"]) == nil && owner("MINE", by: ["INPUT", "INPUT_ZONES"]) == nil)
    }

    @Test("Docker's early drop of packets to containers by another interface")
    func direct() {
        #expect(
            Self.owner("PREROUTING", "-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP", table: "raw")
                == "docker: network docker0")
        #expect(Self.owner("PREROUTING", "-A PREROUTING -d 172.17.0.2/32 ! -i eth0 -j DROP", table: "raw") == nil)
        #expect(Self.owner("PREROUTING", "-A PREROUTING -d 172.17.0.2/32 -i docker0 -j DROP", table: "raw") == nil)
    }

    @Test(
        "what somebody wrote by hand is nobody's",
        arguments: [
            ("DOCKER-USER", "-A DOCKER-USER -i eth0 -j DROP"), ("DOCKER2", "-A DOCKER2 -o docker0 -j DROP"),
            ("FORWARD", "-A FORWARD -o docker0 -j DROP"), ("KUBE-MINE", "-A KUBE-MINE -j DROP"),
            ("KUBE-SVC-WEB", "-A KUBE-SVC-WEB -m comment --comment \"default/web:http\" -j DROP"),
            ("FORWARD", "-A FORWARD -m comment --comment \"default/web:http has no endpoints\" -j REJECT"),
            ("INPUT", "-A INPUT -m comment --comment cali:short -j DROP"), ("cali-mine", "-A cali-mine -j DROP"),
            ("ufw-mine", "-A ufw-mine -j DROP"), ("ufw-user-mine", "-A ufw-user-mine -j DROP"),
            ("f2b-whitelist", "-A f2b-whitelist -p tcp -j DROP"), ("f2b-", "-A f2b- -s 1.1.1.1/32 -j DROP"),
            ("IN_web_deny", "-A IN_web_deny -j DROP"), ("ts-mine", "-A ts-mine -j DROP"), ("LIBVIRT", "-A LIBVIRT -j DROP"),
            ("INPUT", "-A INPUT -m comment --comment \"ufw-user-input\" -j DROP"),
            ("istio_inbound", "-A istio_inbound -j DROP"), ("KUBE-POD-FW-WEB", "-A KUBE-POD-FW-WEB -j DROP"),
            ("INPUT", "-A INPUT -m set --match-set f2b-sshd src -j ACCEPT"),
            ("KUBE-FIREWALL2", "-A KUBE-FIREWALL2 -j DROP"),
        ])
    func lookAlikes(_ chain: String, _ text: String) {
        #expect(Self.owner(chain, text) == nil)
    }
}
