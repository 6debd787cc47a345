/// Why events that were received are in no file of a recording.
public enum RecordingDrop: String, CaseIterable, Sendable {
    /// They came faster than they could be written.
    case queueFull = "queue_full"
    /// No room on the disk, or a quota.
    case noSpace = "no_space"
    /// A file could not be opened or written for another reason.
    case writeFailed = "write_failed"
    /// `RecordingLimits.total` was reached.
    case limit
    /// Their file was deleted or cut short by somebody else.
    case fileRemoved = "file_removed"
}

/// Whether a recorder writes.
public enum RecordingState: String, CaseIterable, Sendable {
    case recording
    /// It will go on in a new file as soon as one can be written.
    case suspended
    /// It will not go on.
    case ended
}

/// What happens to a recording that whoever made it wants to know at once.
public enum RecordingChange: Sendable, Equatable {
    case suspended(CaptureError)
    case resumed(file: String, missing: UInt64)
    /// Events are left out because the file is not written as fast as they come.
    case behind(file: String)
    case caughtUp(leftOut: UInt64)
    /// A write has not returned for seconds: a hung disk, or a FIFO that nobody reads.
    case stuck(file: String, milliseconds: Int64)
    /// The file was deleted or cut short by somebody else, with so many events.
    case removed(file: String, events: UInt64, next: String)
    /// The file was renamed, or has been replaced by another.
    case moved(file: String, next: String)
    case limitReached(file: String)
    /// A FIFO or a device cannot be written any more.
    case ended(CaptureError)

    /// Whether events are missing from now on, or were lost.
    public var isTrouble: Bool {
        switch self {
        case .resumed, .caughtUp, .moved: false
        case .suspended, .behind, .stuck, .removed, .limitReached, .ended: true
        }
    }
}

extension RecordingChange: CustomStringConvertible {
    public var description: String {
        switch self {
        case .suspended(let error) where error.isNoSpace:
            "recording is suspended: \(error). Events are left out of it until there is room, then it goes on in a new file"
        case .suspended(let error):
            "recording is suspended: \(error). Events are left out of it until a new file can be written, which is tried again"
        case .resumed(let file, let missing): "recording goes on in \(file); \(missing) events before it are missing"
        case .behind(let file):
            "the disk does not keep up: events are left out of \(file), and counted. A shorter --snap-length, --match or "
                + "--sample of install-probes make them fewer"
        case .stuck(let file, let milliseconds):
            "a write to \(file) has not returned for \(Double(milliseconds) / 1000) s: the disk hangs, or nobody reads the FIFO. "
                + "Events that do not fit into the queue are left out of it, and counted"
        case .caughtUp(let leftOut): "the disk keeps up again; \(leftOut) events were left out of the recording"
        case .removed(let file, let events, let next):
            "\(file) was deleted or cut short, and \(events) recorded events with it; recording goes on in "
                + (next == file ? "a new file there" : next)
        case .moved(let file, let next):
            "\(file) was renamed or replaced; recording goes on in " + (next == file ? "a new file there" : next)
        case .limitReached(let file): "\(file) has reached its limit (--record-limit); what comes later is not in it"
        case .ended(let error): "recording has ended: \(error)"
        }
    }
}
