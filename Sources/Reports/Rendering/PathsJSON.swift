private import Foundation

extension PathsReport {
    /// The same bytes as `ReportJSON.encode` gives, many times sooner: with hundreds of paths of dozens of steps an encoder that
    /// makes a dictionary of each object takes longer than a reader should wait.
    public func json() throws -> [UInt8] {
        var text = JSONText()
        text.bytes.reserveCapacity(4096 + paths.reduce(0) { $0 + 1024 + $1.steps.count * 208 })
        text.raw("{\"completeness\":")
        try text.encoded(completeness)
        text.raw(",\"generated_at\":")
        text.string(generatedAt)
        text.raw(",\"paths\":[")
        for (index, path) in paths.enumerated() {
            if index > 0 { text.raw(",") }
            try path.write(to: &text)
        }
        text.raw("],\"schema\":")
        text.raw(String(schema))
        text.raw(",\"since\":")
        text.string(since)
        text.raw(",\"unplaced\":")
        try text.encoded(unplaced)
        text.raw("}")
        return text.bytes
    }
}

extension PathReport {
    fileprivate func write(to text: inout JSONText) throws {
        text.raw("{\"ambiguous\":")
        text.raw(String(ambiguous))
        text.raw(",\"bytes\":")
        text.raw(String(bytes))
        if let decidedBy {
            text.raw(",\"decided_by\":")
            try text.encoded(decidedBy)
        }
        text.raw(",\"direction\":")
        text.string(direction)
        text.raw(",\"dropped_between\":")
        if let droppedBetween { try text.encoded(droppedBetween) } else { text.raw("null") }
        text.raw(",\"example\":")
        try example.write(to: &text)
        text.raw(",\"first_seen\":")
        text.string(firstSeen)
        text.raw(",\"id\":")
        text.string(id)
        text.raw(",\"last_seen\":")
        text.string(lastSeen)
        text.raw(",\"medium\":")
        text.string(medium)
        text.raw(",\"outcome\":")
        text.string(outcome)
        text.raw(",\"packets\":")
        text.raw(String(packets))
        text.raw(",\"protocols\":{")
        for (index, count) in protocols.sorted(by: { $0.key < $1.key }).enumerated() {
            if index > 0 { text.raw(",") }
            text.string(count.key)
            text.raw(":")
            text.raw(String(count.value))
        }
        text.raw("},\"reason\":")
        text.string(reason)
        if let routing {
            text.raw(",\"routing\":")
            if routing.isEmpty { text.raw("[]") } else { try text.encoded(routing) }
        }
        text.raw(",\"steps\":[")
        for (index, step) in steps.enumerated() {
            if index > 0 { text.raw(",") }
            step.write(to: &text)
        }
        text.raw("],\"translations\":")
        if translations.isEmpty { text.raw("[]") } else { try text.encoded(translations) }
        text.raw("}")
    }
}

extension PathReport.Example {
    fileprivate func write(to text: inout JSONText) throws {
        guard carries == nil, carriedBy == nil else { return try text.encoded(self) }
        text.raw("{\"destination\":")
        text.string(destination)
        if let destinationPort {
            text.raw(",\"destination_port\":")
            text.raw(String(destinationPort))
        }
        text.raw(",\"journey\":")
        text.string(journey)
        if let message {
            text.raw(",\"message\":")
            text.string(message)
        }
        text.raw(",\"protocol\":")
        text.string(self.protocol)
        text.raw(",\"source\":")
        text.string(source)
        if let sourcePort {
            text.raw(",\"source_port\":")
            text.raw(String(sourcePort))
        }
        if let tcpFlags {
            text.raw(",\"tcp_flags\":")
            text.string(tcpFlags)
        }
        text.raw("}")
    }
}

extension StepReport {
    fileprivate func write(to text: inout JSONText) {
        text.raw("{")
        if let backFrom {
            text.raw("\"back_from\":")
            text.string(backFrom)
            text.raw(",")
        }
        text.raw("\"backend\":")
        text.string(backend)
        text.raw(",\"chain\":")
        text.string(chain)
        text.raw(",\"family\":")
        text.string(family)
        text.raw(",\"hook\":")
        text.string(hook)
        text.raw(",\"in\":")
        text.string(self.in)
        text.raw(",\"netns\":")
        text.string(netns)
        text.raw(",\"out\":")
        text.string(out)
        text.raw(",\"priority\":")
        text.raw(String(priority))
        text.raw(",\"table\":")
        text.string(table)
        text.raw(",\"table_family\":")
        text.string(tableFamily)
        text.raw("}")
    }
}

/// Puts JSON together.
private struct JSONText {
    var bytes: [UInt8] = []

    mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

    mutating func string(_ text: String?) {
        guard let text else { return raw("null") }
        bytes.append(UInt8(ascii: "\""))
        // Names of chains and interfaces; what may have to be escaped is left to the encoder.
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            bytes.append(contentsOf: text.utf8)
        } else if let quoted = try? ReportJSON.encode([text]) {
            bytes.append(contentsOf: quoted.dropFirst(2).dropLast(2))
        }
        bytes.append(UInt8(ascii: "\""))
    }

    mutating func encoded(_ value: some Encodable) throws { bytes.append(contentsOf: try ReportJSON.encode(value)) }
}
