/// Which namespaces a person asks for: `--netns`.
public enum NamespaceSelector: Sendable, Hashable {
    /// The namespace that ipt-trace itself runs in.
    case host
    /// A name under `/run/netns`.
    case named(String)
    case process(Int32)
    case path(String)
    /// Every distinct namespace of the machine that can be seen.
    case all

    public init(_ text: String) throws(NamespaceError) {
        switch text {
        case "host": self = .host
        case "all": self = .all
        case _ where text.hasPrefix("pid:"):
            guard let pid = Int32(text.dropFirst(4)), pid > 0 else { throw .invalidSelector(text) }
            self = .process(pid)
        case _ where text.contains("/"): self = .path(text)
        case "": throw .invalidSelector("\"\"")
        default: self = .named(text)
        }
    }
}
