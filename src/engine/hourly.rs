//! Rows of one export in the last 60 minutes, by when they were sent: an export moves at most so many profiles an hour.
//!
//! What is decided already counts from when it will be sent. A round of removals moves its contacts when their import has
//! completed, half a minute after it was cut: were they counted from then on, each would take its place for that half
//! minute longer than an hour, and an export that changes nearly as fast as the ceiling allows would never catch up.

use std::collections::VecDeque;

use crate::model::time::UnixMillis;

/// Rows are counted in steps of this length.
const STEP_MS: i64 = 100;
/// The window, in steps: an hour, what is lost by counting whole steps, and by which one way to the vendor differs from another.
const WINDOW: i64 = 36_004;
const STEPS_OF_MINUTE: i64 = 60_000 / STEP_MS;

/// Rows by step of a clock that never jumps, those of the last 60 minutes and those that are to be sent.
#[derive(Debug, Clone, Default)]
pub(super) struct HourlyRows {
    /// Ascending; the last ones may lie ahead.
    by_step: VecDeque<(i64, u64)>,
    sum: u64,
    /// The latest step that was seen.
    seen: i64,
}

const fn step_of(at: UnixMillis) -> i64 {
    at.0.div_euclid(STEP_MS)
}

impl HourlyRows {
    /// What the state has, by minute: each row counts as one of its minute's last step.
    pub(super) fn restored(by_minute: &[(i64, u64)]) -> Self {
        let by_step = by_minute.iter().map(|(minute, rows)| (minute * STEPS_OF_MINUTE + STEPS_OF_MINUTE - 1, *rows)).collect();
        Self { by_step, sum: by_minute.iter().map(|(_, rows)| rows).sum(), seen: 0 }
    }

    /// For the state.
    pub(super) fn by_minute(&self) -> Vec<(i64, u64)> {
        let mut minutes: Vec<(i64, u64)> = Vec::new();
        for (step, rows) in &self.by_step {
            let minute = step.div_euclid(STEPS_OF_MINUTE);
            match minutes.last_mut() {
                Some((last, sum)) if *last == minute => *sum += rows,
                Some(_) | None => minutes.push((minute, *rows)),
            }
        }
        minutes
    }

    /// Forgets what lies outside the window.
    fn roll(&mut self, now: UnixMillis) {
        while let Some((step, rows)) = self.by_step.front().copied()
            && step <= step_of(now) - WINDOW
        {
            self.sum -= rows;
            self.by_step.pop_front();
        }
    }

    /// Rows are sent at `at`: now, or later. When they count from.
    pub(super) fn add(&mut self, now: UnixMillis, at: UnixMillis, rows: u64) -> UnixMillis {
        self.roll(now);
        // The vendor's clock may show a little less than ours did before it was read.
        self.seen = self.seen.max(step_of(now));
        let step = step_of(at).max(self.seen);
        let place = self.by_step.partition_point(|(before, _)| *before < step);
        match self.by_step.get_mut(place) {
            Some((same, sum)) if *same == step => *sum += rows,
            Some(_) | None => self.by_step.insert(place, (step, rows)),
        }
        self.sum += rows;
        UnixMillis(step * STEP_MS)
    }

    /// Rows that were counted at `at` surely never reached the vendor; what is outside the window by now is forgotten already.
    pub(super) fn give_back(&mut self, at: UnixMillis, rows: u64) {
        let step = step_of(at);
        if step <= self.seen - WINDOW {
            return;
        }
        // What was restored counts as of its minute's last step.
        let restored = step.div_euclid(STEPS_OF_MINUTE) * STEPS_OF_MINUTE + STEPS_OF_MINUTE - 1;
        for counted_at in [step, restored] {
            if let Ok(place) = self.by_step.binary_search_by_key(&counted_at, |(at, _)| *at)
                && let Some((_, counted)) = self.by_step.get_mut(place).filter(|(_, counted)| *counted >= rows)
            {
                *counted -= rows;
                self.sum -= rows;
                return;
            }
        }
    }

    /// Rows that were counted at `before` are sent at `at` instead; when they count from.
    pub(super) fn count_again(&mut self, before: UnixMillis, now: UnixMillis, at: UnixMillis, rows: u64) -> UnixMillis {
        self.give_back(before, rows);
        self.add(now, at, rows)
    }

    /// Whether what was counted at `at` is outside the window.
    pub(super) const fn is_forgotten(at: UnixMillis, now: UnixMillis) -> bool {
        step_of(at) <= step_of(now) - WINDOW
    }

    /// Rows of the 60 minutes that end with this step.
    fn rows_until(&self, step: i64) -> u64 {
        let old = self.by_step.iter().take_while(|(at, _)| *at <= step - WINDOW);
        let ahead = self.by_step.iter().rev().take_while(|(at, _)| *at > step);
        self.sum - old.chain(ahead).map(|(_, rows)| rows).sum::<u64>()
    }

    /// Rows of the last 60 minutes.
    pub(super) fn rows(&self, now: UnixMillis) -> u64 {
        self.rows_until(step_of(now))
    }

    /// The most rows in 60 minutes that something sent in this step would be part of, as far as is known.
    fn rows_beside(&self, step: i64) -> u64 {
        let ahead = self.by_step.iter().rev().map(|(at, _)| *at).take_while(|at| *at > step);
        ahead.chain([step]).map(|end| self.rows_until(end)).max().unwrap_or(0)
    }

    /// How many rows may be sent at `at`, which is now or later, if `max` are allowed in 60 minutes.
    pub(super) fn room(&self, at: UnixMillis, max: u64) -> u64 {
        max.saturating_sub(self.rows_beside(step_of(at)))
    }

    /// Milliseconds until `rows` more fit below `max`; 0 when they do now. More than `max` wait for an empty hour.
    pub(super) fn fits_in_ms(&self, now: UnixMillis, rows: u64, max: u64) -> u64 {
        let mut at = now;
        for (step, _) in &self.by_step {
            if self.rows_beside(step_of(at)).saturating_add(rows) <= max {
                break;
            }
            at = UnixMillis((step + WINDOW) * STEP_MS).max(at);
        }
        at.since_ms(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGAN: UnixMillis = UnixMillis(1_795_478_400_000);

    fn after_s(seconds: i64) -> UnixMillis {
        BEGAN.plus_ms(seconds * 1_000)
    }

    #[test]
    fn rows_count_for_an_hour() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(0), after_s(0), 600);
        rows.add(after_s(60), after_s(60), 300);
        assert_eq!((rows.rows(after_s(3_600)), rows.rows(after_s(3_601)), rows.rows(after_s(3_661))), (900, 300, 0));
        assert_eq!(rows.fits_in_ms(after_s(100), 100, 1_000), 0);
        assert_eq!(rows.fits_in_ms(after_s(100), 101, 1_000), 3_500_400);
        assert_eq!(rows.fits_in_ms(after_s(100), 1_000, 1_000), 3_560_400);
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(0), after_s(0), 500);
        rows.add(after_s(5), after_s(5), 300);
        rows.give_back(after_s(5), 300);
        assert_eq!(rows.rows(after_s(6)), 500);
        rows.give_back(after_s(9), 300);
        assert_eq!(rows.rows(after_s(9)), 500, "nothing of then is counted");
    }

    #[test]
    fn what_is_forgotten_takes_nothing_from_what_was_sent_since() {
        let mut rows = HourlyRows::default();
        let (one, two) = (rows.add(after_s(0), after_s(0), 400), rows.add(after_s(1), after_s(1), 300));
        assert!(HourlyRows::is_forgotten(two, after_s(3_700)));
        rows.count_again(one, after_s(3_700), after_s(3_700), 400);
        rows.count_again(two, after_s(3_701), after_s(3_701), 300);
        rows.give_back(one, 400);
        assert_eq!(rows.rows(after_s(3_702)), 700);
    }

    #[test]
    fn a_restart_forgets_no_row_and_keeps_none_for_longer_than_a_minute() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(30), after_s(30), 500);
        rows.add(after_s(50), after_s(50), 100);
        let restored = HourlyRows::restored(&rows.by_minute());
        assert_eq!(restored.rows(after_s(3_630)), 600);
        assert_eq!(restored.rows(after_s(3_661)), 0);
    }

    #[test]
    fn what_is_to_be_sent_counts_from_then() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(0), after_s(0), 600);
        rows.add(after_s(0), after_s(30), 300);
        assert_eq!((rows.rows(after_s(0)), rows.rows(after_s(30)), rows.rows(after_s(3_601))), (600, 900, 300));
        // An hour that holds the later ones as well has no more room, whenever within it something is sent.
        assert_eq!((rows.room(after_s(0), 1_000), rows.room(after_s(31), 1_000)), (100, 100));
        assert_eq!(rows.fits_in_ms(after_s(0), 101, 1_000), 3_600_400);
        rows.count_again(after_s(30), after_s(40), after_s(40), 300);
        assert_eq!((rows.rows(after_s(3_640)), rows.rows(after_s(3_641))), (300, 0));
    }

    proptest! {
        /// Whatever is sent at once or later, as far as there is room: no hour holds more than is allowed.
        #[test]
        fn no_hour_holds_more_than_is_allowed(
            sends in proptest::collection::vec((0i64..900, 0i64..60, 0u64..400), 1..60),
        ) {
            let mut rows = HourlyRows::default();
            let (mut now, mut sent) = (0, Vec::new());
            for (gap, later, wanted) in sends {
                now += gap;
                let at = now + later;
                let count = wanted.min(rows.room(after_s(at), 1_000));
                rows.add(after_s(now), after_s(at), count);
                sent.push((at, count));
                let waits_ms = i64::try_from(rows.fits_in_ms(after_s(now), 500, 1_000)).unwrap();
                prop_assert!(rows.room(after_s(now).plus_ms(waits_ms), 1_000) >= 500);
            }
            for (end, _) in &sent {
                let hour: u64 = sent.iter().filter(|(at, _)| *at <= *end && *at > *end - 3_600).map(|(_, count)| count).sum();
                prop_assert!(hour <= 1_000, "{hour} in the hour until {end}");
            }
        }
    }
}
