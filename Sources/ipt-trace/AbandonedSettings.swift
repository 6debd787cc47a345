import EventSources
import LinuxSupport
import Logging
import Reports
import Ruleset

/// What an ipt-trace changed for a while and, being killed, did not put back: settings, and instances of the kernel's tracing.
enum AbandonedSettings {
    /// Puts them back and says so; what cannot be put back is named, and keeps nothing else from being done.
    static func putBack() {
        for name in TraceInstance.removeAbandoned() {
            Terminal.note("removed \(name) from the kernel's tracing, which an ipt-trace that was killed had left")
        }
        do {
            for sentence in try ChangedSetting.putBackAbandoned() { Terminal.note("\(sentence)") }
        } catch {
            Log.logger.warning("settings that an ipt-trace which was killed has changed are not put back: \(error)")
        }
    }
}
