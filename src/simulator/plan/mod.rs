//! What to expect of a load: the real engine in virtual time, with a vendor that takes calls and counts them.
//!
//! A plan answers how fresh the lists will be with the day's calls, and when it will not do. It knows no faults (that is
//! what `world` is for); the vendor's times are an assumption: 20 s an activity and a second for 1,000 rows. The stage has
//! been at work for days: what comes usually and what activities take are in its state, and nothing of what is to come.

pub mod bound;
mod catalog;
mod load;
mod measure;
pub mod report;
mod run;
mod sends;
mod vendor;

pub use catalog::of_application;
pub use load::shares;
pub use measure::{Distribution, Figures};
pub use report::Report;
pub use run::run;

use std::sync::Arc;

use crate::model::{
    catalog::Catalog,
    time::{DAY_MS, UnixMillis},
    whole,
};

/// How the vendor works on an account's activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VendorKind {
    /// Side by side, each in the time that its rows take.
    Parallel,
    /// Side by side, in times that scatter by 30 %.
    Scattered,
    /// One after the other.
    Serial,
}

/// Changes that come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// How many.
    pub events: u64,
    /// When: milliseconds after midnight of UTC.
    pub at_ms: i64,
}

impl Burst {
    /// When it comes in a run that began then.
    fn first_after(self, began: UnixMillis) -> UnixMillis {
        let today = began.day().start().plus_ms(self.at_ms);
        if today < began { today.plus_ms(DAY_MS) } else { today }
    }
}

/// The load, the limits and the vendor of one plan.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The configuration whose exports are fed; without one, they are made of `lists` and `connections`.
    pub catalog: Option<Arc<Catalog>>,
    /// Changes a second, a Poisson process.
    pub events_per_second: f64,
    /// Hours of load.
    pub hours: f64,
    /// Lists of each connection.
    pub lists: u16,
    /// Connections that share the API key.
    pub connections: u16,
    /// Part of the changes that are entries; the others are exits.
    pub entries: f64,
    /// Members of all lists when it begins.
    pub members: u64,
    /// Changes that come at once, beside the steady ones.
    pub burst: Option<Burst>,
    /// Calls of the first day that are spent already.
    pub spent_calls: u32,
    /// When it begins: milliseconds after midnight of UTC.
    pub start_ms: i64,
    /// The key's requests in a day of UTC.
    pub calls_per_day: u32,
    /// The key's requests in a second.
    pub calls_per_second: u32,
    /// How the vendor works.
    pub vendor: VendorKind,
    /// Removals by staging lists are allowed.
    pub staging: bool,
    /// Profiles of one export in an hour; `None` lifts the ceiling.
    pub profiles_per_hour_max: Option<u64>,
    /// Part of the day's requests that the configuration leaves to others, in percent.
    pub left_to_others_percent: u8,
    /// Requests that others spend with the key, of which nobody told: evenly over the day.
    pub spent_by_others_calls: u32,
    /// One list that has another weight than 1, counted from the busiest, which is 0; and its weight.
    pub weighted: Option<(u16, u32)>,
    /// One in a hundred profiles changes so often in a day. With `Some`, the sends of each profile are watched.
    pub flaps_per_day: Option<u32>,
    /// After the load, how much longer it runs, to see what is left applied.
    pub after_ms: i64,
    /// Decides arrivals and the vendor's times.
    pub seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            catalog: None,
            events_per_second: 277.0,
            hours: 24.0,
            lists: 1,
            connections: 1,
            entries: 0.7,
            members: 2_000_000,
            burst: None,
            spent_calls: 0,
            start_ms: 0,
            calls_per_day: 10_000,
            calls_per_second: 4,
            vendor: VendorKind::Parallel,
            staging: false,
            profiles_per_hour_max: Some(1_000_000),
            left_to_others_percent: 0,
            spent_by_others_calls: 0,
            weighted: None,
            flaps_per_day: None,
            after_ms: 0,
            seed: 1,
        }
    }
}

impl Scenario {
    fn duration_ms(&self) -> i64 {
        whole(self.hours * 3_600_000.0).cast_signed()
    }

    /// The share of the day's calls that we may spend.
    fn calls_for_us(&self) -> f64 {
        f64::from(self.calls_per_day) * f64::from(100 - self.left_to_others_percent.min(100)) / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_fits_if_its_backlog_does_not_grow() {
        let steady = Scenario { events_per_second: 2.0, hours: 2.0, lists: 10, calls_per_day: 3_000, ..Scenario::default() };
        let steady = Scenario { members: 10_000, staging: true, ..steady };
        let report = run(&steady);
        assert!(report.fits && report.unapplied_at_end > 100, "{report:?}");
        assert!(report.ratio_to_bound.is_some_and(|ratio| ratio < 2.0), "{report:?}");
        let grows = Scenario { profiles_per_hour_max: Some(500), lists: 1, ..steady };
        let report = run(&grows);
        assert!(!report.fits && report.held.contains(&"profiles_per_hour"), "{report:?}");
        assert!(report.advice.iter().any(|advice| advice.contains("several lists")), "{:?}", report.advice);
    }
}
