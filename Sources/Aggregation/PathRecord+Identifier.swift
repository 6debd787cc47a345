package import TraceModel

extension PathRecord {
    /// 64-bit FNV-1a hash of the path's steps and outcome by name: equal in every run.
    package func identifier(in context: TraceContext) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ text: String) {
            for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
            hash = (hash ^ 0xFF) &* 0x100_0000_01B3
        }
        let layout = context.layout
        for stepPath in stepPaths {
            for step in context.stepTrie.steps(of: stepPath) {
                let probe = layout.probes[Int(step.probe)]
                add(layout.namespaces[probe.namespace].name)
                add(probe.family.name)
                add(probe.table.name)
                add(probe.chain)
                add(probe.hook.name)
                if let other = probe.backFrom { add(other) }
                if let decision = probe.decision { add("\(decision.text ?? "policy") \(decision.place.handle ?? 0)") }
                add(layout.interfaceName(step.inInterface, namespace: probe.namespace) ?? "")
                add(layout.interfaceName(step.outInterface, namespace: probe.namespace) ?? "")
            }
            add("/")
        }
        if channel(in: context) == .kernelLog { add(EventChannel.kernelLog.rawValue) }
        if let namespace = decision?.rule?.namespace { add(layout.namespaces[namespace].name) }
        if let place = decision?.rule?.place {
            add("\(place.tableFamily) \(place.table) \(place.chain) \(place.handle.map { "\($0)" } ?? "policy")")
            // A number of iptables-legacy is another rule's as soon as one is put before it.
            if let number = place.number { add("\(number) \(decision?.rule?.text ?? "")") }
        }
        if let invalidity = decision?.rule?.invalidity { add(invalidity) }
        if let kernel = decision?.kernel { add("\(kernel.reason) \(kernel.function) \(kernel.route?.rawValue ?? "")") }
        add(outcome.name)
        add(incompleteReason.map { "\($0)" } ?? "none")
        return hash
    }

    /// How the path's packets were reported.
    package func channel(in context: TraceContext) -> EventChannel {
        let first = stepPaths.first.flatMap { context.stepTrie.steps(of: $0).first }
        return first.map { context.layout.namespaces[context.layout.probes[Int($0.probe)].namespace].channel } ?? .nflog
    }
}
