package import TraceModel

/// Sees what becomes of each message of a capture, so that the correlation can be judged by who knows better.
package protocol AnalysisObserver: AnyObject {
    /// Asked before a message is read: false leaves it out, as if it had been lost before it was received.
    ///
    /// - Parameters:
    ///   - message: where in `bytes` it is: `struct nfgenmsg` and attributes.
    ///   - namespace: its name.
    func accepts(_ bytes: RawSpan, _ message: Range<Int>, namespace: String) -> Bool
    /// The message has become part of `leg` (`JourneyLeg.firstEvent`); `UInt64.max` for one that is in no journey.
    func placed(_ bytes: RawSpan, _ message: Range<Int>, leg: UInt64)
    func ended(_ journey: Journey)
}
