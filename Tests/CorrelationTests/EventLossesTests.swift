import Correlation
import Testing

@Suite struct EventLossesTests {
    @Test("a loss concerns its namespace, from the position and the time that it has")
    func ofOneNamespace() {
        var losses = EventLosses()
        losses.reserve(namespaces: 2)
        losses.note(namespace: 1, now: 100, until: .min, before: 7)
        #expect(losses.hasAny(in: 1, sinceEvent: 6))
        #expect(!losses.hasAny(in: 1, sinceEvent: 7))
        #expect(losses.hasAny(in: 1, since: 100))
        #expect(!losses.hasAny(in: 1, since: 101))
        #expect(!losses.hasAny(in: 0, sinceEvent: 0))
        #expect(!losses.hasAny(in: 0, since: 0))
        #expect(losses.latest == 100)
    }

    @Test("a loss that ends later lasts until then, and an earlier one does not shorten it")
    func lasting() {
        var losses = EventLosses()
        losses.reserve(namespaces: 1)
        losses.note(namespace: 0, now: 100, until: 500, before: 1)
        losses.note(namespace: 0, now: 200, until: .min, before: 2)
        #expect(losses.hasAny(in: 0, since: 500))
        #expect(!losses.hasAny(in: 0, since: 501))
    }

    @Test("more namespaces change nothing of those before; one without room is ignored")
    func room() {
        var losses = EventLosses()
        losses.reserve(namespaces: 1)
        losses.note(namespace: 0, now: 100, until: .min, before: 3)
        losses.note(namespace: 1, now: 300, until: .min, before: 9)
        losses.note(namespace: -1, now: 300, until: .min, before: 9)
        #expect(losses.latest == 100)
        losses.reserve(namespaces: 3)
        losses.reserve(namespaces: 2)
        #expect(losses.hasAny(in: 0, since: 100))
        #expect(!losses.hasAny(in: 2, since: 0))
    }
}
