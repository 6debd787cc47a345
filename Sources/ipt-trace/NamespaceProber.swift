import Foundation
import LinuxSupport
import Logging
import Ruleset
import Synchronization

/// Puts probes into namespaces that appear while a collector runs, and takes them out at its end.
final class NamespaceProber: Sendable {
    private let work: Task<Void, Never>
    private let queue: AsyncStream<NetworkNamespace>.Continuation
    private let end = End()

    private final class End: Sendable {
        let isNear = Atomic(false)
    }

    /// - Parameters:
    ///   - group: the NFLOG group that the collector listens to.
    ///   - lifetime: seconds that the collector is going to run; `nil` where that is not known.
    ///
    /// - Throws: where there is no iptables.
    init(group: UInt16, lifetime: Int64?, logger: Logger) async throws {
        let installer = try await ProbeInstaller()
        let guardian = try Guardian()
        let (namespaces, queue) = AsyncStream<NetworkNamespace>.makeStream()
        self.queue = queue
        // One after another: each waits for the lock of the rules. Not cancelled at the end, since taking out has to go on.
        work = Task { [end] in
            let probes = AppearedProbes(
                installer: installer, guardian: guardian, group: group, lifetime: lifetime ?? 30 * 86_400, logger: logger)
            for await namespace in namespaces where !end.isNear.load(ordering: .relaxed) { await probes.put(into: namespace) }
            await probes.remove()
        }
    }

    func take(_ namespace: NetworkNamespace) { queue.yield(namespace) }

    /// Takes all probes out that were put in. Namespaces that still wait get none.
    func finish() async {
        end.isNear.store(true, ordering: .relaxed)
        queue.finish()
        await work.value
    }
}

/// The probes of namespaces that have appeared: a run for each namespace.
private final class AppearedProbes {
    private let installer: ProbeInstaller
    private let guardian: Guardian
    private let group: UInt16
    /// Seconds.
    private let lifetime: Int64
    private let logger: Logger
    /// By run, the inode of its namespace: to hold the namespace itself would keep it alive when its container has ended.
    private var places: [String: UInt64] = [:]

    init(installer: ProbeInstaller, guardian: Guardian, group: UInt16, lifetime: Int64, logger: Logger) {
        self.installer = installer
        self.guardian = guardian
        self.group = group
        self.lifetime = lifetime
        self.logger = logger
    }

    func put(into namespace: NetworkNamespace) async {
        let options = ProbeOptions(
            target: .nflog, group: group, expires: Int64(Date().timeIntervalSince1970) + lifetime + 60)
        do {
            let plan = try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
                let plan = try await installer.plan(options, in: [namespace], purpose: .trace)
                try guardian.watch(plan.run)
                _ = try await installer.install(plan, purpose: .trace)
                return plan
            }
            places[plan.run] = namespace.inode
            logger.info("\(plan.probeCount) probes put into namespace \(namespace.name)")
        } catch {
            return logger.warning("namespace \(namespace.name) gets no probes: \(error)")
        }
        do {
            try await forgetGone()
        } catch {
            logger.warning("records of probes whose namespaces are gone stay until this ends: \(error)")
        }
    }

    /// The records of probes go whose namespace is gone, on disk and here.
    private func forgetGone() async throws {
        let runs = Set(places.keys)
        _ = try await ProbeLock.whileHeld { try await ProbeRemover().remove(from: [], .only(runs)) }
        let recorded = Set(ProbeJournal.readAll().map(\.run))
        places = places.filter { recorded.contains($0.key) }
    }

    func remove() async {
        do {
            if !places.isEmpty {
                let inodes = Set(places.values)
                let runs = Set(places.keys)
                let reports = try await ProbeLock.whileHeld(onWait: Terminal.noteLockIsHeld) {
                    let present = try NamespaceDirectory.list().filter { inodes.contains($0.inode) }.map { try $0.open() }
                    return try await ProbeRemover().remove(from: present, .only(runs))
                }
                let removed = reports.reduce(0) { $0 + $1.removed }
                logger.info("\(removed) probes taken out of namespaces that had appeared")
            }
            guardian.dismiss()
        } catch {
            // The guardian tries once more when this process is gone.
            logger.error("\(error)")
        }
    }
}
