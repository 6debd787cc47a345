private import Glibc

/// The kernel's clocks (clock_gettime(2)).
public enum Clock {
    /// Microseconds of `CLOCK_MONOTONIC`, which nobody sets: only differences mean something.
    public static var monotonic: Int64 { microseconds(CLOCK_MONOTONIC) }

    /// Microseconds since 1970, as the wall clock says now.
    public static var wall: Int64 { microseconds(CLOCK_REALTIME) }

    /// Microseconds of `CLOCK_TAI`, which has no leap seconds and is otherwise the wall clock.
    public static var atomic: Int64 { microseconds(CLOCK_TAI) }

    private static func microseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }
}
