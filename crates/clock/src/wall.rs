//! Reads the wall clock, for what is dated or signed in wall time outside a broker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The wall clock now, as the time since the Unix epoch; an instant before the epoch counts as the epoch.
pub fn since_epoch() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The wall clock now.
pub fn now() -> SystemTime {
    UNIX_EPOCH + since_epoch()
}

/// Milliseconds since the Unix epoch on the wall clock.
pub fn now_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
