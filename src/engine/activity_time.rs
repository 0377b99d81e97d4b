//! How long an account's activities take, learned: so that a poll is spent when there is something to read, and so that
//! a vendor that works on one activity after the other is noticed.
//!
//! Each end teaches two lines of times by rows: one from the activity's creation, as if all of them ran side by side, one
//! from the end of the activity before it. Where activities overlap, one of the two foretells their ends better.

use crate::model::{
    time::{Mono, UnixMillis},
    whole,
};

use super::limits::OVERDUE_HOLDS_MAX_MS;

/// Before anything was learned, an activity is looked at after this long.
const FIRST_LOOK_MS: f64 = 2_000.0;
/// What an older activity counts beside the next one.
const MEMORY: f64 = 0.95;
/// The same for how well the lines foretell.
const ERROR_MEMORY: f64 = 0.85;
/// One that takes so many times its expected time is overdue.
const OVERDUE: f64 = 1.5;
/// How many times the mean error an activity is late at most, but for a few in a hundred; and so many times more for each
/// mean time after which its account is read: a removal that was early goes unnoticed until then.
const SURELY: f64 = 4.0;
const SURELY_UNREAD: f64 = 3.0;
const SURELY_MAX: f64 = 10.0;
/// And this much more: the vendor's times are whole seconds.
const MARGIN_MIN_MS: u64 = 2_000;
/// How well ends are foretold is remembered for longer: the margins are several times that.
const SPREAD_MEMORY: f64 = 0.98;
/// Ends before the error is known well enough.
const SPREAD_ENDS_MIN: u32 = 6;
/// Ends that the first line misses by more than this part are looked at in the light of the second.
const MISSED: f64 = 0.2;
/// The second line foretells ends if it misses them by less than this part, in the mean of many. Where many run side by
/// side, it misses the short times between their ends by three quarters.
const FORETOLD: f64 = 0.4;
/// So many ends with company are many.
const MANY: u32 = 10;
/// What an older one of them counts beside the next.
const MANY_MEMORY: f64 = 0.97;
/// No activity is taken for longer than a day.
const LONGEST_MS: f64 = 86_400_000.0;

/// A line through times by rows, newer activities counting more.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    weight: f64,
    rows: f64,
    ms: f64,
    rows_rows: f64,
    rows_ms: f64,
    /// Mean of the relative error, and of the error itself.
    error: f64,
    error_ms: f64,
    /// Ends with company, and the mean relative error of many of them.
    with_company: u32,
    error_of_many: f64,
}

impl Line {
    /// Milliseconds of an empty activity and of each row.
    fn parts(&self) -> (f64, f64) {
        let spread = self.weight * self.rows_rows - self.rows * self.rows;
        // Sizes that hardly differ tell nothing of a row's time.
        let slope = if spread > self.weight * self.weight * 10_000.0 {
            ((self.weight * self.rows_ms - self.rows * self.ms) / spread).max(0.0)
        } else {
            0.0
        };
        let start = if self.weight > 0.0 { (self.ms - slope * self.rows) / self.weight } else { FIRST_LOOK_MS };
        (start.max(0.0), slope)
    }

    fn mean_ms(&self) -> f64 {
        if self.weight > 0.0 { self.ms / self.weight } else { 0.0 }
    }

    fn expected_ms(&self, rows: f64) -> f64 {
        let (start, slope) = self.parts();
        (start + slope * rows).clamp(50.0, LONGEST_MS)
    }

    fn learn(&mut self, rows: f64, ms: f64, overlaps: bool) {
        let expected = self.expected_ms(rows);
        let error_ms = (ms - expected).abs();
        let error = (error_ms / expected).min(2.0);
        // What had no company tells nothing of whether company matters; it lets an old verdict fade.
        let (error, error_ms) = if overlaps && self.weight > 0.0 {
            self.with_company = self.with_company.saturating_add(1);
            let fresh = (1.0 - MANY_MEMORY).max(1.0 / f64::from(self.with_company));
            self.error_of_many += (error - self.error_of_many) * fresh;
            (error, error_ms)
        } else {
            (self.error * 0.5, self.error_ms * 0.5)
        };
        self.error = self.error * ERROR_MEMORY + error * (1.0 - ERROR_MEMORY);
        self.error_ms = self.error_ms * ERROR_MEMORY + error_ms * (1.0 - ERROR_MEMORY);
        self.add(rows, ms);
    }

    fn add(&mut self, rows: f64, ms: f64) {
        self.weight = self.weight * MEMORY + 1.0;
        self.rows = self.rows * MEMORY + rows;
        self.ms = self.ms * MEMORY + ms;
        self.rows_rows = self.rows_rows * MEMORY + rows * rows;
        self.rows_ms = self.rows_ms * MEMORY + rows * ms;
    }
}

/// Why an account's activities had better be read before more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// The vendor works on them one after the other: more of them would only wait there.
    InTurn,
    /// One takes longer than its rows explain, and may be waiting for others.
    Overdue,
}

/// What was learned of one account.
#[derive(Debug, Clone, Default)]
pub(super) struct ActivityTime {
    /// From an activity's creation to its end.
    side_by_side: Line,
    /// From the end of the one before, or the creation if that is later, to its end.
    in_turn: Line,
    last_ended_at: UnixMillis,
    /// When the answer to the request of the youngest activity that has ended was read.
    youngest_ended: Mono,
    /// Mean of the relative error of what was expected, and how many ends have told of it.
    spread: f64,
    ends: u32,
}

impl ActivityTime {
    /// What the state kept of an earlier term.
    pub(super) fn restored(start_ms: u64, row_us: u64) -> Self {
        let mut line = Line::default();
        if start_ms > 0 {
            for rows in [0.0, 10_000.0] {
                line.add(rows, start_ms as f64 + rows * row_us as f64 / 1_000.0);
            }
        }
        Self { side_by_side: line, in_turn: line, ..Self::default() }
    }

    /// For the state: milliseconds of an empty activity, and microseconds for each row. 0 for what is not known.
    pub(super) fn learned(&self) -> (u64, u64) {
        let (start, slope) = self.line().parts();
        if self.line().weight == 0.0 { (0, 0) } else { (whole(start.max(1.0)), whole(slope * 1_000.0)) }
    }

    /// Whether the vendor works on this account's activities one after the other.
    pub(super) fn is_serial(&self) -> bool {
        let (side, turn) = (&self.side_by_side, &self.in_turn);
        let by_parts = side.error > MISSED && turn.error < side.error / 2.0;
        // Where each waits long for its turn, a small part of that wait is long beside what an activity takes.
        let foretells = turn.with_company >= MANY && turn.error_of_many < FORETOLD;
        let by_time = side.error_ms > MISSED * turn.mean_ms() && turn.error_ms < side.error_ms / 2.0;
        by_parts || (foretells && by_time)
    }

    fn line(&self) -> &Line {
        if self.is_serial() { &self.in_turn } else { &self.side_by_side }
    }

    /// When the first look at an activity that was just begun is worth a call: times that scatter are waited for a little
    /// longer.
    pub(super) fn look_after_ms(&self, rows: u64) -> u64 {
        let line = self.line();
        whole(line.expected_ms(rows as f64) * (1.0 + 0.7 * line.error.min(0.5)))
    }

    /// When an activity of so many rows is expected to be over, and how much longer it may take, but for one in hundreds;
    /// `None` while too few have ended to tell, and where one waits for another. `read_later` is how much later than
    /// others its account is read.
    pub(super) fn surely_over_after_ms(&self, rows: f64, read_later: f64) -> Option<(u64, u64)> {
        if self.ends < SPREAD_ENDS_MIN || self.is_serial() {
            return None;
        }
        let expected_ms = self.line().expected_ms(rows);
        let errors = (SURELY + SURELY_UNREAD * read_later).min(SURELY_MAX);
        Some((whole(expected_ms), whole(expected_ms * errors * self.spread) + MARGIN_MIN_MS))
    }

    /// What the one whose turn it is still takes, at a vendor that works on one after the other; `since_ms` is its age.
    pub(super) fn turn_left_ms(&self, rows: u64, since_ms: u64, vendor_now: UnixMillis) -> u64 {
        let worked_ms = since_ms.min(vendor_now.since_ms(self.last_ended_at));
        whole(self.in_turn.expected_ms(rows as f64)).saturating_sub(worked_ms)
    }

    /// What an activity that was begun at `since` and last seen running at `seen_at` says of those to come. One that a
    /// younger one has overtaken hangs by itself, and so does one that is overdue for very long.
    pub(super) fn gate(&self, now: Mono, rows: u64, since: Mono, seen_at: Mono) -> Option<Gate> {
        if self.is_serial() {
            return Some(Gate::InTurn);
        }
        let alone = since < self.youngest_ended || now >= since.plus_ms(OVERDUE_HOLDS_MAX_MS);
        (!alone && self.is_overdue(rows, seen_at.since_ms(since))).then_some(Gate::Overdue)
    }

    /// Whether an activity of that age takes longer than its rows explain.
    fn is_overdue(&self, rows: u64, age_ms: u64) -> bool {
        let line = self.line();
        line.weight > 0.0 && age_ms as f64 > OVERDUE * (1.0 + line.error.min(0.5)) * line.expected_ms(rows as f64) + 2_000.0
    }

    /// An activity that was begun at `since` has ended.
    pub(super) fn ended(&mut self, since: Mono) {
        self.youngest_ended = self.youngest_ended.max(since);
    }

    /// An activity took so long.
    pub(super) fn learn(&mut self, rows: u64, created_at: UnixMillis, ended_at: UnixMillis) {
        let begun_at = created_at.max(self.last_ended_at.min(ended_at));
        let overlaps = begun_at > created_at;
        let ms = |from: UnixMillis| (ended_at.since_ms(from) as f64).min(LONGEST_MS);
        if self.line().weight > 0.0 {
            let (expected, took) =
                (self.line().expected_ms(rows as f64), ms(if self.is_serial() { begun_at } else { created_at }));
            let error = ((took - expected).abs() / expected).min(2.0);
            // A plain mean at first, and of many: a few that went well must not make the next margin too small.
            let fresh = (1.0 - SPREAD_MEMORY).max(1.0 / f64::from(self.ends + 1));
            self.spread += (error - self.spread) * fresh;
            self.ends = self.ends.saturating_add(1);
        }
        self.side_by_side.learn(rows as f64, ms(created_at), overlaps);
        // Whose turn came before this term's first end, nobody knows.
        if self.last_ended_at > UnixMillis(0) || self.in_turn.weight == 0.0 {
            self.in_turn.learn(rows as f64, ms(begun_at), overlaps);
        }
        self.last_ended_at = self.last_ended_at.max(ended_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: UnixMillis = UnixMillis(1_795_478_400_000);

    #[test]
    fn start_and_rows_are_told_apart() {
        let mut time = ActivityTime::default();
        for (at, rows) in [(0, 100), (100, 5_000), (200, 900), (300, 20_000), (400, 39_999)] {
            let created_at = BEGAN.plus_ms(at * 1_000);
            time.learn(rows, created_at, created_at.plus_ms(20_000 + rows as i64));
        }
        for rows in [0, 10_000, 39_999] {
            assert!(time.look_after_ms(rows).abs_diff(20_000 + rows) < 1_000, "{rows}: {}", time.look_after_ms(rows));
        }
        let (start_ms, row_us) = time.learned();
        assert!(ActivityTime::restored(start_ms, row_us).look_after_ms(10_000).abs_diff(30_000) < 1_000);
    }

    /// Activities of 1,000 rows that take 21 s, one begun every 9 s: side by side, or one after the other.
    fn learned(serial: bool) -> ActivityTime {
        let mut time = ActivityTime::restored(20_000, 1_000);
        let mut busy_until = BEGAN;
        for at in 0..40 {
            let created_at = BEGAN.plus_ms(at * 9_000);
            let begun_at = if serial { created_at.max(busy_until) } else { created_at };
            busy_until = begun_at.plus_ms(21_000);
            time.learn(1_000, created_at, busy_until);
        }
        time
    }

    #[test]
    fn a_vendor_that_works_on_one_after_the_other_is_noticed() {
        assert!(learned(true).is_serial());
        assert!(learned(true).look_after_ms(1_000).abs_diff(21_000) < 1_000);
        assert!(!learned(false).is_serial());
        assert!(learned(false).is_overdue(1_000, 40_000) && !learned(false).is_overdue(1_000, 30_000));
    }

    #[test]
    fn one_that_hangs_closes_its_account_only_while_it_may_wait_for_others() {
        let mut time = learned(false);
        let since = Mono(100_000);
        let gate = |time: &ActivityTime, age_ms| time.gate(since.plus_ms(age_ms), 1_000, since, since.plus_ms(age_ms));
        assert_eq!([30_000, 40_000, 1_000_000].map(|age_ms| gate(&time, age_ms)), [None, Some(Gate::Overdue), None]);
        time.ended(since.plus_ms(1));
        assert_eq!(gate(&time, 40_000), None, "a younger one has overtaken it");
        assert_eq!(learned(true).gate(since, 1_000, since, since), Some(Gate::InTurn));
    }

    #[test]
    fn a_vendor_is_seen_to_work_in_turn_however_long_each_waits() {
        // Half an hour's queue, or five hours', that hardly grows.
        for queue_s in [1_800, 18_000] {
            let (mut time, mut ended_at) = (ActivityTime::restored(20_000, 1_000), BEGAN);
            for at in 0..60 {
                let rows = 3_000 + at * 137 % 2_000;
                let created_at = ended_at.plus_ms(-queue_s * 1_000 - at * 911 % 30_000);
                ended_at = ended_at.plus_ms(20_000 + rows);
                time.learn(rows.unsigned_abs(), created_at, ended_at);
            }
            assert!(time.is_serial(), "{queue_s}: {time:?}");
        }
    }

    #[test]
    fn many_that_end_close_to_one_another_run_side_by_side() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut ends: Vec<(UnixMillis, UnixMillis)> = Vec::new();
        for at in 0..2_000 {
            let created_at = BEGAN.plus_ms(at / 2 * 1_000);
            ends.push((created_at.plus_ms(rng.i64(14_000..34_000) / 1_000 * 1_000), created_at));
        }
        ends.sort_unstable();
        let mut time = ActivityTime::default();
        for (index, (ended_at, created_at)) in ends.into_iter().enumerate() {
            time.learn(1_000, created_at, ended_at);
            assert!(index < 20 || !time.is_serial(), "{index}: {time:?}");
        }
    }

    #[test]
    fn a_verdict_fades_without_new_signs() {
        let mut time = learned(true);
        for at in 1..=60 {
            let created_at = BEGAN.plus_ms(at * 10_000_000);
            time.learn(1_000, created_at, created_at.plus_ms(21_000));
        }
        assert!(!time.is_serial());
    }
}
