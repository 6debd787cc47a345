/// The number of an element in a `Slab`, by what the element is, so that no number of one slab is used in another.
protocol SlabIndex: BitwiseCopyable, Hashable, Sendable {
    /// Negative where there is no element.
    var number: Int32 { get }
    init(number: Int32)
}

extension SlabIndex {
    /// No element.
    static var none: Self {
        @inline(__always) get { Self(number: -1) }
    }

    /// Whether it is an element's.
    var exists: Bool {
        @inline(__always) get { number >= 0 }
    }
}

extension Int32: SlabIndex {
    @inline(__always) var number: Int32 { self }
    @inline(__always) init(number: Int32) { self = number }
}

/// A `LiveLeg` of a `LiveStore`.
struct LegIndex: SlabIndex {
    let number: Int32
    @inline(__always) init(number: Int32) { self.number = number }
}

/// A `LiveJourney` of a `LiveStore`.
struct JourneyIndex: SlabIndex {
    let number: Int32
    @inline(__always) init(number: Int32) { self.number = number }
}

/// A link of `CollisionLists`.
struct LinkIndex: SlabIndex {
    let number: Int32
    @inline(__always) init(number: Int32) { self.number = number }
}

/// Addresses of a leg, as a `LiveStore` keeps them.
struct AddressesIndex: SlabIndex {
    let number: Int32
    @inline(__always) init(number: Int32) { self.number = number }
}
