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
}
