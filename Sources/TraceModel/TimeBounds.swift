/// Bounds of times that come from outside, so that adding to them cannot overflow.
public enum TimeBounds {
    /// Microseconds from 1970 to the end of the year 9999.
    public static let microseconds: ClosedRange<Int64> = 0...253_402_300_799_999_999

    @inlinable public static func clamp(_ microseconds: Int64) -> Int64 {
        min(max(microseconds, Self.microseconds.lowerBound), Self.microseconds.upperBound)
    }
}
