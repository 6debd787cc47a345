import Aggregation
import ArgumentParser
import CureTrials
import Diagnosis
import EventSources
import Foundation
import LinuxSupport
import Reports
import Ruleset
import Synchronization
import TraceModel

struct WhyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Answer why packets to a destination do not get through: where they end, by which rule, what would mend it.",
        discussion: """
            Waits for such a packet, or sends one with --send; follows it and its answer through all namespaces, address \
            translation and rules, and prints one answer. Probes and rule traces go when this ends, whatever ends it.

              sudo ipt-trace why 8.8.8.8:443/tcp                     # waits: make the attempt that fails
              sudo ipt-trace why 8.8.8.8:443/tcp --from guest --send # makes it, from inside that namespace
              sudo ipt-trace why db.example:5432 --source 10.0.0.5
              sudo ipt-trace why '[2001:db8::1]:53/udp' --send --json

            Without a port ICMP is meant, with a port and no protocol TCP. It ends with 0 if the packet gets through and an \
            answer comes back, with 2 if not, with 3 if no such packet was seen.
            """)

    @Argument(help: ArgumentHelp("HOST[:PORT][/PROTO]: a name, an address, [v6]:port.", valueName: "destination"))
    var destination: Destination

    @Option(
        help: ArgumentHelp("The namespace in which the packets begin. Default: any; with --send, host.", valueName: "namespace")
    )
    var from: String?

    @Option(help: ArgumentHelp("The address that the packets come from.", valueName: "address"))
    var source: String?

    @Flag(help: "Send a packet from inside --from: a TCP connection, a datagram, or an echo request.")
    var send = false

    @Option(help: ArgumentHelp("How long to wait for such a packet: 30s, 5m.", valueName: "time"))
    var wait = Lifetime(seconds: 60)

    @OptionGroup var namespaces: NamespaceOption
    @OptionGroup var color: ColorOption

    @Flag(help: "Print the answer as one object of JSON.")
    var json = false

    @OptionGroup var log: LogOptions

    /// How long an answer that may yet become better is waited for: a retransmission comes after a second.
    private static let patience = Duration.seconds(3)
    /// How long to wait where the rule is known by its number and its text is still being read.
    private static let readingPatience = Duration.seconds(12)
    private static let mostPackets: UInt16 = 8

    func validate() throws {
        if let source, IPAddress(source) == nil { throw ValidationError("--source takes an address, such as 10.0.0.5.") }
        if send, let transport = destination.transport, transport != TransportProtocol.tcp, transport != TransportProtocol.udp {
            throw ValidationError("--send sends TCP, UDP and ICMP; for others leave it out and make the attempt yourself.")
        }
        if send, destination.transport != nil, destination.port == nil {
            throw ValidationError("--send needs a port: \(destination.host):443/tcp.")
        }
    }

    func run() async throws {
        let question = try question()
        let sender = try send ? NamespaceDirectory.resolve([try NamespaceSelector(from ?? "host")]).first : nil
        let begin = try from.map { try NamespaceDirectory.resolve([try NamespaceSelector($0)]) }?.first
        var chosen = try namespaces.resolve()
        for place in [sender, begin].compactMap(\.self) where !chosen.contains(where: { $0.inode == place.inode }) {
            chosen.append(place)
        }
        var known = question
        known.netns = begin.flatMap { begin in chosen.first { $0.inode == begin.inode }?.name }
        var answer = try await TemporaryProbes.with(
            in: chosen, sentinels: await Tool.isInstalled("nft"), lifetime: (wait.seconds ?? 60) + 60
        ) { plan, group, stop in
            try await ask(known, from: sender, of: plan, group: group, stop: stop)
        }
        // The probes are out by now: cures are for the rules without them.
        await tryCures(of: &answer, in: chosen)
        if json {
            Terminal.print(try ReportJSON.text(answer))
        } else {
            Terminal.print(answer.text(Style(isColored: color.isOn)))
        }
        switch answer.outcome {
        case .answered: return
        case .notSeen: throw ExitCode(ExitStatus.nothingSeen)
        case .incomplete: throw ExitCode(ExitStatus.failed)
        case .dropped, .refused, .unanswered, .notSendable: throw ExitCode(ExitStatus.checkFailed)
        }
    }

    private func question() throws -> WhyQuestion {
        let source = source.flatMap { IPAddress($0) }
        let addresses: [IPAddress]
        do {
            addresses = try HostName.addresses(of: destination.host)
        } catch {
            throw CommandFailure(message: "\(error)")
        }
        guard let address = addresses.first(where: { source == nil || $0.family == source?.family }) else {
            throw CommandFailure(
                message: "\(destination.host) has no address of the family of --source", code: ExitStatus.usage)
        }
        if addresses.count > 1 { Terminal.note("\(destination.host) is \(address) here, one of \(addresses.count) addresses") }
        return WhyQuestion(
            destination: address, port: destination.port, transport: destination.transport(to: address), source: source)
    }

    private func ask(
        _ question: WhyQuestion, from sender: NetworkNamespace?, of plan: ProbeInstaller.Plan, group: UInt16, stop: StopSignal
    ) async throws -> WhyAnswer {
        let selection = Mutex(JourneySelection(try filter(question)))
        var options = Collector.Options(selectors: [], group: group, followsDropReasons: true, ruleTracing: .afterDrops)
        let far = PacketTuple(
            source: question.destination, destination: question.destination, sourcePort: question.port ?? 0,
            destinationPort: question.port ?? 0, transport: question.transport)
        options.traced = [TracedTraffic(likeness: .destination, tuple: far), TracedTraffic(likeness: .answer, tuple: far)]
        options.isWanted = { journey in selection.withLock { $0.takes(journey) } }
        let collector = try await Collector(options, in: plan.places.map(\.namespace), logger: Log.logger)
        defer { _ = collector.stop() }
        var question = question
        var packet: TestPacket?
        if let sender {
            do {
                let one = try TestPacket(
                    to: question.destination, port: question.port ?? 0, transport: question.transport,
                    source: question.source, in: sender)
                question.sourcePort = one.sourcePort
                packet = one
                try one.send(sequence: 1)
            } catch let failure as SocketFailure {
                return WhyAnswer(
                    .notSendable,
                    remark: "\(destination.text) cannot be sent to from \(sender.name): \(failure.description)"
                        + (await route(to: question, in: sender)))
            }
        } else {
            Terminal.note(
                "waiting for \(destination.text)\(from.map { " from \($0)" } ?? ""): make the attempt now, or use --send; Ctrl-C ends it"
            )
        }
        let watching = Task { await watch(collector, question, packet) }
        let stopping = Task {
            await stop.wait(seconds: sender == nil ? Double(wait.seconds ?? 60) : 15)
            watching.cancel()
        }
        let answer = await awaitRoutes(watching.value, collector, question)
        stopping.cancel()
        stop.trigger()
        return answer
    }

    /// Looks again and again, until there is an answer that waiting does not change.
    private func watch(_ collector: Collector, _ question: WhyQuestion, _ packet: TestPacket?) async -> WhyAnswer {
        var first: ContinuousClock.Instant?
        var sent: (count: UInt16, time: ContinuousClock.Instant) = (1, .now)
        var last: WhyAnswer?
        var error: SocketFailure?
        while !Task.isCancelled {
            if let snapshot = await collector.snapshot(.all), var answer = snapshot.answer(to: question) {
                error = error ?? packet?.takeError()
                if let error { answer.note(error) }
                last = answer
                if answer.isSettled { return answer }
                let since = first ?? .now
                first = since
                let patience = answer.decidedBy?.isRule != true ? Self.patience : Self.readingPatience
                if since.duration(to: .now) > patience { return answer }
            }
            // A trace may have been armed only by the packet that was dropped; an answer may have been lost.
            if let packet, sent.time.duration(to: .now) > .seconds(1), sent.count < Self.mostPackets {
                sent = (sent.count + 1, .now)
                try? packet.send(sequence: sent.count)
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return last ?? WhyAnswer(.notSeen, remark: "No packet to \(destination.text) was seen.")
    }

    private func tryCures(of answer: inout WhyAnswer, in places: [NetworkNamespace]) async {
        guard answer.outcome == .dropped, !answer.cures.isEmpty else { return }
        let patience = Task {
            try await Task.sleep(for: .seconds(1))
            Terminal.note("trying what would mend it on a copy of the rules")
        }
        for index in answer.cures.indices {
            let cure = answer.cures[index]
            guard let place = places.first(where: { $0.name == cure.netns }) else { continue }
            answer.cures[index].trial = await CureTrial.run(cure, answer.trialPlan, in: place)
        }
        patience.cancel()
    }

    private func filter(_ question: WhyQuestion) throws -> TraceFilter {
        var filter = TraceFilter()
        try filter.add(.address, "\(question.destination)")
        try filter.add(.proto, "\(question.transport)")
        if let port = question.port { try filter.add(.port, "\(port)") }
        return filter
    }

    /// Waits for how the packets were routed: the kernel is asked once their ways are known.
    private func awaitRoutes(_ answer: WhyAnswer, _ collector: Collector, _ question: WhyQuestion) async -> WhyAnswer {
        var answer = answer
        for _ in 0..<20 where !answer.isRoutingKnown {
            try? await Task.sleep(for: .milliseconds(50))
            guard let snapshot = await collector.snapshot(.all), var newer = snapshot.answer(to: question) else { break }
            guard newer.outcome == answer.outcome || answer.outcome == .refused else { break }
            newer.outcome = answer.outcome
            newer.remark = answer.remark ?? newer.remark
            answer = newer
        }
        return answer
    }

    /// The kernel's route, where it can be asked for.
    private func route(to question: WhyQuestion, in namespace: NetworkNamespace) async -> String {
        var words = ["route", "get", "fibmatch", "\(question.destination)"]
        if let source = question.source { words += ["from", "\(source)"] }
        guard let output = try? await Tool.run("ip", words, in: namespace) else { return "" }
        let text = output.isSuccess ? output.standardOutput : output.standardError
        let line = text.split(separator: "\n").first.map(String.init) ?? ""
        return line.isEmpty ? "" : " (ip route get: \(line))"
    }
}

extension WhyAnswer {
    /// Takes in the error of the sender's socket.
    fileprivate mutating func note(_ error: SocketFailure) {
        remark = error.description
        // An ICMP message that nobody listens belongs to no connection of its own.
        if error.isRefusal, outcome == .unanswered { outcome = .refused }
    }
}
