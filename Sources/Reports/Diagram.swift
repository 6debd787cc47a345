/// The chains that packets met, as a picture shows them: a row of boxes, in groups.
public struct Diagram: Sendable, Equatable {
    public struct Box: Sendable, Equatable {
        public var text: String
        /// What happens to packets behind it: translations.
        public var notes: [String] = []
    }

    /// A namespace, or the chains of one direction.
    public struct Group: Sendable, Equatable {
        public var title: String
        public var boxes: [Box]
    }

    /// Which traffic it is of.
    public var title: String
    public var groups: [Group]
    /// What became of the packets; `nil` where the picture is of an order alone.
    public var ending: String?
    /// Whether they were lost.
    public var isLoss = false
}

/// A report that can be drawn.
public protocol DiagramReport: Report {
    var diagrams: [Diagram] { get }
}

extension PathsReport: DiagramReport {
    public var diagrams: [Diagram] { paths.map(\.diagram) }
}

extension PathReport {
    var diagram: Diagram {
        var groups: [Diagram.Group] = []
        for (index, step) in steps.enumerated() {
            let box = Diagram.Box(text: "\(step.table) \(step.chainText)", notes: remarks(at: index))
            if groups.last?.title == step.netns {
                groups[groups.count - 1].boxes.append(box)
            } else {
                groups.append(Diagram.Group(title: step.netns, boxes: [box]))
            }
        }
        return Diagram(
            title: "\(title), \(Phrase.count(packets, "packet"))", groups: groups,
            ending: endingText.isEmpty ? outcome : "\(outcome): \(endingText)", isLoss: outcome == "dropped")
    }
}

extension PrecedenceReport: DiagramReport {
    public var diagrams: [Diagram] {
        roles.flatMap { role in
            role.orders.map { order in
                Diagram(
                    title: "\(role.title), \(order.direction), \(Phrase.count(order.packets, "packet"))",
                    groups: [Diagram.Group(title: role.netns, boxes: order.chains.map { Diagram.Box(text: $0) })])
            }
        }
    }
}
