//! The only clock.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::model::time::{Mono, Now, UnixMillis};

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The monotonic clock. It counts while the machine is suspended, so that a lease to send runs out meanwhile.
///
/// # Panics
/// Where the system has no such clock: nothing could be promised there, so the process must not go on.
#[must_use]
pub fn mono() -> Mono {
    let Ok(since) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        panic!("the system has no clock that counts suspension (CLOCK_BOOTTIME): run on Linux 2.6.39 or later");
    };
    let seconds = u64::try_from(since.tv_sec()).unwrap_or_default();
    let ms = u64::try_from(since.tv_nsec()).unwrap_or_default() / 1_000_000;
    Mono(seconds.saturating_mul(1000).saturating_add(ms))
}

/// The wall clock.
#[must_use]
pub fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_forward_and_know_their_era() {
        let (first, second) = (now(), now());
        assert!(second.mono >= first.mono);
        assert!(first.wall > UnixMillis(1_700_000_000_000), "after November 2023");
    }
}
