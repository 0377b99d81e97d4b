//! The least mean delay that any planner without knowledge of the future can reach.
//!
//! Groups with rates λ and weights w, each flush at the price of q calls, c calls in s seconds: the rates of flushes that
//! minimise the weighted mean wait are f = √(wλ/2μq), with one μ for all; a group is never flushed more often than it
//! changes, and a change that is sent by itself has not waited.

/// One group: changes of one list that go out together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Changes a second.
    pub per_second: f64,
    /// How much one of them counts.
    pub weight: f64,
    /// Calls of one flush.
    pub calls: f64,
}

/// The rate of flushes of a group at a price of `mu` change-seconds a call.
fn flushes(group: &Group, mu: f64) -> f64 {
    (group.weight * group.per_second / (2.0 * mu * group.calls)).sqrt().min(group.per_second)
}

/// The price of a call, in change-seconds, at which groups spend `calls_per_second`; 0 where all can be sent singly.
fn price(groups: &[Group], calls_per_second: f64) -> f64 {
    let singly: f64 = groups.iter().map(|group| group.calls * group.per_second).sum();
    if singly <= calls_per_second {
        return 0.0;
    }
    let (mut low, mut high) = (1e-9_f64, 1e15_f64);
    for _ in 0..200 {
        let mu = (low * high).sqrt();
        let spent: f64 = groups.iter().map(|group| group.calls * flushes(group, mu)).sum();
        if spent > calls_per_second {
            low = mu;
        } else {
            high = mu;
        }
    }
    high
}

/// How often each group is flushed in a second.
#[must_use]
pub fn flushes_per_second(groups: &[Group], calls_per_second: f64) -> Vec<f64> {
    let price = price(groups, calls_per_second);
    groups.iter().map(|group| flushes(group, price)).collect()
}

/// Mean wait in seconds, over all changes by weight, with `calls_per_second` to spend.
#[must_use]
pub fn mean_wait_seconds(groups: &[Group], calls_per_second: f64) -> f64 {
    let groups: Vec<Group> = groups.iter().copied().filter(|group| group.per_second > 0.0).collect();
    let price = price(&groups, calls_per_second);
    if price <= 0.0 {
        return 0.0;
    }
    let weight: f64 = groups.iter().map(|group| group.weight * group.per_second).sum();
    let waits = groups.iter().map(|group| {
        let wait = 0.5 * (1.0 / flushes(group, price) - 1.0 / group.per_second).max(0.0);
        group.weight * group.per_second * wait
    });
    waits.sum::<f64>() / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zipf(groups: usize, per_second: f64, entries: f64) -> Vec<Group> {
        super::super::load::shares(groups)
            .into_iter()
            .flat_map(|share| {
                [(entries, 1.0), (1.0 - entries, 2.0)].map(|(part, calls)| Group {
                    per_second: per_second * share * part,
                    weight: 1.0,
                    calls,
                })
            })
            .collect()
    }

    #[test]
    fn it_is_what_the_closed_form_says() {
        let calls = 10_000.0 / 86_400.0;
        for (groups, seconds) in [(zipf(1, 278.0, 0.7), 11.2), (zipf(50, 278.0, 0.7), 405.0), (zipf(20, 278.0, 0.7), 180.0)] {
            let wait = mean_wait_seconds(&groups, calls);
            assert!((wait - seconds).abs() / seconds < 0.01, "{wait} instead of {seconds}");
        }
    }

    #[test]
    fn what_can_be_sent_singly_does_not_wait() {
        assert!(mean_wait_seconds(&zipf(5, 0.05, 0.7), 10_000.0 / 86_400.0) < f64::EPSILON);
    }
}
