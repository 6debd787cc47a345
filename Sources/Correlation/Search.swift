/// The roles in which a leg is looked for.
package enum Search: UInt8 {
    /// Legs that an event may continue: by namespace, fingerprint and source, which nothing within a namespace rewrites but
    /// translation at its end.
    case place
    /// Legs that an event behind the source translation of INPUT or POSTROUTING may continue: by namespace, fingerprint and
    /// destination.
    case translated
    /// What may have come from a namespace that is told of later: by fingerprint and all addresses, or by fingerprint and
    /// destination, which nothing between two namespaces rewrites.
    case arrival
    /// What may be on its way to another namespace: the same, as it will arrive as far as that is known.
    case departure
}
