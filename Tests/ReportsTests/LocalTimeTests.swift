import Foundation
import Reports
import Testing

@Suite struct LocalTimeTests {
    @Test(
        "the time of day in the reader's zone, with the zone; what is no time stays as it is",
        arguments: [
            ("2026-01-31T12:00:00.000001Z", 0, "12:00:00.000001Z"), ("2026-01-31T23:30:00.5Z", 3600, "00:30:00.5+01:00"),
            ("2026-01-31T00:10:59.123456Z", -12_600, "20:40:59.123456-03:30"), ("yesterday", 3600, "yesterday"), ("Z", 0, "Z"),
            ("1969-12-31T23:59:59.999999Z", -3600, "22:59:59.999999-01:00"),
        ])
    func text(_ time: String, _ seconds: Int, _ expected: String) throws {
        let zone = try #require(TimeZone(secondsFromGMT: seconds))
        #expect(LocalTime.text(time, zone: zone) == expected)
    }
}
