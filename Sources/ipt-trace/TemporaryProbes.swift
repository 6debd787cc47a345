import EventSources
import Foundation
import LinuxSupport
import Reports
import Ruleset

/// Probes for as long as something runs. They go however that ends; even when this process is killed, a helper takes them out.
enum TemporaryProbes {
    /// - Parameters:
    ///   - sentinels: whether chains of our own nft table are added at the ends of hooks.
    ///   - lifetime: seconds after which the kernel ends them, should even the helper be killed.
    static func with<Result>(
        in namespaces: [NetworkNamespace], sentinels: Bool, lifetime: Int64,
        _ body: (ProbeInstaller.Plan, _ group: UInt16, StopSignal) async throws -> Result
    ) async throws -> Result {
        // Far from the groups that others are known to use.
        let group = UInt16.random(in: 20_000...60_000)
        let options = ProbeOptions(
            includesSentinels: sentinels, target: .nflog, group: group,
            expires: Int64(Date().timeIntervalSince1970) + lifetime)
        return try await with(options, in: namespaces) { plan, stop in try await body(plan, group, stop) }
    }

    static func with<Result>(
        _ options: ProbeOptions, in namespaces: [NetworkNamespace],
        _ body: (ProbeInstaller.Plan, StopSignal) async throws -> Result
    ) async throws -> Result {
        // Before a probe is in that nobody would listen to.
        try DescriptorLimit.require(
            namespaces.count * NamespaceDirectory.perNamespace + Collector.reserve,
            to: "trace in \(namespaces.count) namespace\(namespaces.count == 1 ? "" : "s")")
        AbandonedSettings.putBack()
        let installer = try await ProbeInstaller()
        let stop = StopSignal()
        let (plan, guardian) = try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
            let plan = try await installer.plan(options, in: namespaces, purpose: .trace)
            InstallProbes.noteLeftOut(plan)
            let guardian = try Guardian()
            do {
                try guardian.watch(plan.run)
                _ = try await installer.install(plan, purpose: .trace)
            } catch {
                guardian.dismiss()
                throw error
            }
            return (plan, guardian)
        }
        let result: Result
        do {
            result = try await body(plan, stop)
        } catch {
            try await remove(plan, guardian)
            throw error
        }
        try await remove(plan, guardian)
        return result
    }

    private static func remove(_ plan: ProbeInstaller.Plan, _ guardian: Guardian) async throws {
        let reports = try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
            try await ProbeRemover().remove(from: plan.places.map(\.namespace), .only([plan.run]))
        }
        Terminal.note("\(reports.reduce(0) { $0 + $1.removed }) probes taken out")
        guardian.dismiss()
    }
}
