internal import WireFormat

/// Writes pcapng (draft-ietf-opsawg-pcapng) into memory, in this machine's byte order.
package struct CaptureWriter: Sendable {
    package private(set) var bytes: [UInt8] = []
    /// The options of a packet with the latest comment, since packets of one path follow one another.
    private var options: [UInt8] = []
    private var optionsNumber: UInt64 = 0

    package init() {}

    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    /// Section Header Block; the section's length is left open.
    package mutating func section(application: String) {
        block(CaptureFormat.sectionHeader) { writer in
            writer.put32(CaptureFormat.byteOrderMagic)
            writer.put16(1)
            writer.put16(0)
            writer.put64(.max)
            writer.option(4, Array(application.utf8))  // shb_userappl
            writer.endOfOptions()
        }
    }

    /// Interface Description Block for NFLOG messages, with times in microseconds.
    package mutating func interface(name: String, description: String) {
        block(CaptureFormat.interfaceDescription) { writer in
            writer.put16(CaptureInterface.nflog)
            writer.put16(0)
            writer.put32(0)
            writer.option(2, Array(name.utf8))  // if_name
            writer.option(3, Array(description.utf8))  // if_description
            writer.option(9, [6])  // if_tsresol: 10^-6
            writer.endOfOptions()
        }
    }

    /// Enhanced Packet Block.
    ///
    /// - Parameters:
    ///   - time: microseconds since 1970.
    ///   - comment: ASCII; the same prefix each time.
    package mutating func packet(
        interface: UInt32, time: Int64, _ source: RawSpan, _ range: Range<Int>, comment: (prefix: StaticString, number: UInt64)?
    ) {
        if let comment, comment.number != optionsNumber || options.isEmpty { setOptions(comment.prefix, comment.number) }
        let padding = -range.count & 3
        let length = UInt32(32 + range.count + padding + (comment == nil ? 0 : options.count))
        let ticks = UInt64(bitPattern: time)
        // As few pieces as there can be: appending one costs more than its bytes do.
        let head = (
            CaptureFormat.enhancedPacket, length, interface, UInt32(truncatingIfNeeded: ticks >> 32),
            UInt32(truncatingIfNeeded: ticks), UInt32(range.count), UInt32(range.count)
        )
        unsafe withUnsafeBytes(of: head) { unsafe bytes.append(contentsOf: $0) }
        append(source, range)
        if padding > 0 { pad() }
        if comment != nil { bytes += options }
        put32(length)
    }

    /// opt_comment: the text, and 16 hexadecimal digits.
    private mutating func setOptions(_ prefix: StaticString, _ number: UInt64) {
        var part = CaptureWriter()
        part.put16(1)
        part.put16(UInt16(prefix.utf8CodeUnitCount + 16))
        prefix.withUTF8Buffer { unsafe part.bytes.append(contentsOf: $0) }
        for shift in stride(from: 60, through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: number >> UInt64(shift) & 15)
            part.bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
        part.pad()
        part.endOfOptions()
        options = part.bytes
        optionsNumber = number
    }

    /// A block of ipt-trace's own (`TraceBlock`).
    package mutating func layout(json: [UInt8]) { trace(1, json) }
    package mutating func note(_ note: RecordedNote) { trace(2, note.bytes) }

    private mutating func trace(_ kind: UInt32, _ content: [UInt8]) {
        block(CaptureFormat.traceBlock) { writer in
            // Little-endian whatever the section's order is.
            writer.put32(TraceBlock.mark.littleEndian)
            let start = writer.bytes.count
            writer.put32(kind.littleEndian)
            writer.put32(UInt32(content.count).littleEndian)
            writer.bytes += content
            let checksum = TraceBlock.checksum(writer.bytes.octets, start..<writer.bytes.count)
            writer.pad()
            writer.put32(checksum.littleEndian)
        }
    }

    // MARK: Parts

    private mutating func block(_ type: UInt32, _ body: (inout CaptureWriter) -> Void) {
        let start = begin(type)
        body(&self)
        end(start)
    }

    private mutating func begin(_ type: UInt32) -> Int {
        let start = bytes.count
        put32(type)
        put32(0)
        return start
    }

    private mutating func end(_ start: Int) {
        let length = UInt32(bytes.count + 4 - start)
        put32(length)
        for index in 0..<4 { bytes[start + 4 + index] = bytes[bytes.count - 4 + index] }
    }

    private mutating func option(_ code: UInt16, _ value: [UInt8]) {
        // An option's length has 16 bits.
        let value = value.prefix(Int(UInt16.max))
        put16(code)
        put16(UInt16(value.count))
        bytes += value
        pad()
    }

    private mutating func endOfOptions() { put32(0) }

    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }

    private mutating func append(_ source: RawSpan, _ range: Range<Int>) {
        let part = source.extracting(range)
        unsafe part.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }

    private mutating func put16(_ value: UInt16) {
        unsafe withUnsafeBytes(of: value) { unsafe bytes.append(contentsOf: $0) }
    }
    private mutating func put32(_ value: UInt32) {
        unsafe withUnsafeBytes(of: value) { unsafe bytes.append(contentsOf: $0) }
    }
    private mutating func put64(_ value: UInt64) {
        unsafe withUnsafeBytes(of: value) { unsafe bytes.append(contentsOf: $0) }
    }
}
