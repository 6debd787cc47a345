internal import TraceModel

/// What explains a path's end without any setting or rule.
extension PathReport {
    var isMulticast: Bool { IPAddress(example.destination)?.isMulticast == true }

    /// Whether its packets were sent by the namespace in which they vanish, and carry its own address as their source: those
    /// are refused whatever the settings.
    var comesBack: Bool {
        guard let first = steps.first, let end = droppedBetween?.after else { return false }
        return first.hook == "OUTPUT" && first.netns == end.netns && !translations.contains { $0.kind == "snat" }
    }
}
