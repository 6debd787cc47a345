package import Foundation

/// Times of day as the reader's clock shows them.
package enum LocalTime {
    /// `13:16:34.248846+01:00`; `12:16:34.248846Z` where the zone is UTC.
    ///
    /// - Parameters:
    ///   - text: RFC 3339 in UTC with microseconds, as reports have it; other text is left as it is.
    ///   - zone: the one of `TZ` or /etc/localtime.
    package static func text(_ text: String, zone: TimeZone = .current) -> String {
        guard text.hasSuffix("Z"), text.utf8.count > 20, let moment = try? Date("\(text.prefix(19))Z", strategy: .iso8601)
        else {
            return text
        }
        let offset = zone.secondsFromGMT(for: moment)
        let seconds = (Int(moment.timeIntervalSince1970) + offset) % 86_400
        let ofDay = seconds < 0 ? seconds + 86_400 : seconds
        let fraction = text.dropFirst(19).dropLast()
        let distance = abs(offset) / 60
        let name = offset == 0 ? "Z" : "\(offset < 0 ? "-" : "+")\(pad(distance / 60)):\(pad(distance % 60))"
        return "\(pad(ofDay / 3600)):\(pad(ofDay / 60 % 60)):\(pad(ofDay % 60))\(fraction)\(name)"
    }

    private static func pad(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
