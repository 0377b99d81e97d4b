//! The only clock.

use nix::time::{ClockId, clock_gettime};

use crate::model::time::{Mono, Now, UnixMillis};

/// Both clocks now. The monotonic one counts suspension (`CLOCK_BOOTTIME`), so that a machine that slept finds its
/// lease to send over.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: UnixMillis(read(ClockId::CLOCK_REALTIME)) }
}

/// The monotonic clock.
#[must_use]
pub fn mono() -> Mono {
    Mono(u64::try_from(read(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
}

fn read(clock: ClockId) -> i64 {
    // These clocks exist on every Linux since 2.6.39.
    let time = clock_gettime(clock).unwrap_or_else(|error| unreachable!("clock_gettime: {error}"));
    time.tv_sec().saturating_mul(1_000).saturating_add(time.tv_nsec() / 1_000_000)
}
