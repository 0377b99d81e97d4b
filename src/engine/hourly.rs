//! Rows of one export in the last 60 minutes, by when they were sent: an export moves at most so many profiles an hour.

use std::collections::VecDeque;

use crate::model::time::UnixMillis;

/// The window, in seconds: an hour, and what is lost by counting whole ones.
const WINDOW_S: i64 = 3_601;

/// Rows by second of the vendor's clock, those of the last 60 minutes.
#[derive(Debug, Clone, Default)]
pub(super) struct HourlyRows {
    by_second: VecDeque<(i64, u64)>,
    sum: u64,
}

const fn second_of(at: UnixMillis) -> i64 {
    at.0.div_euclid(1_000)
}

impl HourlyRows {
    /// What the state has, by minute: each row counts as one of its minute's last second.
    pub(super) fn restored(by_minute: &[(i64, u64)]) -> Self {
        let by_second = by_minute.iter().map(|(minute, rows)| (minute * 60 + 59, *rows)).collect();
        Self { by_second, sum: by_minute.iter().map(|(_, rows)| rows).sum() }
    }

    /// For the state.
    pub(super) fn by_minute(&self) -> Vec<(i64, u64)> {
        let mut minutes: Vec<(i64, u64)> = Vec::new();
        for (second, rows) in &self.by_second {
            let minute = second.div_euclid(60);
            match minutes.last_mut() {
                Some((last, sum)) if *last == minute => *sum += rows,
                Some(_) | None => minutes.push((minute, *rows)),
            }
        }
        minutes
    }

    /// Forgets what lies outside the window.
    fn roll(&mut self, now: UnixMillis) {
        while let Some((second, rows)) = self.by_second.front().copied()
            && second <= second_of(now) - WINDOW_S
        {
            self.sum -= rows;
            self.by_second.pop_front();
        }
    }

    /// Rows are sent.
    pub(super) fn add(&mut self, now: UnixMillis, rows: u64) {
        self.roll(now);
        // A clock that was read more narrowly may show a little less than before.
        let second = second_of(now).max(self.by_second.back().map_or(i64::MIN, |(second, _)| *second));
        match self.by_second.back_mut() {
            Some((last, sum)) if *last == second => *sum += rows,
            Some(_) | None => self.by_second.push_back((second, rows)),
        }
        self.sum += rows;
    }

    /// Rows that were counted at `at` surely never reached the vendor.
    pub(super) fn give_back(&mut self, at: UnixMillis, rows: u64) {
        let first = second_of(at);
        if let Some((_, counted)) = self.by_second.iter_mut().find(|(second, counted)| *second >= first && *counted >= rows) {
            *counted -= rows;
            self.sum -= rows;
        }
    }

    /// Rows that were counted at `before` are sent now.
    pub(super) fn count_again(&mut self, before: UnixMillis, now: UnixMillis, rows: u64) {
        self.give_back(before, rows);
        self.add(now, rows);
    }

    /// Rows of the last 60 minutes.
    pub(super) fn rows(&self, now: UnixMillis) -> u64 {
        let old = self.by_second.iter().take_while(|(second, _)| *second <= second_of(now) - WINDOW_S);
        self.sum - old.map(|(_, rows)| rows).sum::<u64>()
    }

    /// Milliseconds until `rows` more fit below `max`; 0 when they do now. More than `max` wait for an empty hour.
    pub(super) fn fits_in_ms(&self, now: UnixMillis, rows: u64, max: u64) -> u64 {
        let mut counted = self.sum;
        let mut at = now;
        for (second, old) in &self.by_second {
            if counted.saturating_add(rows) <= max {
                break;
            }
            counted -= old;
            at = UnixMillis((second + WINDOW_S) * 1_000).max(at);
        }
        at.since_ms(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: UnixMillis = UnixMillis(1_795_478_400_000);

    fn after_s(seconds: i64) -> UnixMillis {
        BEGAN.plus_ms(seconds * 1_000)
    }

    #[test]
    fn rows_count_for_an_hour() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(0), 600);
        rows.add(after_s(60), 300);
        assert_eq!((rows.rows(after_s(3_600)), rows.rows(after_s(3_601)), rows.rows(after_s(3_661))), (900, 300, 0));
        assert_eq!(rows.fits_in_ms(after_s(100), 100, 1_000), 0);
        assert_eq!(rows.fits_in_ms(after_s(100), 101, 1_000), 3_501_000);
        assert_eq!(rows.fits_in_ms(after_s(100), 1_000, 1_000), 3_561_000);
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(0), 500);
        rows.add(after_s(5), 300);
        rows.give_back(after_s(5), 300);
        assert_eq!(rows.rows(after_s(6)), 500);
        rows.give_back(after_s(9), 300);
        assert_eq!(rows.rows(after_s(9)), 500, "nothing of then is counted");
    }

    #[test]
    fn a_restart_forgets_no_row_and_keeps_none_for_longer_than_a_minute() {
        let mut rows = HourlyRows::default();
        rows.add(after_s(30), 500);
        rows.add(after_s(50), 100);
        let restored = HourlyRows::restored(&rows.by_minute());
        assert_eq!(restored.rows(after_s(3_630)), 600);
        assert_eq!(restored.rows(after_s(3_661)), 0);
    }
}
