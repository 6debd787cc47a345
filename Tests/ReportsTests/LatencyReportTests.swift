import Aggregation
import Reports
import Testing
import TraceModel

@Suite struct LatencyReportTests {
    /// A packet from the guest through the host, whose chains there were stamped at the given times; `nil` for no stamp.
    private func snapshot(_ packets: [(guest: [Int64?], host: [Int64?])]) -> TraceSnapshot {
        var scene = Scene()
        var records: [JourneyRecord] = []
        for packet in packets {
            let legs = [
                scene.leg(0, ["raw/PREROUTING", "filter/FORWARD"], request),
                scene.leg(1, ["raw/PREROUTING", "filter/INPUT"], request),
            ]
            scene.add(legs, .delivered)
            var record = scene.snapshot.journeys[records.count]
            record.details = [packet.guest, packet.host].map { stamps in
                stamps.map { stamp in
                    StepDetail(
                        time: stamp ?? 1, isStamped: stamp != nil, tuple: request, timeToLive: 64, mark: 0)
                }
            }
            records.append(record)
        }
        var snapshot = scene.snapshot
        snapshot.journeys = records
        return snapshot
    }

    private func report(_ packets: [(guest: [Int64?], host: [Int64?])]) -> LatencyReport {
        LatencyReport(snapshot(packets), TraceFilter())
    }

    @Test("quantiles are times that so many packets did not exceed")
    func quantiles() throws {
        let report = report((1...100).map { ([1000, 1000 + $0], [2000 + 10 * $0, 9000]) })
        let transit = try #require(report.transits.first)
        #expect(report.transits.count == 1 && transit.netns == "guest" && transit.next == "host")
        #expect(transit.figures.measured == 100 && transit.figures.unknown == 0)
        #expect([transit.figures.p50Us, transit.figures.p90Us, transit.figures.p99Us] == [1500, 1900, 1990])
        let hop = try #require(report.hops.first { $0.netns == "guest" })
        #expect(hop.from == "raw/PREROUTING" && hop.to == "filter/FORWARD")
        #expect([hop.figures.p50Us, hop.figures.p90Us, hop.figures.p99Us] == [50, 90, 99])
    }

    @Test("equal stamps, missing stamps and stamps in the wrong order are unknown, not 0 µs")
    func unknown() throws {
        let report = report([([1000, 1000], [1000, 1000]), ([nil, nil], [5000, nil]), ([4000, 3000], [3500, 3400])])
        #expect(report.transits.map(\.figures) == [LatencyReport.Figures(measured: 0, unknown: 3)])
        #expect(report.hops.allSatisfy { $0.figures.measured == 0 && $0.figures.unknown == 3 && $0.figures.p50Us == nil })
        #expect("\(report.text(.plain))".contains("unknown: the kernel stamps no packet"))
    }

    @Test("a journey whose first events are no longer kept says nothing")
    func shortened() {
        let report = report([([1000], [2000, 2010])])
        #expect(report.transits.isEmpty)
        #expect(report.hops.map(\.netns) == ["host"])
    }
}
