import Engine
import Testing

@Suite struct ConfirmedTimeTests {
    @Test func aMomentIsConfirmedByALaterOneThatIsFarEnough() {
        var confirmed = ConfirmedTime(delay: 50)
        #expect(confirmed.note(drained: 1000) < 0)
        #expect(confirmed.note(drained: 1049) < 0)
        #expect(confirmed.note(drained: 1050) == 1000)
        #expect(confirmed.note(drained: 1099) == 1000)
        #expect(confirmed.note(drained: 1100) == 1050)
    }

    /// The machine stood still from 1000 to 1600: events gathered at 1000 are delivered after 1600, not before.
    @Test func aClockThatJumpsConfirmsOnlyWhatLiesBeforeTheJump() {
        var confirmed = ConfirmedTime(delay: 50)
        _ = confirmed.note(drained: 990)
        #expect(confirmed.note(drained: 1600) == 990)
        #expect(confirmed.note(drained: 1649) == 990)
        #expect(confirmed.note(drained: 1650) == 1600)
    }
}
