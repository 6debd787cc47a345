import LinuxSupport
import Testing

/// What a person is told whose machine lacks a program.
@Suite struct MissingToolTests {
    @Test(
        "a tool that is missing is named with the package that has it",
        arguments: [("nft", "nftables"), ("ip6tables-legacy-save", "iptables"), ("ip", "iproute2"), ("conntrack", "conntrack")])
    func packages(_ tool: String, _ package: String) {
        #expect("\(NamespaceError.toolMissing(tool))".hasSuffix("sudo apt-get install \(package)"))
    }
}
