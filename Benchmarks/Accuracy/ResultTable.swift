import Foundation
import Judge

/// The figures as they are printed.
struct ResultTable {
    private var ordinary = Judgement()
    private var hostile = Judgement()
    private var losses = 0

    static let heading = line(
        ["traffic", "packets/s", "events", "lost", "journeys", "right", "right %", "ambiguous", "incomplete", "wrong"])

    /// A line at a time, into a pipe too.
    static func show(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    mutating func add(_ kind: Kind, _ reception: Reception, _ removal: Judge.Removal, _ judgement: Judgement) {
        let isWhole = judgement.removed == 0
        if kind.isHostile || !isWhole { hostile = hostile + judgement } else { ordinary = ordinary + judgement }
        if isWhole { losses += reception.lost + reception.leftOut }
        Self.show(
            Self.line([
                isWhole ? kind.name : "  1 % of events removed", String(Int(Double(judgement.packets) / reception.seconds)),
                String(judgement.events), String(reception.lost + reception.leftOut + judgement.removed),
                String(judgement.journeys), String(judgement.right), Self.share(judgement), String(judgement.ambiguous),
                String(judgement.incomplete), String(judgement.wrong),
            ]))
        if isWhole, reception.lost + reception.leftOut > 0 {
            Self.show("    \(reception.lost) events lost in the kernel, \(reception.leftOut) received and not recorded")
        }
        for example in judgement.examples { Self.show("    wrong: \(example)") }
    }

    /// Whether the goals are reached: ordinary traffic 99.99 % right and nothing wrong, of the rest nothing wrong unsaid.
    var isReached: Bool {
        ordinary.wrong == 0 && hostile.wrong == 0 && losses == 0 && ordinary.right * 10_000 >= ordinary.journeys * 9_999
    }

    var summary: String {
        "ordinary: \(Self.share(ordinary)) % of \(ordinary.journeys) journeys right, \(ordinary.wrong) wrong\n"
            + "hostile:  \(Self.share(hostile)) % of \(hostile.journeys) journeys right, \(hostile.wrong) wrong and not marked\n"
            + "lost in the kernel or while recording: \(losses) events\n"
            + (isReached ? "reached" : "NOT REACHED")
            + ": ordinary 99.99 % right; nothing wrong that is not marked; nothing lost"
    }

    private static func share(_ judgement: Judgement) -> String {
        String(format: "%.3f", judgement.journeys == 0 ? 0 : 100 * Double(judgement.right) / Double(judgement.journeys))
    }

    private static func line(_ cells: [String]) -> String {
        let widths = [32, 9, 8, 6, 8, 7, 8, 9, 10, 6]
        return zip(cells, widths).enumerated().map { index, cell in
            let padding = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index == 0 ? cell.0 + padding : padding + cell.0
        }.joined(separator: "  ")
    }
}
