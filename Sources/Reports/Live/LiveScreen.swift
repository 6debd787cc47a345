public import Aggregation
internal import Diagnosis
internal import TraceModel

/// The live view of `collect` and `trace`: drops with what decided them, paths with their rates, and one of them opened.
///
/// It takes snapshots and keys and gives lines of text. `LiveTerminal` reads the keys and writes the lines.
public struct LiveScreen: Sendable {
    /// What watching takes of the machine.
    public struct Cost: Sendable, Equatable {
        /// Of one processor, from 0 on.
        public var processorShare: Double
        /// Bytes.
        public var memory: UInt64

        public init(processorShare: Double, memory: UInt64) {
            self.processorShare = processorShare
            self.memory = memory
        }
    }

    /// An entry of the list. A drop is opened as the path that most of its packets took.
    private struct Entry {
        var path: String
        var packets: UInt64
        /// A second; `nil` until there are two snapshots.
        var rate: Double?
        var label: String
        var text: String
        var isDrop: Bool
    }

    private enum Mode: Equatable {
        case list
        case opened(path: String)
        /// The filter is being typed.
        case typing(String)
    }

    private let title: String
    private var mode = Mode.list
    private var isPaused = false
    private var filter = TraceFilter()
    private var filterText = ""
    private var problem: String?
    private var snapshot: TraceSnapshot?
    private var cost: Cost?
    private var entries: [Entry] = []
    /// Packets of each entry in the snapshot before, by a key of its own.
    private var before: (time: Int64, packets: [String: UInt64])?
    private var eventRate: Double?
    private var eventsBefore: (time: Int64, events: UInt64)?
    private var chosen = 0
    /// The first line of an opened path that is shown.
    private var scroll = 0

    /// - Parameter title: stands first in the first line.
    public init(title: String) { self.title = title }

    // MARK: Input

    /// Takes a newer snapshot, unless the view is paused.
    public mutating func take(_ newer: TraceSnapshot, _ cost: Cost?) {
        guard !isPaused else { return }
        self.cost = cost
        if let last = eventsBefore, newer.generatedAt > last.time {
            eventRate = Double(newer.completeness.events &- last.events) * 1_000_000 / Double(newer.generatedAt - last.time)
        }
        eventsBefore = (newer.generatedAt, newer.completeness.events)
        snapshot = newer
        makeEntries(isNew: true)
    }

    /// Takes a key.
    ///
    /// - Returns: whether to go on: `false` where the person wants to leave.
    public mutating func take(_ key: LiveKey) -> Bool {
        problem = nil
        if case .typing(let text) = mode {
            type(key, text)
            return true
        }
        switch key {
        case .character("q"): return false
        case .character("p"), .character(" "): isPaused.toggle()
        case .character("/"): mode = .typing(filterText)
        case .up, .character("k"): move(by: -1)
        case .down, .character("j"): move(by: 1)
        case .pageUp: move(by: -10)
        case .pageDown: move(by: 10)
        case .enter: if mode == .list, entries.indices.contains(chosen) { open(entries[chosen].path) }
        case .escape, .backspace:
            if mode != .list {
                mode = .list
            } else if !filterText.isEmpty {
                setFilter("")
            }
        case .character: break
        }
        return true
    }

    private mutating func open(_ path: String) {
        mode = .opened(path: path)
        scroll = 0
    }

    private mutating func move(by steps: Int) {
        if case .opened = mode {
            scroll = max(0, scroll + steps)
        } else {
            chosen = max(0, min(entries.count - 1, chosen + steps))
        }
    }

    private mutating func type(_ key: LiveKey, _ text: String) {
        switch key {
        case .enter:
            mode = .list
            setFilter(text)
        case .escape: mode = .list
        case .backspace: mode = .typing(String(text.dropLast()))
        case .character(let character): if text.count < 200 { mode = .typing(text + String(character)) }
        case .up, .down, .pageUp, .pageDown: break
        }
    }

    private mutating func setFilter(_ text: String) {
        do {
            filter = try TraceFilter(search: text)
            filterText = text
            before = nil
            chosen = 0
            makeEntries(isNew: false)
        } catch {
            problem = "\(error)"
        }
    }

    private mutating func makeEntries(isNew: Bool) {
        guard let snapshot else { return }
        let old = before
        var packets: [String: UInt64] = [:]
        func rate(_ key: String, _ count: UInt64) -> Double? {
            packets[key] = count
            guard let old, snapshot.generatedAt > old.time else { return nil }
            return Double(count &- min(count, old.packets[key] ?? 0)) * 1_000_000 / Double(snapshot.generatedAt - old.time)
        }
        var all = filter
        all.limit = Self.mostEntries
        let drops = snapshot.dropsReport(all).drops.map { drop in
            let text = Phrase.ending("dropped", nil, drop.droppedBetween, nil, drop.decidedBy)
            let key = "drop \(text)"
            return Entry(
                path: drop.paths.first ?? "", packets: drop.packets, rate: rate(key, drop.packets),
                label: drop.decidedBy?.isReject == true ? "rejected" : "dropped", text: text, isDrop: true)
        }
        let paths = snapshot.pathsReport(all).paths.map { path in
            let way = path.steps.map(\.netns).reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } }
            return Entry(
                path: path.id, packets: path.packets, rate: rate(path.id, path.packets), label: path.outcome,
                text: "\(path.title)  \(way.joined(separator: " → "))", isDrop: false)
        }
        let last = entries.indices.contains(chosen) ? entries[chosen].path : nil
        let lastIsDrop = entries.indices.contains(chosen) && entries[chosen].isDrop
        entries = drops + paths
        // The chosen entry stays chosen when the order of the entries changes.
        if let last, let place = entries.firstIndex(where: { $0.path == last && $0.isDrop == lastIsDrop }) { chosen = place }
        chosen = max(0, min(chosen, entries.count - 1))
        if isNew { before = (snapshot.generatedAt, packets) }
    }

    private static let mostEntries = 200

    // MARK: Output

    /// The lines to show, at most `rows`, none wider than `columns`.
    public func lines(columns: Int, rows: Int, _ style: Style = .plain) -> [TerminalText] {
        let columns = max(20, columns)
        let rows = max(5, rows)
        var lines = [line(head, columns, style.bold)]
        if let snapshot, let doubt = Phrase.doubts(snapshot.completeness) { lines.append(line(doubt, columns, style.notable)) }
        let foot = footer(columns, style)
        let room = rows - lines.count - 1
        switch mode {
        case .opened(let path): lines += opened(path, columns, room, style)
        case .list, .typing: lines += list(columns, room, style)
        }
        while lines.count < rows - 1 { lines.append("") }
        return lines.prefix(rows - 1) + [foot]
    }

    private var head: String {
        guard let snapshot else { return "\(title): waiting for the first snapshot" }
        let completeness = snapshot.completeness
        var parts = [title]
        if isPaused { parts.append("PAUSED") }
        parts.append(eventRate.map { "\(Self.short($0)) events/s" } ?? Phrase.count(completeness.events, "event"))
        parts.append(Phrase.count(completeness.journeys - completeness.own, "packet"))
        parts.append(completeness.lost == 0 ? "nothing lost" : "\(completeness.lost) events LOST")
        if let cost {
            parts.append("takes \(Int((cost.processorShare * 100).rounded())) % of a processor, \(cost.memory >> 20) MiB")
        }
        if !filterText.isEmpty { parts.append("only \(filterText)") }
        return parts.joined(separator: " · ")
    }

    private func footer(_ columns: Int, _ style: Style) -> TerminalText {
        if let problem { return line(problem, columns, style.bad) }
        return switch mode {
        case .typing(let text):
            line(
                "filter: \(text)_  (10.0.0.5 :443 tcp dropped netns=host; enter takes it, escape leaves it)", columns,
                style.bold)
        case .opened: line("↑↓ scroll · escape back · p pause · q leave", columns, style.dim)
        case .list: line("↑↓ choose · enter open · / filter · p \(isPaused ? "go on" : "pause") · q leave", columns, style.dim)
        }
    }

    private func list(_ columns: Int, _ room: Int, _ style: Style) -> [TerminalText] {
        guard snapshot != nil else { return [] }
        guard !entries.isEmpty else {
            return [
                "",
                line(
                    filterText.isEmpty
                        ? "No packet has ended its journey yet. Probes in place? ipt-trace probes"
                        : "No packet is like that. Escape takes the filter away.",
                    columns, style.dim),
            ]
        }
        var lines: [(text: TerminalText, entry: Int?)] = []
        for (index, entry) in entries.enumerated() {
            if index == 0 || entry.isDrop != entries[index - 1].isDrop {
                lines.append(("", nil))
                lines.append((line(entry.isDrop ? "Drops" : "Paths", columns, style.bold), nil))
            }
            lines.append((row(entry, isChosen: index == chosen, columns, style), index))
        }
        // The list scrolls so that the chosen entry is visible.
        let place = lines.firstIndex { $0.entry == chosen } ?? 0
        let first = max(0, min(place - room / 2, lines.count - room))
        return lines.dropFirst(first).prefix(room).map(\.text)
    }

    private func row(_ entry: Entry, isChosen: Bool, _ columns: Int, _ style: Style) -> TerminalText {
        let rate = entry.rate.map { "\(Self.short($0))/s" } ?? ""
        let text =
            "\(isChosen ? ">" : " ") \(Self.right("\(entry.packets)", 9)) \(Self.right(rate, 8))  \(Self.left(entry.label, 10)) \(entry.text)"
        return line(text, columns) { whole in
            if isChosen { return style.bold(whole) }
            return entry.isDrop || entry.label == "dropped" ? style.bad(whole) : whole
        }
    }

    private func opened(_ path: String, _ columns: Int, _ room: Int, _ style: Style) -> [TerminalText] {
        guard let snapshot, let report = snapshot.pathReport(id: path) else {
            return ["", line("This path is not kept any more.", columns, style.dim)]
        }
        var lines: [String] = [""] + report.text(number: 1).map(\.description)
        if let nearest = report.decidedBy?.nearest?.first { lines += ["", "   nearest: \(nearest.text)"] }
        for finding in snapshot.findings where finding.paths.contains(where: { snapshot.pathID($0) == path }) {
            lines += ["", "   \(finding.title)", "   \(finding.reason)"]
            for cure in finding.cures { lines += ["   what would mend it: \(cure.command)", "     \(cure.reason)"] }
        }
        let wrapped = lines.flatMap { Self.wrap($0, columns) }
        let first = min(scroll, max(0, wrapped.count - room))
        return wrapped.dropFirst(first).prefix(room).map { line($0, columns) { $0 } }
    }

    // MARK: Words

    /// One line, cut at the edge.
    private func line(_ text: String, _ columns: Int, _ dress: (TerminalText) -> TerminalText) -> TerminalText {
        let shown = text.printable
        return dress(TerminalText(escaping: shown.count > columns ? "\(shown.prefix(columns - 1))…" : shown))
    }

    /// `1.2k`, `340`, `0.5`.
    private static func short(_ number: Double) -> String {
        switch number {
        case 999_500...: "\((number / 100_000).rounded() / 10)M"
        case 9_950...: "\(Int((number / 1000).rounded()))k"
        case 995...: "\((number / 100).rounded() / 10)k"
        case 9.95...: "\(Int(number.rounded()))"
        case 0.05...: "\((number * 10).rounded() / 10)"
        default: "0"
        }
    }

    private static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// Broken at blanks, with the indentation of its first line.
    private static func wrap(_ text: String, _ columns: Int) -> [String] {
        guard text.count > columns else { return [text] }
        let indentation = String(text.prefix { $0 == " " })
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > columns {
                lines.append(line)
                line = ""
            }
            line += (line.isEmpty ? indentation : " ") + word
        }
        return lines + [line]
    }
}
