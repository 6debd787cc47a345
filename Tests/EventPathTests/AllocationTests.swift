import Aggregation
import Allocations
import Correlation
import EventPath
import Reports
import Testing

@Suite struct AllocationTests {
    @Test func anAllocationIsCounted() {
        let before = allocations_of_this_thread()
        var arrays: [[Int]] = []
        for number in 0..<100 { arrays.append([Int](repeating: number, count: 100)) }
        let counted = allocations_of_this_thread() - before
        #expect(arrays.map(\.count).reduce(0, +) == 10_000)
        #expect(counted >= 100)
    }

    @Test("nothing is allocated for an event or a journey once everything has grown", arguments: [1, 1000])
    func steadyState(flows: Int) {
        var size = Traffic.Size()
        size.flows = flows
        size.translatedFlows = flows - 1
        var traffic = Traffic(size)
        var path = Path(traffic, Correlator.Limits())
        var first = 0
        path.run(&traffic, &first, rounds: 200)
        path.forgetCost()
        path.run(&traffic, &first, rounds: 360)
        #expect(path.cost.events == 360 * 500 * 11)
        #expect(path.cost.journeys > 170_000)
        #expect(path.cost.allocations == 0)
        path.finish()
        let paths = path.sink.aggregate.paths
        #expect(paths.count == 1 && paths.counts(0).packets == UInt64(first))
    }
}
