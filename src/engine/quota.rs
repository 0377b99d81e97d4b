//! Calls per day of UTC, by the vendor's clock: reserved before use, so that a crash loop cannot spend a day twice.
//!
//! The vendor's time is the `Date` of an answer of this term and monotonic time since; the wall clock never opens a day.

use crate::model::{
    state::LedgerRecord,
    time::{Mono, Now, UnixMillis, UtcDay},
};

use super::limits::{CALLS_RESERVED, CLOCK_CALLS, MIDNIGHT_GUARD_MS};

/// What the vendor's clock showed, and when: a `Date` has whole seconds and was written between sending and reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    date: UnixMillis,
    sent: Mono,
    read: Mono,
}

/// Why no call may be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCall {
    /// The reservation must be committed first.
    NotReserved,
    /// Before the term's first answer, one call alone may be under way.
    ClockUnknown,
    /// The day's calls are spent, or kept for the lane that asks for less.
    Spent,
}

/// The ledger of one API key.
#[derive(Debug)]
pub struct Quota {
    /// Calls we may make in a day; `None` is unlimited.
    limit: Option<u32>,
    reading: Option<Reading>,
    day: UtcDay,
    /// Charged to `day`.
    used: u32,
    /// Charged to the day after `day`, because they may arrive after midnight.
    used_next: u32,
    /// What Kafka has confirmed that may be spent.
    confirmed: LedgerRecord,
    /// A call was refused for want of a reservation of the next day.
    wants_next: bool,
    first_call_out: bool,
    probe: bool,
}

impl Quota {
    /// The ledger as the state has it; without one, of `wall`'s day with nothing spent.
    #[must_use]
    pub fn new(limit: Option<u32>, restored: Option<LedgerRecord>, wall: UnixMillis) -> Self {
        let record = restored.unwrap_or(LedgerRecord { day: wall.day(), calls: 0, calls_next_day: 0 });
        Self {
            limit,
            reading: None,
            day: record.day,
            used: record.calls,
            used_next: record.calls_next_day,
            confirmed: record,
            wants_next: false,
            first_call_out: false,
            probe: false,
        }
    }

    /// The earliest and the latest that the vendor's clock may show now.
    #[must_use]
    pub fn vendor_time(&self, now: Mono) -> Option<(UnixMillis, UnixMillis)> {
        self.reading.map(|reading| {
            let since = |from: Mono| i64::try_from(now.since_ms(from)).unwrap_or(i64::MAX);
            (reading.date.plus_ms(since(reading.read)), reading.date.plus_ms(1_000 + since(reading.sent)))
        })
    }

    /// An answer carried the vendor's time.
    pub fn read_clock(&mut self, date: UnixMillis, sent: Mono, read: Mono) {
        let spread = |reading: &Reading, now: Mono| now.since_ms(reading.sent) - now.since_ms(reading.read);
        let fresh = Reading { date, sent, read };
        // The narrowest reading serves longest; a newer one heals drift.
        let keep = self.reading.is_some_and(|old| spread(&old, read) < spread(&fresh, read) && read.since_ms(old.read) < 600_000);
        if !keep {
            self.reading = Some(fresh);
        }
        self.roll(read);
    }

    /// Opens the new day once the vendor's clock surely shows it, a guard late.
    pub fn roll(&mut self, now: Mono) {
        if let Some((earliest, _)) = self.vendor_time(now) {
            let day = earliest.plus_ms(-MIDNIGHT_GUARD_MS).day();
            if day > self.day {
                self.used = if self.day.next() == day { self.used_next } else { 0 };
                self.used_next = 0;
                self.wants_next = false;
                self.probe = false;
                self.day = day;
            }
        }
    }

    /// When the next day opens, on our monotonic clock.
    #[must_use]
    pub fn opens_at(&self, now: Mono) -> Option<Mono> {
        let (earliest, _) = self.vendor_time(now)?;
        Some(now.plus_ms(self.day.next().start().plus_ms(MIDNIGHT_GUARD_MS).since_ms(earliest)))
    }

    /// Charges one call that arrives within `deadline_ms`, if `lane_calls` would still be left after it.
    ///
    /// # Errors
    /// [`NoCall`].
    pub fn charge(&mut self, now: Now, deadline_ms: u64, lane_calls: u32) -> Result<(), NoCall> {
        let Some(limit) = self.limit else { return Ok(()) };
        self.roll(now.mono);
        let deadline = i64::try_from(deadline_ms).unwrap_or(i64::MAX);
        let (both, kept) = match self.vendor_time(now.mono) {
            Some((_, latest)) => (latest.plus_ms(deadline).day() > self.day, lane_calls.saturating_add(CLOCK_CALLS)),
            None if self.first_call_out => return Err(NoCall::ClockUnknown),
            None => (true, 0),
        };
        // Without the vendor's clock, a day that the wall clock says is over does not stop the one call that reads it.
        let over = self.reading.is_none() && now.wall.day() > self.day;
        let spent = (self.used.saturating_add(kept) >= limit && !over) || (both && self.used_next.saturating_add(kept) >= limit);
        if spent && !self.probe {
            return Err(NoCall::Spent);
        }
        if self.confirmed.day != self.day || self.used >= self.confirmed.calls {
            return Err(NoCall::NotReserved);
        }
        if both && self.used_next >= self.confirmed.calls_next_day {
            self.wants_next = true;
            return Err(NoCall::NotReserved);
        }
        self.probe = false;
        self.used += 1;
        if both {
            self.used_next += 1;
        }
        self.first_call_out = self.reading.is_none();
        Ok(())
    }

    /// A charged call surely never reached the vendor.
    pub fn refund(&mut self) {
        if self.limit.is_some() {
            self.used = self.used.saturating_sub(1);
            self.used_next = self.used_next.saturating_sub(1);
            self.first_call_out = false;
        }
    }

    /// A call ended without an answer: the clock is still unknown, and the next single call may go.
    pub fn first_call_ended(&mut self) {
        self.first_call_out = false;
    }

    /// The vendor says that the day is spent: nothing more is charged to it.
    pub fn exhaust(&mut self) {
        if let Some(limit) = self.limit {
            self.used = self.used.max(limit);
        }
    }

    /// One call may try whether the vendor still says so.
    pub fn allow_probe(&mut self) {
        self.probe = true;
    }

    /// The record that reserves the next block; `None` when what is confirmed still serves.
    #[must_use]
    pub fn reservation(&self) -> Option<LedgerRecord> {
        let limit = self.limit?;
        // A term that does not know the clock yet needs one call, and must not keep a block from those that follow it.
        let (block, cap) = if self.reading.is_some() { (CALLS_RESERVED, limit.saturating_sub(CLOCK_CALLS)) } else { (1, limit) };
        let ahead = |used: u32, confirmed: u32| {
            let enough = confirmed.saturating_sub(used) > block / 2 || (confirmed >= cap && confirmed > used);
            if enough { confirmed } else { used.saturating_add(block).min(cap.max(used.saturating_add(1))) }
        };
        let same_day = self.confirmed.day == self.day;
        let calls = ahead(self.used, if same_day { self.confirmed.calls } else { 0 });
        let confirmed_next = if same_day { self.confirmed.calls_next_day } else { 0 };
        let calls_next_day =
            if self.wants_next || self.reading.is_none() { ahead(self.used_next, confirmed_next) } else { confirmed_next };
        let record = LedgerRecord { day: self.day, calls, calls_next_day };
        let spent = self.used >= limit && !self.probe && self.reading.is_some();
        (record != self.confirmed && !spent).then_some(record)
    }

    /// Kafka confirmed a reservation.
    pub fn reserved(&mut self, record: LedgerRecord) {
        if record.day >= self.confirmed.day {
            self.confirmed = record;
        }
    }

    /// Calls used today; they may have been.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Calls left today; `None` when unlimited.
    #[must_use]
    pub fn left(&self) -> Option<u32> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }

    /// Milliseconds left in the vendor's day; a whole day while the vendor's clock is unknown.
    #[must_use]
    pub fn day_left_ms(&self, now: Mono) -> u64 {
        self.vendor_time(now).map_or(86_400_000, |(earliest, _)| self.day.next().start().since_ms(earliest))
    }

    /// The day's limit.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }
}
