private import WireFormat
package import Correlation
package import LinuxSupport

/// Gets each datagram of events that is received.
package protocol DatagramTap: AnyObject {
    /// - Parameters:
    ///   - bytes: lent for the call.
    ///   - time: when it was received, in microseconds since 1970.
    ///   - tags: of its messages, as `NFLogReader.read` has them.
    func add(_ bytes: RawSpan, namespace: Int, time: Int64, tags: [UInt64])
}

extension DatagramReceiver where Self: ~Copyable {
    /// Receives the waiting NFLOG messages of a namespace, in large batches.
    ///
    /// - Parameters:
    ///   - reader: the namespace's.
    ///   - now: microseconds since 1970.
    ///   - buffer: for one datagram.
    ///   - recording: gets each datagram, too.
    /// - Returns: whether nothing is left; false where there is more than one turn takes.
    package func drain(
        into reader: inout NFLogReader, with templates: inout TemplateRegistry, of namespace: Int, now: Int64,
        _ buffer: inout [UInt8], _ correlator: inout Correlator, recording: (any DatagramTap)? = nil
    ) -> Bool {
        // Some 13,000 events and milliseconds: whoever wants a snapshot waits for the end of a turn.
        for _ in 0..<32 {
            switch receive(into: &buffer) {
            case .nothing: return true
            // An overflow shows as a gap in the sequence numbers, and is counted there.
            case .failed:
                correlator.noteLoss(namespace: namespace)
                return true
            case .bytes(let count):
                // Bytes have no padding, which is what makes a span's bytes unsafe in general.
                let bytes = buffer.octets.extracting(0..<count)
                if let recording {
                    // Room for as many messages as so many bytes mostly are.
                    var empty: [UInt64] = []
                    empty.reserveCapacity(count / 256)
                    var tags: [UInt64]? = empty
                    reader.read(bytes, with: &templates, now: now, into: &correlator, tags: &tags)
                    recording.add(bytes, namespace: namespace, time: now, tags: tags ?? [])
                } else {
                    reader.read(bytes, with: &templates, now: now, into: &correlator)
                }
            }
        }
        return false
    }
}
