package import TraceModel

/// What events need to know of interfaces, found without a dictionary.
package struct InterfaceTable: Sendable {
    package struct Interface: Sendable {
        /// Whether the layout has it.
        var isKnown = false
        /// 0: not known.
        package var linkDomain: UInt32 = 0
        var mtu: UInt32 = 0
        var isLoopback = false
        var isTunnel = false
        /// Reaches beyond the namespaces being traced.
        var isOpen = false
        /// A packet can come from or go to a namespace being traced: one beside its own, or its own again on loopback. One
        /// that is not known may lead anywhere.
        var hasOtherEnd = true
    }

    private struct Slot {
        var namespace: UInt32 = 0
        /// 0 in an empty slot.
        var number: UInt32 = 0
        var interface = Interface()
    }

    /// Open addressing; at most half of the slots are taken.
    private var slots: [Slot]

    /// - Parameter joined: link domains with two ends.
    package init(_ layout: Layout, joined: Set<UInt32>) {
        let count = layout.namespaces.reduce(0) { $0 + $1.interfaces.count }
        var capacity = 16
        while capacity < count * 2 { capacity *= 2 }
        slots = [Slot](repeating: Slot(), count: capacity)
        for (namespace, known) in layout.namespaces.enumerated() {
            for (number, interface) in known.interfaces where number != 0 {
                var slot = slot(namespace, number)
                while slots[slot].number != 0 { slot = (slot + 1) & (slots.count - 1) }
                slots[slot] = Slot(
                    namespace: UInt32(truncatingIfNeeded: namespace), number: number,
                    interface: Interface(
                        isKnown: true, linkDomain: interface.linkDomain, mtu: interface.mtu, isLoopback: interface.name == "lo",
                        isTunnel: interface.isTunnel, isOpen: layout.openLinkDomains.contains(interface.linkDomain),
                        hasOtherEnd: interface.linkDomain == 0 || joined.contains(interface.linkDomain)))
            }
        }
    }

    /// The interface of this number; one that is not known has link domain 0.
    @inline(__always)
    package subscript(namespace: Int, number: UInt32) -> Interface {
        var slot = slot(namespace, number)
        while slots[slot].number != 0 {
            if slots[slot].number == number, slots[slot].namespace == UInt32(truncatingIfNeeded: namespace) {
                return slots[slot].interface
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return Interface()
    }

    /// Slots that are looked at before the interface that is found last.
    package var longestSearch: Int {
        slots.indices.filter { slots[$0].number != 0 }.map { index in
            (index - slot(Int(slots[index].namespace), slots[index].number)) & (slots.count - 1)
        }.max() ?? 0
    }

    @inline(__always)
    private func slot(_ namespace: Int, _ number: UInt32) -> Int {
        let key = UInt64(truncatingIfNeeded: namespace) << 32 | UInt64(number)
        return Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & (slots.count - 1)
    }
}
