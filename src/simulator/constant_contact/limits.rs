//! The limits of an API key: requests in any second, requests in a day of UTC.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::config::VendorConfig;
use crate::model::{Text, time::UnixMillis};

/// A request that came although a limit was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which limit: `calls_per_second`, `calls_per_day` or `token_calls_per_second`.
    pub rule: &'static str,
    /// When, in milliseconds since 1970.
    pub at: UnixMillis,
    /// What was asked for, and how many came before it.
    pub detail: String,
}

/// Violations kept with their text; more are counted only.
const VIOLATIONS_KEPT_MAX: usize = 1_000;

/// A second that slides.
#[derive(Debug, Default)]
struct Window(VecDeque<UnixMillis>);

impl Window {
    fn slide(&mut self, now: UnixMillis) -> usize {
        while self.0.front().is_some_and(|at| now.since_ms(*at) >= 1_000) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

#[derive(Debug, Default)]
struct KeyUse {
    arrived: Window,
    admitted: Window,
    day: i64,
    in_day: u64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Second,
    Day,
}

/// What came, and what was above a limit.
#[derive(Debug, Default)]
pub(super) struct Limits {
    keys: BTreeMap<Text, KeyUse>,
    tokens: BTreeMap<Text, Window>,
    pub(super) max_in_a_second: u64,
    pub(super) by_day: BTreeMap<i64, u64>,
    pub(super) violations: Vec<Violation>,
    pub(super) violations_count: u64,
}

impl Limits {
    /// Counts a request of an API key, and says whether it is above a limit.
    pub(super) fn admit(&mut self, key: &str, now: UnixMillis, config: &VendorConfig, what: &str) -> Option<Excess> {
        let (per_second, per_day) = (config.calls_per_second, config.calls_per_day);
        let day = now.day().0;
        *self.by_day.entry(day).or_default() += 1;
        let used = self.keys.entry(Text::new(key)).or_default();
        if used.day != day {
            (used.day, used.in_day) = (day, 0);
        }
        used.in_day += 1;
        used.arrived.slide(now);
        used.arrived.0.push_back(now);
        self.max_in_a_second = self.max_in_a_second.max(used.arrived.0.len() as u64);
        let in_day = used.in_day;
        if per_day.is_some_and(|max| in_day > u64::from(max)) {
            self.violation("calls_per_day", now, format!("{what}: request {in_day} of the day"));
            return Some(Excess::Day);
        }
        let before = used.admitted.slide(now);
        if per_second.is_some_and(|max| before >= max as usize) {
            used.in_day -= u64::from(!config.refused_calls_counted);
            self.violation("calls_per_second", now, format!("{what}: after {before} in the second before it"));
            return Some(Excess::Second);
        }
        used.admitted.0.push_back(now);
        None
    }

    /// Counts a request of an API key to the token endpoint; true when it is above its limit.
    pub(super) fn token_exceeds(&mut self, key: &str, now: UnixMillis, per_second: Option<u32>) -> bool {
        let window = self.tokens.entry(Text::new(key)).or_default();
        let before = window.slide(now);
        if per_second.is_none_or(|max| before < max as usize) {
            window.0.push_back(now);
            return false;
        }
        self.violation("token_calls_per_second", now, format!("after {before} in the second before it"));
        true
    }

    fn violation(&mut self, rule: &'static str, at: UnixMillis, detail: String) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_KEPT_MAX {
            self.violations.push(Violation { rule, at, detail });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_second_and_any_day_count() {
        let mut limits = Limits::default();
        let config = VendorConfig { calls_per_second: Some(4), calls_per_day: Some(8), ..VendorConfig::default() };
        let mut at = |ms: i64| limits.admit("key", UnixMillis(ms), &config, "GET /");
        assert!([0, 300, 600, 900].iter().all(|&ms| at(ms).is_none()));
        assert_eq!(at(999), Some(Excess::Second), "a second that begins anywhere");
        assert_eq!(at(1_000), None, "the first left the window");
        assert_eq!(at(5_000), None);
        assert_eq!(at(6_000), None, "refused ones count towards the day");
        assert_eq!(at(7_000), Some(Excess::Day));
        assert_eq!(at(86_400_000), None, "a new day");
        assert_eq!(limits.max_in_a_second, 5);
        assert_eq!(
            limits.violations.iter().map(|violation| violation.rule).collect::<Vec<_>>(),
            ["calls_per_second", "calls_per_day"]
        );
        assert!(limits.admit("other", UnixMillis(86_400_000), &config, "GET /").is_none(), "each key its own");
    }

    #[test]
    fn a_call_refused_for_its_second_may_not_count_towards_the_day() {
        for (refused_calls_counted, expected) in [(true, Some(Excess::Day)), (false, None)] {
            let config = VendorConfig {
                calls_per_second: Some(1),
                calls_per_day: Some(2),
                refused_calls_counted,
                ..VendorConfig::default()
            };
            let mut limits = Limits::default();
            let mut at = |ms: i64| limits.admit("key", UnixMillis(ms), &config, "GET /");
            assert_eq!((at(0), at(10)), (None, Some(Excess::Second)));
            assert_eq!(at(5_000), expected);
        }
    }
}
