extension [UInt8] {
    /// The bytes, for parsing in place, for as long as the array is lent.
    ///
    /// `Span.bytes` counts as unsafe, since the padding of a type in general may be uninitialized; `UInt8` has none. Returning
    /// a span needs the compiler's experimental feature `Lifetimes`, which `Package.swift` switches on for this module alone.
    @inlinable
    package var octets: RawSpan {
        @_lifetime(borrow self)
        get { unsafe span.bytes }
    }
}
