internal import WireFormat

/// The shapes that NFLOG's messages have: which attributes stand where, and what of them does not change.
///
/// The kernel writes a message's attributes in a fixed order (`__build_packet_message` in nfnetlink_log.c), so that what one
/// rule reports of packet after packet differs in some values and nothing else. A message of a known shape is recognised by one
/// comparison of its first hundred bytes, in which those values are masked out, and read without a walk through attributes.
///
/// Bounded by `mostShapes`, and by `mostOfOne` of one label; messages of further shapes are read the long way.
struct MessageTemplates: Sendable {
    private static let mostShapes = 1 << 16
    private static let mostOfOne = 16
    /// Bytes before the packet at most: the longest prefix, 128, and all attributes that come before it.
    private static let longestHead = 512

    private struct Shape {
        /// The caller's label for such messages.
        var label: UInt32
        /// Of `words` and `masks`: the beginning of the message, up to the packet.
        var firstWord: Int32
        var wordCount: Int32
        /// Bytes before the packet, which follows its attribute's header.
        var head: Int32
        // Where values stand, from the message's body on; 0 for an attribute that is not there.
        var mark: Int32 = 0
        var timestamp: Int32 = 0
        var inDevice: Int32 = 0
        var outDevice: Int32 = 0
        var sequence: Int32 = 0
        var globalSequence: Int32 = 0
        var family: UInt8
        var hook: UInt8
        /// Another one with the same label; -1 for none.
        var sibling: Int32 = -1
    }

    private var shapes: [Shape] = []
    private var words: [UInt64] = []
    private var masks: [UInt64] = []
    /// By label; -1 for none.
    private var firstByLabel: [Int32] = []

    init() {}

    /// Reads a message whose shape is the expected one.
    ///
    /// - Parameters:
    ///   - body: of a message of type `NFLogMessage.packetType`, from `struct nfgenmsg` on.
    ///   - sequence: of its source.
    /// - Returns: the message, without its prefix, which the label stands for; and the label of its shape; `nil` for any other,
    ///   which is to be read the long way.
    @inline(__always)
    func readExpected(
        _ bytes: RawSpan, body: Range<Int>, _ sequence: inout NFLogSequence
    ) -> (message: NFLogMessage, label: UInt32)? {
        let expected = sequence.expected
        guard expected >= 0, isShape(Int(expected), bytes, body) else { return nil }
        sequence.latest = expected
        return (message(Int(expected), bytes, body), shapes[Int(expected)].label)
    }

    /// A message has been read the long way: what comes like it is recognised from now on.
    mutating func learn(_ label: UInt32, _ bytes: RawSpan, body: Range<Int>, _ sequence: inout NFLogSequence) {
        var last: Int32 = -1
        var count = 0
        while firstByLabel.count <= Int(label) { firstByLabel.append(-1) }
        var shape = firstByLabel[Int(label)]
        while shape >= 0 {
            if isShape(Int(shape), bytes, body) { return sequence.follow(shape) }
            last = shape
            count += 1
            shape = shapes[Int(shape)].sibling
        }
        guard shapes.count < Self.mostShapes, count < Self.mostOfOne, let made = makeShape(label, bytes, body) else {
            return sequence.follow(-1)
        }
        let index = Int32(shapes.count)
        shapes.append(made)
        if last >= 0 { shapes[Int(last)].sibling = index } else { firstByLabel[Int(label)] = index }
        sequence.follow(index)
    }

    @inline(__always)
    private func isShape(_ index: Int, _ bytes: RawSpan, _ body: Range<Int>) -> Bool {
        let head = Int(shapes[index].head)
        guard body.count >= head else { return false }
        // The packet's attribute is the last one, and only padding is behind it.
        let packet = body.count &- head
        let length = Int(bytes.native16(body.lowerBound &+ head &- 4)) &- 4
        guard length >= 0, length == packet || (length &+ 3) & ~3 == packet else { return false }
        let first = Int(shapes[index].firstWord)
        let range = first..<first &+ Int(shapes[index].wordCount)
        return bytes.isEqual(
            at: body.lowerBound, length: head, to: words.span.extracting(range), where: masks.span.extracting(range))
    }

    @inline(__always)
    private func message(_ index: Int, _ bytes: RawSpan, _ body: Range<Int>) -> NFLogMessage {
        let start = body.lowerBound
        @inline(__always)
        func number(_ offset: Int32) -> UInt32 { offset == 0 ? 0 : bytes.big32(start &+ Int(offset)) }
        var message = NFLogMessage()
        message.family = shapes[index].family
        message.hook = shapes[index].hook
        message.mark = number(shapes[index].mark)
        message.inInterface = number(shapes[index].inDevice)
        message.outInterface = number(shapes[index].outDevice)
        message.sequence = number(shapes[index].sequence)
        message.globalSequence = number(shapes[index].globalSequence)
        message.hasSequence = shapes[index].sequence != 0
        let timestamp = Int(shapes[index].timestamp)
        if timestamp != 0 { message.timestamp = NFLogMessage.timestamp(bytes, start &+ timestamp) }
        let head = Int(shapes[index].head)
        let length = Int(bytes.native16(start &+ head &- 4)) &- 4
        message.payload = start &+ head..<start &+ head &+ length
        return message
    }

    /// The shape of a message; `nil` for one that ends otherwise than with the packet.
    private mutating func makeShape(_ label: UInt32, _ bytes: RawSpan, _ body: Range<Int>) -> Shape? {
        let start = body.lowerBound
        guard body.count >= 4 else { return nil }
        var shape = Shape(
            label: label, firstWord: Int32(words.count), wordCount: 0, head: 0, family: bytes.byte(start), hook: 0)
        var isFixed = [Bool](repeating: true, count: 4)
        var offset = start + 4
        while shape.head == 0 {
            guard let attribute = try? NetlinkAttribute.next(in: bytes, at: &offset, end: body.upperBound) else { return nil }
            let value = Int32(attribute.value.lowerBound - start)
            isFixed += [Bool](repeating: true, count: 4)
            if attribute.type == NFLogMessage.Attribute.payload {
                // Its length is not fixed, and is looked at by itself.
                isFixed.replaceSubrange(isFixed.count - 4..<isFixed.count - 2, with: [false, false])
                shape.head = value
                break
            }
            var isKept = [Bool](repeating: false, count: offset - start - Int(value))
            switch attribute.type {
            case NFLogMessage.Attribute.packetHeader where attribute.value.count >= 3:
                shape.hook = bytes.byte(start + Int(value) + 2)
                isKept[2] = true
            case NFLogMessage.Attribute.prefix:
                for index in 0..<attribute.value.count { isKept[index] = true }
            case NFLogMessage.Attribute.mark where attribute.value.count >= 4: shape.mark = value
            case NFLogMessage.Attribute.timestamp where attribute.value.count >= 16: shape.timestamp = value
            case NFLogMessage.Attribute.inDevice where attribute.value.count >= 4: shape.inDevice = value
            case NFLogMessage.Attribute.outDevice where attribute.value.count >= 4: shape.outDevice = value
            case NFLogMessage.Attribute.sequence where attribute.value.count >= 4: shape.sequence = value
            case NFLogMessage.Attribute.globalSequence where attribute.value.count >= 4: shape.globalSequence = value
            default: break
            }
            isFixed += isKept
        }
        guard isFixed.count == Int(shape.head), isFixed.count <= Self.longestHead, isFixed.count >= 8 else { return nil }
        var places = Array(stride(from: 0, through: isFixed.count - 8, by: 8))
        if isFixed.count % 8 != 0 { places.append(isFixed.count - 8) }
        for place in places {
            var mask: UInt64 = 0
            for index in 0..<8 where isFixed[place + index] { mask |= 0xFF << UInt64(index * 8) }
            masks.append(mask)
            words.append(bytes.little64(start + place) & mask)
        }
        shape.wordCount = Int32(places.count)
        return shape
    }
}

/// Which shape came behind which one last in the messages of one source: it is tried first, since packets take the same chains in the
/// same order.
struct NFLogSequence: Sendable {
    /// The shape of the last message; -1 for none that is known.
    fileprivate var latest: Int32 = -1
    /// By shape; -1 for none.
    private var successors: [Int32] = []

    init() {}

    @inline(__always)
    fileprivate var expected: Int32 {
        Int(latest) < successors.count && latest >= 0 ? successors[Int(latest)] : -1
    }

    fileprivate mutating func follow(_ shape: Int32) {
        if latest >= 0, shape >= 0 {
            while successors.count <= Int(latest) { successors.append(-1) }
            successors[Int(latest)] = shape
        }
        latest = shape
    }
}
