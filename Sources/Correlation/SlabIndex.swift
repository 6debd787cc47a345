/// The number of an element in a `Slab`, by what the element is, so that no number of one slab is used in another.
package protocol SlabIndex: BitwiseCopyable, Hashable, Sendable {
    /// Negative where there is no element.
    var number: Int32 { get }
    init(number: Int32)
}

extension SlabIndex {
    /// No element.
    package static var none: Self {
        @inline(__always) get { Self(number: -1) }
    }

    /// Whether it is an element's.
    package var exists: Bool {
        @inline(__always) get { number >= 0 }
    }
}

extension Int32: SlabIndex {
    @inline(__always) package var number: Int32 { self }
    @inline(__always) package init(number: Int32) { self = number }
}

/// A `LiveLeg` of a `LiveStore`.
package struct LegIndex: SlabIndex {
    package let number: Int32
    @inline(__always) package init(number: Int32) { self.number = number }
}

/// A `LiveJourney` of a `LiveStore`.
package struct JourneyIndex: SlabIndex {
    package let number: Int32
    @inline(__always) package init(number: Int32) { self.number = number }
}

/// A link of `CollisionLists`.
package struct LinkIndex: SlabIndex {
    package let number: Int32
    @inline(__always) package init(number: Int32) { self.number = number }
}

/// Addresses of a leg, as a `LiveStore` keeps them.
package struct AddressesIndex: SlabIndex {
    package let number: Int32
    @inline(__always) package init(number: Int32) { self.number = number }
}
