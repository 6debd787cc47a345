internal import TraceModel

/// Commands that mend a finding, as a POSIX shell reads them.
extension Evidence {
    struct Command: Equatable {
        /// Inside the namespace.
        var words: [String]
        /// As a POSIX shell takes it, in the namespace of ipt-trace itself.
        var text: String
    }

    /// `words` as a command that runs in a namespace.
    ///
    /// - Returns: `nil` where a name cannot be written so that the command means it, or means more than one namespace.
    func command(in netns: String, _ words: [String]) -> Command? {
        let inodes = Set(layout.namespaces.filter { $0.name == netns }.map(\.inode))
        guard inodes.count <= 1, !netns.isEmpty, !netns.hasPrefix("-") else { return nil }
        // An escape stands for a byte that no shell would be given.
        guard !netns.contains("\\x") else { return nil }
        return Self.shell(Self.entry(netns) + words).map { Command(words: words, text: $0) }
    }

    private static func entry(_ netns: String) -> [String] {
        if netns == "host" { return [] }
        if netns.hasPrefix("pid:"), let pid = Int32(netns.dropFirst(4)) {
            return ["nsenter", "--net=/proc/\(pid)/ns/net", "--"]
        }
        if netns.contains("/") { return ["nsenter", "--net=\(netns)", "--"] }
        return ["ip", "netns", "exec", netns]
    }

    /// A command of ipt-trace itself for one namespace.
    ///
    /// - Parameter subcommand: what takes `--netns`.
    func ownCommand(_ subcommand: String, in netns: String) -> Command? {
        guard command(in: netns, []) != nil, netns != "all" else { return nil }
        let words = ["ipt-trace", subcommand, "--netns", netns]
        return Self.shell(words).map { Command(words: words, text: $0) }
    }

    /// A rule that becomes the first of a built-in chain, behind our probes.
    func insertion(in netns: String, _ chain: NamespaceFacts.Chain, _ rule: [String]) -> Command? {
        // A run has one probe in each chain.
        let probesAhead = max(0, chain.probesAtHead - (probesGo ? 1 : 0))
        let place: [String] =
            if !chain.hasRules {
                ["-A", chain.name]
            } else if probesAhead == 0 {
                ["-I", chain.name]
            } else {
                ["-I", chain.name, "\(probesAhead + 1)"]
            }
        return command(in: netns, Self.iptables(chain.family, chain.backend) + ["-t", chain.table] + place + rule)
    }

    func deletion(in netns: String, _ shadow: NamespaceFacts.Shadow) -> Command? {
        guard let backend = shadow.backend, let rule = shadow.deletion else { return nil }
        return command(in: netns, Self.iptables(shadow.family, backend) + ["-t", shadow.table, "-D", shadow.chain] + rule)
    }

    /// One backend's own program: `iptables` alone may be the other's.
    static func iptables(_ family: AddressFamily, _ backend: Backend) -> [String] {
        ["\(family == .ipv4 ? "iptables" : "ip6tables")-\(backend.rawValue)"]
    }

    /// A setting of one interface.
    ///
    /// - Parameter name: below `net.ipv4.conf.INTERFACE`.
    func setting(in netns: String, of interface: String, _ name: String, _ value: Int) -> Command? {
        // sysctl reads patterns and assignments out of its arguments.
        let isPlain = interface.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.@:+".contains($0)) }
        guard isPlain, !interface.isEmpty else { return nil }
        // Between slashes a dot is part of a name.
        let key =
            interface.contains(".") ? "net/ipv4/conf/\(interface)/\(name)" : "net.ipv4.conf.\(interface).\(name)"
        return command(in: netns, ["sysctl", "-w", "\(key)=\(value)"])
    }

    /// Words as a shell reads them back.
    ///
    /// - Returns: `nil` where a terminal or a clipboard would not hand them on as they are: control and format characters,
    ///   separators of lines, text that was no UTF-8.
    static func shell(_ words: [String]) -> String? {
        let scalars = words.joined().unicodeScalars
        let isSafe = scalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned, .privateUse: false
            default: scalar != "\u{FFFD}"
            }
        }
        return isSafe ? words.map(quoted).joined(separator: " ") : nil
    }

    private static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty && word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.:/,+@%=".contains($0)) }
        return isPlain
            ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
