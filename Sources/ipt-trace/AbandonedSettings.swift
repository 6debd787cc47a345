import LinuxSupport
import Logging
import Reports
import Ruleset

/// Settings that an ipt-trace changed for a while and, being killed, did not put back.
enum AbandonedSettings {
    /// Puts them back and says so; what cannot be put back is named, and keeps nothing else from being done.
    static func putBack() {
        do {
            for sentence in try ChangedSetting.putBackAbandoned() { Terminal.note("\(sentence)") }
        } catch {
            Log.logger.warning("settings that an ipt-trace which was killed has changed are not put back: \(error)")
        }
    }
}
