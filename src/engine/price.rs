//! What a call costs now, in waiting-seconds: so many calls are left for so much of the day, and so many changes come.
//!
//! A group (the changes of one export in one direction) that has waited for Σ weight × age waiting-seconds goes when that
//! outweighs the price of the calls that its flush adds. The price is the one at which flushes at the best rate for
//! everybody, f = √(wλ/2μq), spend exactly what is left until midnight; it is solved anew every few seconds, so that an
//! error heals. With calls for everybody it is 0, and a change waits for nothing but others that come within a second.

use crate::model::{time::Mono, whole};

/// The price is solved anew this often.
pub(super) const PRICE_EVERY_MS: u64 = 5_000;
/// And at the latest after this long, where something waits for it.
pub(super) const PRICE_AGAIN_MS: u64 = 30_000;
/// How long arrivals are remembered.
const MEMORY_MS: f64 = 1_200_000.0;
/// How long it was quiet before, for all that is known at first.
const QUIET_MS: f64 = 100_000.0;
/// And how long it was as an earlier term found it.
const AS_BEFORE_MS: f64 = 600_000.0;
/// Arrivals are counted in steps of this length; the first steps are shorter.
const STEP_MS: u64 = 20_000;
const FIRST_STEP_MS: u64 = 2_000;
/// Below so many arrivals a step, the mean itself tells more than the mean root.
const SPARSE_PER_STEP: f64 = 4.0;
/// No group waits longer than this many times the mean wait of all.
const FAIR_WAITS: f64 = 2.75;

/// How often changes come: by the mean root, so that a burst that is over does not have the planner save calls for its
/// repeat.
#[derive(Debug, Clone)]
pub(super) struct ArrivalRate {
    began: Option<Mono>,
    steps: u32,
    in_step: u32,
    /// Weighted by how long ago; `weight` is what the sums would be of ones.
    weight: f64,
    root_sum: f64,
    sum: f64,
    /// The second that lasts, how many came in it, and in the one before.
    second: u64,
    in_second: u32,
    in_last_second: u32,
}

impl Default for ArrivalRate {
    /// As after some quiet minutes: what comes first may be a burst.
    fn default() -> Self {
        let weight = 1.0 - (-QUIET_MS / MEMORY_MS).exp();
        Self { began: None, steps: 0, in_step: 0, weight, root_sum: 0.0, sum: 0.0, second: 0, in_second: 0, in_last_second: 0 }
    }
}

impl ArrivalRate {
    /// What the state kept of an earlier term.
    pub(super) fn restored(per_hour: u64) -> Self {
        if per_hour == 0 {
            return Self::default();
        }
        let (per_second, weight) = (per_hour as f64 / 3_600.0, 1.0 - (-AS_BEFORE_MS / MEMORY_MS).exp());
        Self { weight, root_sum: weight * per_second.sqrt(), sum: weight * per_second, ..Self::default() }
    }

    /// For the state.
    pub(super) fn per_hour(&mut self, now: Mono) -> u64 {
        whole(self.per_second(now) * 3_600.0)
    }

    /// One change comes.
    pub(super) fn arrive(&mut self, now: Mono) {
        self.roll(now);
        self.in_step = self.in_step.saturating_add(1);
        let second = now.0 / 1_000;
        if second != self.second {
            self.in_last_second = if second == self.second + 1 { self.in_second } else { 0 };
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second = self.in_second.saturating_add(1);
    }

    /// How many came within a second just now.
    pub(super) fn in_a_second(&self, now: Mono) -> u32 {
        match (now.0 / 1_000).checked_sub(self.second) {
            Some(0) => self.in_second.max(self.in_last_second),
            Some(1) => self.in_second,
            Some(_) | None => 0,
        }
    }

    /// Closes the steps that are over.
    fn roll(&mut self, now: Mono) {
        let began = *self.began.get_or_insert(now);
        let step_ms = if self.steps < 5 { FIRST_STEP_MS } else { STEP_MS };
        let over = now.since_ms(began) / step_ms;
        if over == 0 {
            return;
        }
        let count = f64::from(std::mem::take(&mut self.in_step));
        self.close(step_ms as f64, count);
        if over > 1 {
            self.close(step_ms as f64 * (over - 1) as f64, 0.0);
        }
        self.steps = self.steps.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        self.began = Some(began.plus_ms(over * step_ms));
    }

    /// A step of `ms` with `count` arrivals.
    fn close(&mut self, ms: f64, count: f64) {
        let kept = (-ms / MEMORY_MS).exp();
        let (per_second, fresh) = (count * 1_000.0 / ms, 1.0 - kept);
        self.weight = self.weight * kept + fresh;
        self.sum = self.sum * kept + per_second * fresh;
        self.root_sum = self.root_sum * kept + per_second.sqrt() * fresh;
    }

    /// Changes a second.
    pub(super) fn per_second(&mut self, now: Mono) -> f64 {
        if self.sum == 0.0 && self.began.is_none() {
            return 0.0;
        }
        self.roll(now);
        let mean = self.sum / self.weight;
        if mean * (STEP_MS as f64) < SPARSE_PER_STEP * 1_000.0 {
            return mean;
        }
        let root = self.root_sum / self.weight;
        root * root
    }
}

/// What is known of one group when the price is solved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) per_second: f64,
    pub(super) weight: f64,
    /// Calls that one flush adds.
    pub(super) calls: f64,
}

/// The price of a call of one API key.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Price {
    /// Waiting-seconds that a call has to save.
    pub(super) waiting_seconds: f64,
    /// The mean wait that is to be expected, in seconds.
    pub(super) mean_wait_s: f64,
    /// The oldest change of a group waits no longer than this, in seconds.
    pub(super) wait_max_s: f64,
    solved_at: Option<Mono>,
}

impl Price {
    /// Whether it is time to solve it anew.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.solved_at.is_none_or(|at| now.since_ms(at) >= PRICE_EVERY_MS)
    }

    /// How often a group of that demand is flushed at this price.
    pub(super) fn flushes_per_second(&self, demand: &Demand) -> f64 {
        if self.waiting_seconds > 0.0 {
            flushes_per_second(demand, self.waiting_seconds, self.wait_max_s)
        } else {
            demand.per_second
        }
    }

    /// The price at which `demands` spend `calls_per_second`; `None` of these is without limit.
    pub(super) fn solve(now: Mono, demands: &[Demand], calls_per_second: Option<f64>) -> Self {
        let free = Self { solved_at: Some(now), ..Self::default() };
        let Some(calls_per_second) = calls_per_second else { return free };
        let singly: f64 = demands.iter().map(|demand| demand.calls * demand.per_second).sum();
        if singly <= calls_per_second {
            return free;
        }
        let mut price = Self { wait_max_s: f64::INFINITY, ..free };
        // Who may not wait so long takes calls from the others, whose waits then grow: two rounds are enough in practice.
        for _ in 0..3 {
            let (mut low, mut high) = (1e-6_f64, 1e15_f64);
            for _ in 0..48 {
                let mu = (low * high).sqrt();
                let spent: f64 =
                    demands.iter().map(|demand| demand.calls * flushes_per_second(demand, mu, price.wait_max_s)).sum();
                if spent > calls_per_second {
                    low = mu;
                } else {
                    high = mu;
                }
            }
            price.waiting_seconds = high;
            // Of all changes alike: one whom weight makes wait less must not have the others go more often than a day pays for.
            let (mut waits, mut changes) = (0.0, 0.0);
            for demand in demands.iter().filter(|demand| demand.per_second > 0.0) {
                waits += demand.per_second * 0.5 / flushes_per_second(demand, high, price.wait_max_s);
                changes += demand.per_second;
            }
            price.mean_wait_s = waits / changes;
            price.wait_max_s = 2.0 * FAIR_WAITS * price.mean_wait_s;
        }
        price
    }
}

fn flushes_per_second(demand: &Demand, mu: f64, wait_max_s: f64) -> f64 {
    let best = (demand.weight * demand.per_second / (2.0 * mu * demand.calls)).sqrt();
    best.max(1.0 / wait_max_s).min(demand.per_second)
}

/// Calls beyond those that flushes are priced with: polls, looks, readings of suppressed contacts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overhead {
    planned: f64,
    made: f64,
}

impl Default for Overhead {
    /// As if nothing else were ever asked for, until it is seen.
    fn default() -> Self {
        Self { planned: 20.0, made: 20.0 }
    }
}

impl Overhead {
    /// A flush was priced with so many calls.
    pub(super) fn plan(&mut self, calls: f64) {
        self.planned += calls;
    }

    /// A call is made.
    pub(super) fn make(&mut self) {
        self.made += 1.0;
        if self.made > 1_000.0 {
            self.made /= 2.0;
            self.planned /= 2.0;
        }
    }

    /// The part of all calls that no flush was priced with; below zero where flushes took fewer than they were priced with.
    pub(super) fn share(self) -> f64 {
        (1.0 - self.planned / self.made).clamp(-0.6, 0.6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(per_second: f64, calls: f64) -> Demand {
        Demand { per_second, weight: 1.0, calls }
    }

    #[test]
    fn with_calls_for_everybody_a_call_costs_nothing() {
        let price = Price::solve(Mono(0), &[demand(0.01, 1.0), demand(0.01, 3.0)], Some(0.115));
        assert_eq!((price.waiting_seconds, price.wait_max_s), (0.0, 0.0));
        assert_eq!(Price::solve(Mono(0), &[demand(1e6, 1.0)], None).waiting_seconds, 0.0);
    }

    #[test]
    fn one_list_waits_half_the_time_between_two_calls() {
        let price = Price::solve(Mono(0), &[demand(277.0, 1.0)], Some(10_000.0 / 86_400.0));
        assert!((price.mean_wait_s - 4.32).abs() < 0.01, "{price:?}");
        assert!((price.waiting_seconds - 277.0 * 8.64 * 8.64 / 2.0).abs() < 10.0, "{price:?}");
    }

    #[test]
    fn no_group_waits_for_long_beside_busy_ones() {
        let demands: Vec<Demand> = (1..=50).map(|rank| demand(100.0 / f64::from(rank * rank), 1.0)).collect();
        let price = Price::solve(Mono(0), &demands, Some(0.115));
        let slowest = flushes_per_second(&demands[49], price.waiting_seconds, price.wait_max_s);
        assert!(0.5 / slowest <= 2.85 * price.mean_wait_s, "{price:?} {slowest}");
    }

    #[test]
    fn weight_moves_calls_between_groups_and_spends_no_more() {
        let budget = 10_000.0 / 86_400.0;
        let demands = |first: f64| -> Vec<Demand> {
            let weight = |rank: u32| if rank == 1 { first } else { 1.0 };
            (1..=50).map(|rank| Demand { weight: weight(rank), ..demand(60.0 / f64::from(rank), 1.0) }).collect()
        };
        let (plain, weighted) = (demands(1.0), demands(20.0));
        let solved = [&plain, &weighted].map(|demands| Price::solve(Mono(0), demands, Some(budget)));
        for (price, demands) in solved.iter().zip([&plain, &weighted]) {
            let spent: f64 = demands.iter().map(|demand| price.flushes_per_second(demand)).sum();
            assert!((spent / budget - 1.0).abs() < 0.01, "{spent} of {budget}: {price:?}");
        }
        let first = [0, 1].map(|index| 0.5 / solved[index].flushes_per_second(&[&plain, &weighted][index][0]));
        assert!(first[0] / first[1] > 3.3, "{first:?}");
        assert!(solved[1].mean_wait_s < 1.25 * solved[0].mean_wait_s, "{solved:?}");
    }

    #[test]
    fn steady_arrivals_are_told_from_a_burst() {
        let mut steady = ArrivalRate::default();
        (0..180_000_u64).for_each(|at| steady.arrive(Mono(at * 20)));
        let rate = steady.per_second(Mono(3_600_000));
        assert!((rate - 50.0).abs() < 3.0, "{rate}");
        let mut burst = ArrivalRate::default();
        (0..60_000_u64).for_each(|at| burst.arrive(Mono(at / 1_000)));
        let rate = burst.per_second(Mono(1_200_000));
        assert!(rate < 2.0, "{rate}: 50 a second on the mean, all of them at once");
    }

    #[test]
    fn the_next_term_knows_what_came_before_and_learns_anew() {
        let mut steady = ArrivalRate::default();
        (0..180_000_u64).for_each(|at| steady.arrive(Mono(at * 20)));
        let mut next = ArrivalRate::restored(steady.per_hour(Mono(3_600_000)));
        let rate = next.per_second(Mono(0));
        assert!((rate - 50.0).abs() < 3.0, "{rate}");
        let rate = next.per_second(Mono(3_600_000));
        assert!(rate < 3.0, "{rate}: nothing came for an hour");
    }

    #[test]
    fn few_arrivals_count_by_their_mean() {
        let mut few = ArrivalRate::default();
        (0..180_u64).for_each(|at| few.arrive(Mono(at * 20_000)));
        let rate = few.per_second(Mono(3_600_000));
        assert!((rate - 0.05).abs() < 0.005, "{rate}");
    }
}
