//! A plan's result.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Scenario, bound,
    load::shares,
    measure::{Distribution, Figures, GroupMeasure},
    sends::Sends,
    vendor::Vendor,
};
use crate::model::{call::CallKind, catalog::Catalog, time::UnixMillis, whole};

/// What to expect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Changes that came.
    pub events: u64,
    /// Those that the vendor confirmed.
    pub applied: u64,
    /// Those that were not applied at the end; they are counted with the age that they had.
    pub unapplied_at_end: u64,
    /// Requests made, token requests apart.
    pub calls: u64,
    /// By what they were for.
    pub calls_by_kind: BTreeMap<&'static str, u64>,
    /// The most of them in one day of UTC.
    pub calls_in_a_day_max: u64,
    /// What the key allows.
    pub calls_per_day_limit: u32,
    /// From the change's timestamp to the end of the activity that made the list agree.
    pub freshness_seconds: Figures,
    /// The same without the vendor's own time.
    pub own_delay_seconds: Figures,
    /// The least mean own delay that any planner could reach with these calls.
    pub bound_seconds: f64,
    /// Mean own delay by the bound; `null` where the bound is 0.
    pub ratio_to_bound: Option<f64>,
    /// The mean own delay of the group that waits longest, by the mean of all.
    pub worst_group_ratio: f64,
    /// From an activity's end until a poll read it.
    pub confirmation_seconds: MeanMax,
    /// Rows of one list in any hour.
    pub profiles_in_an_hour_max: u64,
    /// Whether the backlog towards the end is no larger than about half time and nothing was held but by the hourly ceiling,
    /// or for the last minutes of a day.
    pub fits: bool,
    /// Why something was held, in the words of metrics.
    pub held: Vec<&'static str>,
    /// What would help, where it does not fit.
    pub advice: Vec<String>,
    /// Calls in each hour of the run.
    pub calls_by_hour: Vec<u64>,
    /// Most calls in a second.
    pub calls_in_a_second_max: usize,
    /// Most activities of one account that were open at once.
    pub open_activities_max: usize,
    /// Mean own delay of each list, in seconds, the busiest first.
    pub own_delay_by_list_seconds: Vec<f64>,
    /// Times, in seconds since the run began, at which the vendor refused a call because the day was spent.
    #[serde(skip)]
    pub refused_at_seconds: Vec<f64>,
    /// Most imports of one profile that flaps into its list within 24 hours.
    #[serde(skip)]
    pub sends_in_a_day_max: usize,
    /// Profiles that flap and were not sent as they are wanted at the end.
    #[serde(skip)]
    pub flapping_behind: usize,
    /// From a change until the request that has it, in seconds: adds of profiles that do not flap, where some do.
    #[serde(skip)]
    pub others_waited_seconds: f64,
    /// Rows that were applied in each minute of the run.
    #[serde(skip)]
    pub applied_by_minute: BTreeMap<i64, u64>,
}

/// A distribution in two numbers, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanMax {
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

/// What a run measured.
pub(super) struct Measured<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) groups: &'a [[GroupMeasure; 2]],
    pub(super) confirmation: &'a Distribution,
    pub(super) vendor: &'a Vendor,
    pub(super) profiles_in_an_hour_max: u64,
    pub(super) held: &'a BTreeSet<&'static str>,
    pub(super) held_others: bool,
    pub(super) backlog: u64,
    /// The backlog towards the end was no larger than about half time.
    pub(super) keeps_up: bool,
    pub(super) applied_by_minute: &'a BTreeMap<i64, u64>,
    pub(super) began: UnixMillis,
    pub(super) sends: Option<&'a Sends>,
    pub(super) behind: usize,
}

/// What changes together: the adds and the removals of each export, in turn.
pub(super) fn groups(scenario: &Scenario, catalog: &Catalog) -> Vec<bound::Group> {
    let shares = catalog.exports.iter().zip(shares(catalog.exports.len()));
    let both = shares.flat_map(|(export, share)| {
        [(scenario.entries, 1.0), (1.0 - scenario.entries, 2.0)].map(|(part, calls)| bound::Group {
            per_second: scenario.events_per_second * share * part,
            weight: f64::from(export.weight),
            calls,
        })
    });
    both.collect()
}

/// What would make it fit.
fn advice(scenario: &Scenario, measured: &Measured<'_>) -> Vec<String> {
    let mut advice = Vec::new();
    if !scenario.staging && scenario.entries < 1.0 {
        advice.push("allow removals by staging lists (--staging; exports.*.removals.strategies)".to_owned());
    }
    let per_hour = scenario.events_per_second * 3_600.0 * shares(measured.catalog.exports.len())[0];
    if scenario.profiles_per_hour_max.is_some_and(|max| per_hour > max as f64) {
        advice.push(
            "divide the largest export over several lists: one may move so many profiles in an hour, and gets more".to_owned(),
        );
    }
    if scenario.calls_per_day <= 10_000 {
        advice.push("ask Constant Contact for a partner key (10 requests a second, 250,000 a day; --calls-per-day 250000 --calls-per-second 10)".to_owned());
    }
    advice
}

pub(super) fn report(scenario: &Scenario, measured: &Measured<'_>) -> Report {
    let (mut age, mut own) = (Distribution::default(), Distribution::default());
    for group in measured.groups.iter().flatten() {
        age.merge(&group.age);
        own.merge(&group.own);
    }
    let events = measured.groups.iter().flatten().map(|group| group.arrived).sum();
    let mean = own.mean_seconds();
    let worst = measured.groups.iter().flatten().map(|group| group.own.mean_seconds()).fold(0.0, f64::max);
    let groups = groups(scenario, measured.catalog);
    let bound_seconds = bound::mean_wait_seconds(&groups, scenario.calls_for_us() / 86_400.0);
    let own_by_list = measured.groups.iter().map(|[adds, removals]| {
        let mut all = adds.own.clone();
        all.merge(&removals.own);
        all
    });
    let own_by_list: Vec<Distribution> = own_by_list.collect();
    // The bound is one for changes by weight.
    let (waits, changes) =
        measured.catalog.exports.iter().zip(&own_by_list).fold((0.0, 0.0), |(waits, changes), (export, own)| {
            let weighted = f64::from(export.weight) * own.count() as f64;
            (waits + weighted * own.mean_seconds(), changes + weighted)
        });
    let calls = &measured.vendor.calls;
    let fits = measured.keeps_up && !measured.held_others;
    let began_hour = measured.began.0.div_euclid(3_600_000);
    let hours = whole(scenario.hours.ceil()).cast_signed().max(1);
    Report {
        events,
        applied: events - measured.backlog,
        unapplied_at_end: measured.backlog,
        calls: calls.values().sum(),
        calls_by_kind: CallKind::ALL.iter().map(|kind| (kind.as_str(), calls.get(kind).copied().unwrap_or(0))).collect(),
        calls_in_a_day_max: measured.vendor.calls_in_a_day_max,
        calls_per_day_limit: scenario.calls_per_day,
        freshness_seconds: age.figures(),
        own_delay_seconds: own.figures(),
        bound_seconds,
        ratio_to_bound: (bound_seconds > 0.0 && changes > 0.0).then(|| waits / changes / bound_seconds),
        worst_group_ratio: if mean > 0.0 { worst / mean } else { 1.0 },
        confirmation_seconds: MeanMax { mean: measured.confirmation.mean_seconds(), max: measured.confirmation.max_seconds() },
        profiles_in_an_hour_max: measured.profiles_in_an_hour_max,
        fits,
        held: measured.held.iter().copied().collect(),
        advice: if fits { Vec::new() } else { advice(scenario, measured) },
        calls_by_hour: (0..hours)
            .map(|hour| measured.vendor.calls_by_hour.get(&(began_hour + hour)).copied().unwrap_or(0))
            .collect(),
        calls_in_a_second_max: measured.vendor.calls_in_a_second_max,
        open_activities_max: measured.vendor.open_max,
        own_delay_by_list_seconds: own_by_list.iter().map(Distribution::mean_seconds).collect(),
        refused_at_seconds: measured.vendor.refused_at.iter().map(|at| at.since_ms(measured.began) as f64 / 1_000.0).collect(),
        sends_in_a_day_max: measured.sends.map_or(0, |sends| sends.in_a_day_max),
        flapping_behind: measured.behind,
        others_waited_seconds: measured.sends.map_or(0.0, |sends| sends.waited.mean_seconds()),
        applied_by_minute: measured
            .applied_by_minute
            .iter()
            .map(|(minute, rows)| (minute - measured.began.0.div_euclid(60_000), *rows))
            .collect(),
    }
}
