//! Time as plain integers: an argument, never something that is read here.

use serde::{Deserialize, Serialize};

/// Milliseconds of a monotonic clock that counts suspension; its zero means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

/// Milliseconds in a day of UTC.
pub const DAY_MS: i64 = 86_400_000;

impl UnixMillis {
    /// The day of UTC that this instant lies in.
    #[must_use]
    pub const fn day(self) -> UtcDay {
        UtcDay(self.0.div_euclid(DAY_MS))
    }

    /// This instant and `ms` milliseconds; `ms` may be negative.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        let ms = self.0.saturating_sub(earlier.0);
        if ms > 0 { ms.unsigned_abs() } else { 0 }
    }
}

/// A day of UTC, counted from 1970-01-01: the vendor's daily limit is a fixed window of one such day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct UtcDay(pub i64);

impl UtcDay {
    /// 00:00:00 UTC of this day.
    #[must_use]
    pub const fn start(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(DAY_MS))
    }

    /// The day after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One reading of both clocks. Durations come from `mono`; `wall` is for display, and never opens a day of the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Mono,
    /// The wall clock.
    pub wall: UnixMillis,
}
