private import Foundation
package import TraceModel

/// The kernel's counters of drops, as recordings hold them.
extension RecordedNote {
    /// - Parameter risen: by how much a namespace's have risen since it began to be followed.
    /// - Returns: `nil` where none has.
    package static func counters(_ risen: DropCounters, of namespace: Int) throws -> RecordedNote? {
        guard risen != DropCounters() else { return nil }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return .counters(namespace: namespace, json: Array(try encoder.encode(risen)))
    }
}

extension DropCounters {
    /// - Throws: where it is damaged.
    package init(json: [UInt8]) throws { self = try JSONDecoder().decode(Self.self, from: Data(json)) }
}
