private import Aggregation
internal import Captures
internal import TraceModel

/// How a recording's file begins and ends. Those of earlier versions do not say, and of them nothing is concluded.
struct RecordedSection {
    /// The file's name, for people.
    let name: String
    let isFollowed: Bool
    /// Names the recording.
    var run: UInt64 = 0
    /// The part of the recording that has begun and has not said that it ends.
    private var part: RecordingContinuity.Part?
    /// Up to when it has said that it has everything.
    private var complete: Int64?

    init(name: String, isFollowed: Bool) {
        self.name = name
        self.isFollowed = isFollowed
    }

    mutating func take(_ note: RecordedNote, places: [Int?], _ state: inout AnalysisState) {
        switch note {
        case .begin(let number, let time, let gap):
            close(places: places, &state)
            let part = RecordingContinuity.Part(run: run, number: number)
            self.part = part
            state.noteBeginning(of: part, at: time, hasGap: gap != nil, places: places)
            guard let gap else { return }
            state.problems.add(
                "\(name): \(gap.events) events are missing before its beginning, received "
                    + (gap.since > 0 ? "from \(Timestamp.text(gap.since)) " : "")
                    + "up to \(Timestamp.text(time)): their file could not be written, or was removed")
        case .end(let end, let time, let leftOut):
            state.noteEnd(
                of: part ?? RecordingContinuity.Part(run: run, number: 0), places: places,
                isBroken: end == .limit || end == .failed)
            part = nil
            switch end {
            case .closed where leftOut > 0, .limit where leftOut > 0, .failed where leftOut > 0:
                state.noteLeftOut()
                state.problems.add(
                    "\(name): \(leftOut) events were left out of the recording, because writing did not keep up")
            default: break
            }
            switch end {
            case .closed, .continued: break
            case .limit:
                state.problems.add(
                    "\(name): recording ended at \(Timestamp.text(time)), at its limit (--record-limit); \(Self.open)")
            case .failed:
                state.problems.add(
                    "\(name): recording was suspended at \(Timestamp.text(time)), because the file could not be written; \(Self.open)"
                )
            }
        case .complete(let time): complete = time
        case .connection, .loss, .drop, .kernelDrop, .kernelDropsMissing, .route, .routesChanged, .walk, .rule, .counters: break
        }
    }

    /// Ends the section; one without an end note was cut off.
    mutating func close(places: [Int?], _ state: inout AnalysisState) {
        guard let part else { return }
        self.part = nil
        state.noteEnd(of: part, places: places, isBroken: true)
        guard !isFollowed else { return }
        let known =
            complete.map { "Everything received before \(Timestamp.text($0)) is in it" } ?? "It does not say how much is in it"
        state.problems.add(
            "\(name): the recording has no end: it is still being written, or was cut off (its collector killed, the machine "
                + "stopped). \(known); \(Self.open)")
    }

    private static let open = "how packets went on that were under way then is not known"
}
