//! Calls per day of UTC, by the vendor's clock: reserved before use, so that a crash loop cannot spend a day twice.
//!
//! The vendor's time is the `Date` of an answer of this term and monotonic time since; the wall clock never opens a day.

use crate::model::{
    state::LedgerRecord,
    time::{Mono, Now, UnixMillis, UtcDay},
};

use super::limits::{CALLS_RESERVED, CLOCK_CALLS, DAY_END_MS, LEASE_MS, MIDNIGHT_GUARD_MS, WALL_SKEW_MS};
use super::planted::{Bug, planted};

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

/// What one call was charged to; a call that surely was not made is given back exactly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The ledger's day when it was charged.
    day: UtcDay,
    /// It was charged to the day after, too.
    both: bool,
    /// It is the one call that reads the vendor's clock.
    first: bool,
    /// It tries whether the vendor still says that the day is spent.
    probe: bool,
}

impl Charge {
    /// Whether the call tries if the vendor still says that the day is spent.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
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
    /// One call may try whether the vendor still says that the day is spent.
    probe: bool,
    /// Since when the vendor says that the day is spent, whatever we counted.
    exhausted_at: Option<Mono>,
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
            exhausted_at: None,
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

    /// Whether an answer of this term told the vendor's time.
    #[must_use]
    pub fn knows_clock(&self) -> bool {
        self.reading.is_some()
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
                self.exhausted_at = None;
                self.day = day;
            }
        }
    }

    /// When the next day opens, on our monotonic clock.
    #[must_use]
    pub fn opens_at(&self, now: Mono) -> Option<Mono> {
        let (earliest, _) = self.vendor_time(now)?;
        if planted(Bug::MidnightByOurClock) {
            return Some(now.plus_ms(60_000));
        }
        Some(now.plus_ms(self.day.next().start().plus_ms(MIDNIGHT_GUARD_MS).since_ms(earliest)))
    }

    /// When there may be more calls for batches than now: as the day ends and nothing is kept back any more, or as the next
    /// one opens.
    #[must_use]
    pub fn more_at(&self, now: Mono) -> Mono {
        let Some(opens_at) = self.opens_at(now) else { return now.plus_ms(60_000) };
        let ends_in_ms = self.day_left_ms(now);
        let freed = self.exhausted_at.is_none() && ends_in_ms > DAY_END_MS && self.limit.is_some_and(|limit| self.used < limit);
        if freed { now.plus_ms(ends_in_ms - DAY_END_MS) } else { opens_at }
    }

    /// How many calls a lane of `calls` a day keeps back of what is left of this day: no more than a twentieth of it, less
    /// the later it is, and nothing at its very end, when what would be kept could serve nobody.
    #[must_use]
    pub fn lane(&self, now: Mono, calls: u32) -> u32 {
        self.share_of_rest(now, calls.min(self.limit.unwrap_or(u32::MAX) / 20))
    }

    /// Calls kept for terms that do not know the vendor's clock yet.
    fn clock_calls(&self, now: Mono) -> u32 {
        self.share_of_rest(now, CLOCK_CALLS)
    }

    fn share_of_rest(&self, now: Mono, calls: u32) -> u32 {
        let left_ms = self.day_left_ms(now);
        if left_ms <= DAY_END_MS {
            return 0;
        }
        u32::try_from((u64::from(calls) * left_ms).div_ceil(86_400_000)).unwrap_or(calls).min(calls)
    }

    /// Whether a call could be charged now that leaves `lane_calls` for others, once it is reserved.
    #[must_use]
    pub fn has_left(&self, now: Now, lane_calls: u32) -> bool {
        if planted(Bug::MidnightByOurClock) && now.wall.day() > self.day {
            return true;
        }
        let kept = if self.reading.is_some() { lane_calls.saturating_add(self.clock_calls(now.mono)) } else { 0 };
        let counted = |limit| self.used.saturating_add(kept) < limit || self.is_over(now);
        self.limit.is_none_or(|limit| (self.exhausted_at.is_none() || self.probe) && counted(limit))
    }

    /// Whether the vendor says that the day is spent, though we counted less: until a probe tells otherwise, or midnight.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.exhausted_at.is_some() && self.limit.is_none_or(|limit| self.used < limit)
    }

    /// Whether the next call may try if it still says so.
    #[must_use]
    pub const fn may_probe(&self) -> bool {
        self.probe
    }

    /// Whether more than so many calls are left, as far as was counted: also before the vendor's clock is known.
    #[must_use]
    pub fn has_counted(&self, now: Now, calls: u32) -> bool {
        self.limit.is_none_or(|limit| self.used.saturating_add(calls) < limit || self.is_over(now))
    }

    /// Without the vendor's clock, a spent day does not stop the one call that reads it, once it is over by any clock.
    fn is_over(&self, now: Now) -> bool {
        self.reading.is_none() && now.wall.plus_ms(-WALL_SKEW_MS).day() > self.day
    }

    /// Charges a request to the token endpoint. It is none of those that the vendor counts, as far as is known: one may go
    /// while the vendor says that the day is spent, and whatever comes of it is no word on that.
    ///
    /// # Errors
    /// [`NoCall`].
    pub fn charge_token(&mut self, now: Now, deadline_ms: u64) -> Result<Charge, NoCall> {
        // What was said of a day that is over is forgotten with it.
        self.roll(now.mono);
        let (denied, probe) = (self.exhausted_at.take(), std::mem::take(&mut self.probe));
        let charge = self.charge(now, deadline_ms, 0);
        (self.exhausted_at, self.probe) = (denied, probe);
        charge
    }

    /// Charges one call that leaves within the lease and arrives within `deadline_ms` after that, if `lane_calls` would
    /// still be left after it.
    ///
    /// # Errors
    /// [`NoCall`].
    pub fn charge(&mut self, now: Now, deadline_ms: u64, lane_calls: u32) -> Result<Charge, NoCall> {
        let Some(limit) = self.limit else { return Ok(Charge { day: self.day, both: false, first: false, probe: false }) };
        self.roll(now.mono);
        if planted(Bug::MidnightByOurClock) && now.wall.day() > self.day {
            (self.day, self.used, self.used_next) = (now.wall.day(), 0, 0);
        }
        let deadline = i64::try_from(deadline_ms.saturating_add(LEASE_MS)).unwrap_or(i64::MAX);
        let (both, kept) = match self.vendor_time(now.mono) {
            Some((_, latest)) => {
                (latest.plus_ms(deadline).day() > self.day, lane_calls.saturating_add(self.clock_calls(now.mono)))
            }
            None if self.first_call_out => return Err(NoCall::ClockUnknown),
            None => (true, 0),
        };
        let over = self.is_over(now);
        let spent = self.exhausted_at.is_some()
            || (self.used.saturating_add(kept) >= limit && !over)
            || (both && self.used_next.saturating_add(kept) >= limit);
        // A probe is one call beyond what was said, never beyond what we counted.
        if spent && !(self.probe && self.used < limit) {
            return Err(NoCall::Spent);
        }
        if self.confirmed.day != self.day || self.used >= self.confirmed.calls {
            return Err(NoCall::NotReserved);
        }
        if both && self.used_next >= self.confirmed.calls_next_day {
            self.wants_next = true;
            return Err(NoCall::NotReserved);
        }
        let probe = self.exhausted_at.is_some() && std::mem::take(&mut self.probe);
        self.used += 1;
        if both {
            self.used_next += 1;
        }
        self.first_call_out = self.reading.is_none();
        Ok(Charge { day: self.day, both, first: self.first_call_out, probe })
    }

    /// A charged call surely never reached the vendor: it is given back to the days that it was charged to, as far as
    /// they are not over.
    pub fn refund(&mut self, charge: Charge) {
        if self.limit.is_none() {
            return;
        }
        if charge.day == self.day {
            self.used = self.used.saturating_sub(1);
            self.used_next = self.used_next.saturating_sub(u32::from(charge.both));
        } else if charge.day.next() == self.day {
            self.used = self.used.saturating_sub(u32::from(charge.both));
        }
        self.first_call_ended(charge);
    }

    /// The call that was to read the clock ended without it: the next single call may go.
    pub fn first_call_ended(&mut self, charge: Charge) {
        if charge.first {
            self.first_call_out = false;
        }
    }

    /// The vendor says that the day is spent: that is believed over our own count, until midnight or until a probe
    /// finds it otherwise.
    pub fn exhaust(&mut self, now: Mono) {
        self.exhausted_at = Some(now);
        self.probe = false;
    }

    /// The vendor answered a call that was handed over at `sent`: what it said of the day before that is over.
    pub fn answered(&mut self, sent: Mono) {
        if self.exhausted_at.is_some_and(|at| sent > at) {
            self.exhausted_at = None;
        }
    }

    /// One call may try whether the vendor still says so.
    pub fn allow_probe(&mut self) {
        self.probe = true;
    }

    /// The record that reserves the next block; `None` when what is confirmed still serves.
    #[must_use]
    pub fn reservation(&self, now: Mono) -> Option<LedgerRecord> {
        let limit = self.limit?;
        // A term that does not know the clock yet needs one call, and must not keep a block from those that follow it.
        let (block, cap) =
            if self.reading.is_some() { (CALLS_RESERVED, limit.saturating_sub(self.clock_calls(now))) } else { (1, limit) };
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: UnixMillis = UnixMillis(20_000 * 86_400_000);

    fn at(mono: u64) -> Now {
        Now { mono: Mono(mono), wall: MIDNIGHT.plus_ms(i64::try_from(mono).unwrap() - 1_000_000) }
    }

    /// A ledger that has read the vendor's clock and may spend its whole day; 1,000,000 on our clock is midnight.
    fn quota(limit: u32) -> Quota {
        let mut quota = Quota::new(Some(limit), None, at(0).wall);
        quota.read_clock(at(0).wall, Mono(0), Mono(0));
        quota.reserved(LedgerRecord { day: at(0).wall.day(), calls: limit, calls_next_day: limit });
        quota
    }

    #[test]
    fn a_refund_gives_back_what_was_charged_and_nothing_else() {
        let mut quota = quota(100);
        let both = quota.charge(at(980_000), 30_000, 0).unwrap();
        let today = quota.charge(at(0), 30_000, 0).unwrap();
        assert_eq!((quota.used, quota.used_next), (2, 1));
        quota.refund(today);
        assert_eq!((quota.used, quota.used_next), (1, 1), "the call before midnight still counts for both days");
        quota.refund(both);
        assert_eq!((quota.used, quota.used_next), (0, 0));
    }

    #[test]
    fn what_was_counted_limits_also_before_the_clock_is_known() {
        let record = LedgerRecord { day: at(0).wall.day(), calls: 95, calls_next_day: 0 };
        let quota = Quota::new(Some(100), Some(record), at(0).wall);
        assert!(quota.has_left(at(0), 1_000), "one call must be able to read the clock");
        assert!(quota.has_counted(at(0), 4) && !quota.has_counted(at(0), 5));
    }

    #[test]
    fn a_refund_after_midnight_reaches_the_new_day_alone() {
        let mut quota = quota(100);
        let both = quota.charge(at(980_000), 30_000, 0).unwrap();
        let today = quota.charge(at(500_000), 30_000, 0).unwrap();
        quota.roll(Mono(1_030_000));
        assert_eq!((quota.day, quota.used), (MIDNIGHT.day(), 1));
        quota.refund(today);
        assert_eq!(quota.used, 1);
        quota.refund(both);
        assert_eq!(quota.used, 0);
    }

    #[test]
    fn a_call_that_may_leave_late_and_travel_long_counts_for_both_days() {
        let mut quota = quota(100);
        assert!(!quota.charge(at(963_000), 30_000, 0).unwrap().both);
        assert!(quota.charge(at(965_000), 30_000, 0).unwrap().both, "5 s of lease and 30 s on the way");
    }

    #[test]
    fn a_spent_day_is_over_a_guard_after_midnight() {
        let mut quota = quota(20);
        while quota.charge(at(0), 30_000, 0).is_ok() {}
        assert_eq!(quota.used(), 19, "the last call is for a term that does not know the clock");
        while quota.charge(at(900_000), 30_000, 0).is_ok() {}
        assert_eq!(quota.used(), 20, "nothing is kept of a day that ends");
        let opens = quota.opens_at(Mono(900_000)).unwrap();
        assert_eq!(opens, Mono(1_030_000));
        assert_eq!(quota.charge(at(1_029_999), 30_000, 0), Err(NoCall::Spent));
        assert_eq!(quota.charge(at(opens.0), 30_000, 0), Err(NoCall::NotReserved));
        let record = quota.reservation(Mono(opens.0)).unwrap();
        assert_eq!(record.day, MIDNIGHT.day());
        quota.reserved(record);
        assert!(quota.charge(at(opens.0), 30_000, 0).is_ok());
    }

    #[test]
    fn the_wall_clock_opens_no_day_before_it_is_over_by_any_clock() {
        let day = at(0).wall.day();
        let spent = LedgerRecord { day, calls: 20, calls_next_day: 0 };
        let mut quota = Quota::new(Some(20), Some(spent), at(0).wall);
        quota.reserved(LedgerRecord { day, calls: 21, calls_next_day: 1 });
        let three_hours = 3 * 3_600_000;
        assert_eq!(quota.charge(at(1_000_000 + three_hours - 1), 30_000, 0), Err(NoCall::Spent));
        let first = quota.charge(at(1_000_000 + three_hours), 30_000, 0).unwrap();
        assert!(first.both && first.first);
        assert_eq!(quota.charge(at(1_000_000 + three_hours), 30_000, 0), Err(NoCall::ClockUnknown));
    }

    #[test]
    fn the_vendor_is_believed_until_a_probe_is_answered() {
        let mut quota = quota(100);
        quota.exhaust(Mono(500));
        assert_eq!(quota.charge(at(1_000), 30_000, 0), Err(NoCall::Spent));
        quota.answered(Mono(400));
        assert_eq!(quota.charge(at(1_000), 30_000, 0), Err(NoCall::Spent), "an answer to an earlier call says nothing");
        quota.allow_probe();
        assert!(quota.charge(at(2_000), 30_000, 0).is_ok());
        assert_eq!(quota.charge(at(2_000), 30_000, 0), Err(NoCall::Spent), "one probe is one call");
        quota.answered(Mono(2_000));
        assert!(quota.charge(at(3_000), 30_000, 0).is_ok());
        assert_eq!(quota.left(), Some(98));
    }
}
