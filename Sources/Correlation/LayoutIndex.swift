internal import TraceModel

/// A layout as the correlator looks things up in it; made once for each.
package struct LayoutIndex {
    let layout: Layout
    var expectedProbes: ExpectedProbes
    /// By the numbers of probes.
    let places: [ProbePlace]
    /// Whether packets may carry others here.
    let hasTunnels: Bool
    /// For each probe behind a jump to a user-defined chain, the probe at that chain's head; none where there is none.
    private let jumpTargets: [UInt32: UInt32]
    /// Namespaces whose rules or interfaces could not be read.
    private let unread: Set<Int>

    init(_ layout: Layout) {
        self.layout = layout
        let expectedProbes = ExpectedProbes(layout)
        self.expectedProbes = expectedProbes
        unread = Set(layout.namespaces.indices.filter { layout.namespaces[$0].unread != nil })
        hasTunnels = layout.namespaces.contains { $0.interfaces.values.contains(where: \.isTunnel) }
        struct End: Hashable {
            var namespace: Int
            var hook: Hook
        }
        // Where a probe stands behind a hook's source translation.
        let behind = Set(
            layout.probes.filter {
                $0.priority > HookPriority.sourceTranslation && ($0.hook == .input || $0.hook == .postrouting)
            }
            .map { End(namespace: $0.namespace, hook: $0.hook) })
        places = layout.probes.enumerated().map { index, probe in
            ProbePlace(
                namespace: UInt16(truncatingIfNeeded: probe.namespace), priority: Int16(truncatingIfNeeded: probe.priority),
                condition: expectedProbes.conditionBits[index], hook: probe.hook, backend: probe.backend,
                isPassedOnce: probe.isInBaseChain && probe.coverage != .some && probe.coverage != .everyRule,
                isNAT: probe.table == .nat,
                isLastOnTheWayOut: expectedProbes.isLastOnTheWayOut(probe.hook, probe.namespace, probe.family),
                leadsBehindTranslation: behind.contains(End(namespace: probe.namespace, hook: probe.hook)),
                mayReportNoStep: probe.coverage == .everyRule || probe.backFrom != nil)
        }
        jumpTargets = layout.jumpTargets
    }

    /// The probe at the head of the chain that `probe` stands behind a jump to; `nil` where there is none.
    func head(behind probe: UInt32) -> UInt32? { jumpTargets[probe] }

    @inline(__always)
    func isUnread(_ namespace: Int) -> Bool { !unread.isEmpty && unread.contains(namespace) }

    /// Whether all namespaces could be read, and are followed.
    var isWhole: Bool { unread.isEmpty && layout.unfollowedLinkDomains.isEmpty }

    @inline(__always)
    func interface(_ number: UInt32, in namespace: UInt16) -> InterfaceTable.Interface {
        expectedProbes.interfaces[Int(namespace), number]
    }

    /// The link domain that an interface is on; `nil` where it has none to cross, 0 where that is not known.
    @inline(__always)
    func linkDomain(_ interface: UInt32, in namespace: UInt16) -> UInt32? {
        interface == 0 ? nil : self.interface(interface, in: namespace).linkDomain
    }

    /// The link domain that a leg left by.
    @inline(__always)
    func departureDomain(_ leg: LiveLeg) -> UInt32? { linkDomain(leg.outInterface, in: leg.namespace) }

    /// The link domain that a leg arrived by.
    @inline(__always)
    func arrivalDomain(_ leg: LiveLeg) -> UInt32? { linkDomain(leg.inInterface, in: leg.namespace) }
}
