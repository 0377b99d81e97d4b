//! What a plan measures: ages, own delays, confirmation.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{time::UnixMillis, whole};

/// Values of one kind, by steps of about 1.6 %.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    count: u64,
    sum_ms: u128,
    max_ms: u64,
    steps: BTreeMap<u32, u64>,
}

/// The step that a value falls in: 64 for each doubling.
fn step(ms: u64) -> u32 {
    let bits = u64::BITS - ms.leading_zeros();
    if bits <= 6 {
        return u32::try_from(ms).unwrap_or(u32::MAX);
    }
    let mantissa = (ms >> (bits - 7)) & 0x3F;
    (bits - 6) * 64 + u32::try_from(mantissa).unwrap_or(0)
}

/// The largest value of a step.
fn top_of(step: u32) -> u64 {
    if step < 64 {
        return u64::from(step);
    }
    let (bits, mantissa) = (step / 64 + 6, u64::from(step % 64));
    ((64 + mantissa + 1) << (bits - 7)) - 1
}

impl Distribution {
    /// One value.
    pub fn add(&mut self, ms: u64) {
        self.add_many(ms, 1);
    }

    /// The same value so many times.
    pub fn add_many(&mut self, ms: u64, times: u64) {
        self.count += times;
        self.sum_ms += u128::from(ms) * u128::from(times);
        self.max_ms = self.max_ms.max(ms);
        *self.steps.entry(step(ms)).or_default() += times;
    }

    /// All values of another one.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ms += other.sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
        for (step, times) in &other.steps {
            *self.steps.entry(*step).or_default() += times;
        }
    }

    /// How many values there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean in seconds, 0 when there is none.
    #[must_use]
    pub fn mean_seconds(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ms as f64 / self.count as f64 / 1_000.0 }
    }

    /// The largest in seconds.
    #[must_use]
    pub fn max_seconds(&self) -> f64 {
        self.max_ms as f64 / 1_000.0
    }

    /// What a part of them (0 to 1) does not exceed, in seconds, to about 1.6 %.
    #[must_use]
    pub fn quantile_seconds(&self, part: f64) -> f64 {
        let wanted = whole((part * self.count as f64).ceil());
        let mut seen = 0;
        for (step, times) in &self.steps {
            seen += times;
            if seen >= wanted {
                return top_of(*step).min(self.max_ms) as f64 / 1_000.0;
            }
        }
        self.max_seconds()
    }

    /// Mean, 95th percentile and largest.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures { mean: self.mean_seconds(), p95: self.quantile_seconds(0.95), max: self.max_seconds() }
    }
}

/// A distribution in three numbers, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// The mean.
    pub mean: f64,
    /// What 95 % do not exceed.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

/// Changes of one list and one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupMeasure {
    pub(super) arrived: u64,
    /// Sum of the arrival times, less those of what was applied: what is not applied at the end is aged with it.
    unapplied_at_ms: i128,
    pub(super) age: Distribution,
    pub(super) own: Distribution,
}

impl GroupMeasure {
    pub(super) fn arrive(&mut self, at: UnixMillis) {
        self.arrived += 1;
        self.unapplied_at_ms += i128::from(at.0);
    }

    /// A change was applied at `at`, `age_ms` after it arrived; the vendor worked `vendor_ms` of it.
    pub(super) fn apply(&mut self, at: UnixMillis, age_ms: u64, vendor_ms: u64) {
        self.unapplied_at_ms -= i128::from(at.0) - i128::from(age_ms);
        self.age.add(age_ms);
        self.own.add(age_ms.saturating_sub(vendor_ms));
    }

    pub(super) fn unapplied(&self) -> u64 {
        self.arrived - self.age.count()
    }

    /// What is not applied at the end counts with its age then.
    pub(super) fn end(&mut self, now: UnixMillis) {
        let unapplied = self.unapplied();
        if unapplied > 0 {
            let waited_ms = i128::from(now.0) * i128::from(unapplied) - self.unapplied_at_ms;
            let each_ms = u64::try_from(waited_ms.max(0) / i128::from(unapplied)).unwrap_or(0);
            self.age.add_many(each_ms, unapplied);
            self.own.add_many(each_ms, unapplied);
        }
    }
}

/// The most of anything in any window of one hour.
#[derive(Debug, Default)]
pub(super) struct HourMax {
    in_window: std::collections::VecDeque<(UnixMillis, u64)>,
    sum: u64,
    pub(super) max: u64,
}

impl HourMax {
    pub(super) fn add(&mut self, at: UnixMillis, count: u64) {
        self.in_window.push_back((at, count));
        self.sum += count;
        while let Some((first, count)) = self.in_window.front().copied()
            && at.since_ms(first) >= 3_600_000
        {
            self.sum -= count;
            self.in_window.pop_front();
        }
        self.max = self.max.max(self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_off_by_less_than_two_percent() {
        let mut all = Distribution::default();
        (1..=100_000_u64).for_each(|ms| all.add(ms));
        for part in [0.01, 0.5, 0.95, 0.999] {
            let exact = part * 100.0;
            let found = all.quantile_seconds(part);
            assert!(found >= exact && found <= exact * 1.02, "{part}: {found} instead of {exact}");
        }
        assert_eq!((all.count(), all.max_seconds()), (100_000, 100.0));
        assert!((all.mean_seconds() - 50.0005).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_applied_is_aged_to_the_end() {
        let mut group = GroupMeasure::default();
        [0, 1_000, 2_000].into_iter().for_each(|at| group.arrive(UnixMillis(at)));
        group.apply(UnixMillis(5_000), 4_000, 3_000);
        assert_eq!(group.unapplied(), 2);
        group.end(UnixMillis(11_000));
        assert_eq!((group.age.count(), group.age.max_seconds()), (3, 10.0));
        assert!((group.own.mean_seconds() - (1.0 + 10.0 + 10.0) / 3.0).abs() < 1e-9);
    }
}
