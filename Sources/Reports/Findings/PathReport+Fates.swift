/// What explains a path's end without any setting or rule.
extension PathReport {
    var isMulticast: Bool {
        let address = example.destination
        if address.contains(":") { return address.hasPrefix("ff") }
        return address == "255.255.255.255"
            || address.split(separator: ".").first.flatMap { UInt8($0) }.map { 224...239 ~= $0 } == true
    }

    /// Whether its packets were sent by the namespace in which they vanish, and carry its own address as their source: those
    /// are refused whatever the settings.
    var comesBack: Bool {
        guard let first = steps.first, let end = endedAt?.after else { return false }
        return first.hook == "OUTPUT" && first.netns == end.netns && !translations.contains { $0.kind == "snat" }
    }
}
