private import Glibc

extension RawSpan {
    /// Throws unless `count` bytes can be read at `offset`.
    @inlinable @inline(__always)
    package func check(_ count: Int, at offset: Int) throws(ParseError) {
        // As unsigned numbers, negative ones are too large.
        let available = byteCount &- offset
        guard UInt(bitPattern: offset) <= UInt(bitPattern: byteCount), UInt(bitPattern: count) <= UInt(bitPattern: available)
        else { throw .truncated(offset: offset, needed: count, available: Swift.max(0, available)) }
    }

    /// Big-endian (network order) integers. The caller has `check`ed the range; a wrong offset traps.
    @inlinable @inline(__always)
    package func byte(_ offset: Int) -> UInt8 { loadChecked(offset, as: UInt8.self) }

    @inlinable @inline(__always)
    package func big16(_ offset: Int) -> UInt16 { UInt16(bigEndian: loadChecked(offset, as: UInt16.self)) }

    @inlinable @inline(__always)
    package func big32(_ offset: Int) -> UInt32 { UInt32(bigEndian: loadChecked(offset, as: UInt32.self)) }

    @inlinable @inline(__always)
    package func big64(_ offset: Int) -> UInt64 { UInt64(bigEndian: loadChecked(offset, as: UInt64.self)) }

    /// Integers in the machine's own order, as netlink headers have them.
    @inlinable @inline(__always)
    package func native16(_ offset: Int) -> UInt16 { loadChecked(offset, as: UInt16.self) }

    @inlinable @inline(__always)
    package func native32(_ offset: Int) -> UInt32 { loadChecked(offset, as: UInt32.self) }

    /// Two neighbours, read at once.
    @inlinable @inline(__always)
    package func pair16(_ offset: Int) -> (first: UInt16, second: UInt16) {
        let word = native32(offset)
        let low = UInt16(truncatingIfNeeded: word)
        let high = UInt16(truncatingIfNeeded: word >> 16)
        #if _endian(little)
            return (low, high)
        #else
            return (high, low)
        #endif
    }

    /// Little-endian, for hashing: the same on every machine.
    @inlinable @inline(__always)
    package func little64(_ offset: Int) -> UInt64 { UInt64(littleEndian: loadChecked(offset, as: UInt64.self)) }

    @inlinable @inline(__always)
    package func little32(_ offset: Int) -> UInt32 { UInt32(littleEndian: loadChecked(offset, as: UInt32.self)) }

    // Integers have no invalid bit patterns, and the load itself checks the bounds.
    @inlinable @inline(__always)
    func loadChecked<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: T.Type) -> T {
        unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
    }

    /// Whether `count` bytes are the same as those of `other`; `false` where either has fewer.
    package func isEqual(at offset: Int, to other: RawSpan, at otherOffset: Int, count: Int) -> Bool {
        guard has(count, at: offset), other.has(count, at: otherOffset) else { return false }
        return unsafe withUnsafeBytes { one in
            unsafe other.withUnsafeBytes { two in
                guard let one = one.baseAddress, let two = two.baseAddress else { return count == 0 }
                return unsafe memcmp(one + offset, two + otherOffset, count) == 0
            }
        }
    }

    /// Whether the bytes from `offset` on are those of `words` where `masks` has ones; `false` where there are fewer. As many
    /// bytes count as `length` says: the last word ends there, and may begin within the one before it.
    @inlinable @inline(__always)
    package func isEqual(at offset: Int, length: Int, to words: Span<UInt64>, where masks: Span<UInt64>) -> Bool {
        let count = words.count
        guard count > 0, count == masks.count, length >= 8, (count &- 1) &* 8 < length, count &* 8 >= length,
            has(length, at: offset)
        else { return false }
        return unsafe withUnsafeBytes { bytes in
            unsafe words.withUnsafeBufferPointer { words in
                unsafe masks.withUnsafeBufferPointer { masks in
                    guard let base = bytes.baseAddress, let word = words.baseAddress, let mask = masks.baseAddress else {
                        return false
                    }
                    let start = unsafe base + offset
                    let last = count &- 1
                    var difference: UInt64 = 0
                    for index in 0..<last {
                        let value = unsafe start.loadUnaligned(fromByteOffset: index &* 8, as: UInt64.self)
                        unsafe difference |= (UInt64(littleEndian: value) ^ word[index]) & mask[index]
                    }
                    let value = unsafe start.loadUnaligned(fromByteOffset: length &- 8, as: UInt64.self)
                    unsafe difference |= (UInt64(littleEndian: value) ^ word[last]) & mask[last]
                    return difference == 0
                }
            }
        }
    }

    /// Whether there are `count` bytes at `offset`.
    @inlinable @inline(__always)
    package func has(_ count: Int, at offset: Int) -> Bool {
        offset >= 0 && offset <= byteCount && count >= 0 && count <= byteCount &- offset
    }

    /// Copies `range` into `array`, which has room for it from `place` on.
    package func copy(_ range: Range<Int>, to array: inout [UInt8], at place: Int) {
        guard place >= 0, range.count <= array.count - place, range.upperBound <= byteCount else { return }
        unsafe withUnsafeBytes { source in
            unsafe array.withUnsafeMutableBytes { target in
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[place..<place + range.count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[range]))
            }
        }
    }
}
