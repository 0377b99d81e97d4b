//! The planner's figures in virtual time, beside the bound and beside three simpler policies: each row is a load, what it
//! must reach, and what it reaches. Run it with `cargo bench --bench planner [-- WORD]`; WORD keeps the rows that hold it.
//!
//! The simpler policies are simulated here by the counts of their groups alone, with the same arrivals' rates, as many calls
//! for flushes as the run beside them made, and everything at its time: nothing is read, counted or waited for before it.
//! *Tokens*: calls accrue evenly, the group with the most waiting a call goes first. *Equal intervals*: all groups as often.
//! *A fixed linger* of 10 s. Beside each mean is the worst group's, in means.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use listkeeper::simulator::plan::{self, Burst, Report, Scenario, VendorKind};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// One thing that a row must reach.
struct Aim {
    what: String,
    reached: bool,
}

fn aim(what: String, reached: bool) -> Aim {
    Aim { what, reached }
}

/// `value` is at most `max`.
fn at_most(what: &str, value: f64, max: f64) -> Aim {
    aim(format!("{what} {value:.2} (at most {max:.2})"), value <= max)
}

fn at_least(what: &str, value: f64, min: f64) -> Aim {
    aim(format!("{what} {value:.2} (at least {min:.2})"), value >= min)
}

type Check = Box<dyn Fn(&Report) -> Vec<Aim>>;

struct Row {
    name: &'static str,
    scenario: Scenario,
    check: Check,
    /// The simpler policies make sense beside it.
    steady: bool,
}

/// What all rows have in common.
fn common() -> Scenario {
    Scenario { events_per_second: 278.0, members: 300_000, staging: true, profiles_per_hour_max: None, ..Scenario::default() }
}

fn fifty() -> Scenario {
    Scenario { lists: 50, ..common() }
}

/// What rows with a weight are measured beside.
static WITHOUT_WEIGHT: LazyLock<Report> = LazyLock::new(|| plan::run(&fifty()));

fn scattered(scenario: Scenario) -> Scenario {
    Scenario { vendor: VendorKind::Scattered, ..scenario }
}

fn own(report: &Report) -> f64 {
    report.own_delay_seconds.mean
}

/// Mean own delay where each change counts by its list's weight.
fn by_weight(report: &Report) -> f64 {
    report.ratio_to_bound.unwrap_or(0.0) * report.bound_seconds
}

fn vs_bound(report: &Report, max: f64) -> Aim {
    let ratio = own(report) / report.bound_seconds;
    aim(
        format!("own {:.1} s = {ratio:.2} x W0 {:.1} s (at most {max:.2} x)", own(report), report.bound_seconds),
        ratio <= max && ratio >= 0.95,
    )
}

fn fair(report: &Report) -> Vec<Aim> {
    vec![
        at_most("worst group / mean", report.worst_group_ratio, 3.0),
        at_most("oldest / mean", report.own_delay_seconds.max / own(report), 8.0),
    ]
}

fn calls(report: &Report, max: u64) -> Aim {
    at_most("calls", report.calls as f64, max as f64)
}

fn confirmed(report: &Report) -> Vec<Aim> {
    vec![
        at_most("confirmed after, mean s", report.confirmation_seconds.mean, 600.0),
        at_most("max s", report.confirmation_seconds.max, 1_800.0),
    ]
}

/// Each full hour spends 70 to 130 % of an even share.
fn even(report: &Report, per_day: f64) -> Aim {
    let hours = &report.calls_by_hour[..report.calls_by_hour.len().min(24)];
    let share = per_day / 24.0;
    let (least, most) = hours
        .iter()
        .fold((f64::MAX, 0.0_f64), |(least, most), calls| (least.min(*calls as f64 / share), most.max(*calls as f64 / share)));
    aim(format!("hours {:.0}-{:.0} % of an even share (70-130)", least * 100.0, most * 100.0), least >= 0.7 && most <= 1.3)
}

/// Part of the changes that were applied before this minute of the run.
fn part_before(report: &Report, minute: i64) -> f64 {
    let before: u64 = report.applied_by_minute.range(..minute).map(|(_, rows)| rows).sum();
    before as f64 / report.events as f64
}

/// Changes that were applied in each minute from that of the run on.
fn by_minute(report: &Report, from: i64) -> Vec<u64> {
    report.applied_by_minute.range(from..).map(|(_, rows)| *rows).collect()
}

fn burst(events: u64, hour: i64, minute: i64) -> Option<Burst> {
    Some(Burst { events, at_ms: hour * HOUR_MS + minute * MINUTE_MS })
}

/// Nothing but one burst: `minutes` of watching, from a minute before it.
fn only_burst(events: u64, hour: i64, minute: i64, minutes: i64) -> Scenario {
    Scenario {
        events_per_second: 0.0,
        start_ms: hour * HOUR_MS + (minute - 1) * MINUTE_MS,
        hours: minutes as f64 / 60.0,
        burst: burst(events, hour, minute),
        ..common()
    }
}

fn all_applied(report: &Report) -> Aim {
    at_most("not applied", report.unapplied_at_end as f64, 0.0)
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name, steady, scenario, check: Check| rows.push(Row { name, scenario, check, steady });
    let million = || Scenario { entries: 1.0, members: 1_000, ..only_burst(1_000_000, 12, 0, 40) };
    row(
        "1,000,000 entries, one list",
        false,
        million(),
        Box::new(|r| vec![all_applied(r), calls(r, 34), at_most("s", r.freshness_seconds.max, 75.0)]),
    );
    let serial = Scenario { vendor: VendorKind::Serial, hours: 2.0, ..million() };
    row("1,000,000 entries, serial vendor", false, serial, Box::new(|r| vec![all_applied(r), calls(r, 70)]));
    let removals = || Scenario { entries: 0.0, members: 2_000_000, ..only_burst(1_000_000, 12, 0, 90) };
    row(
        "1,000,000 removals of 2,000,000",
        false,
        removals(),
        Box::new(|r| vec![all_applied(r), calls(r, 90), at_most("s", r.freshness_seconds.max, 360.0)]),
    );
    let serial = Scenario { vendor: VendorKind::Serial, hours: 2.0, ..removals() };
    row(
        "1,000,000 removals, serial vendor",
        false,
        serial,
        Box::new(|r| vec![all_applied(r), calls(r, 120), at_most("s", r.freshness_seconds.max, 3_600.0)]),
    );
    let one = || Scenario { events_per_second: 277.0, profiles_per_hour_max: Some(1_000_000), ..common() };
    let one_check = |max: f64| -> Check {
        Box::new(move |r| {
            let mut aims = vec![vs_bound(r, max), at_most("p95 of age", r.freshness_seconds.p95, 120.0), calls(r, 10_000)];
            aims.push(even(r, 10_000.0));
            aims.push(at_most("profiles in an hour", r.profiles_in_an_hour_max as f64, 1_000_000.0));
            aims.extend(confirmed(r));
            aims
        })
    };
    row("277/s, one list", true, one(), one_check(1.5));
    row("277/s, one list, scattered", false, scattered(one()), one_check(1.8));
    let many_check = |max: f64| -> Check {
        Box::new(move |r| {
            let mut aims = vec![vs_bound(r, max), calls(r, 10_000), even(r, 10_000.0)];
            aims.extend(fair(r));
            aims.extend(confirmed(r));
            aims
        })
    };
    row("278/s, 50 lists", true, fifty(), many_check(1.25));
    row("278/s, 50 lists, scattered", false, scattered(fifty()), many_check(1.25));
    let twenty = || Scenario { connections: 20, ..common() };
    row("278/s, 20 connections", true, twenty(), many_check(1.45));
    row("278/s, 20 connections, scattered", false, scattered(twenty()), many_check(1.45));
    for (name, entries, max) in [("one lone add", 1.0, 3), ("one lone removal", 0.0, 4)] {
        let lone = Scenario { entries, members: 1_000, ..only_burst(1, 12, 0, 40) };
        row(
            name,
            false,
            lone,
            Box::new(move |r| {
                vec![
                    all_applied(r),
                    calls(r, max),
                    at_most("own s", own(r), 2.0),
                    at_most("known after s", r.confirmation_seconds.max, 5.0),
                ]
            }),
        );
    }
    let quiet = |events_per_second| Scenario { events_per_second, lists: 5, members: 10_000, ..common() };
    row(
        "quiet: 0.01/s, 5 lists",
        false,
        quiet(0.01),
        Box::new(|r| vec![at_most("own mean s", own(r), 2.0), at_most("p95 s", r.own_delay_seconds.p95, 3.0), calls(r, 10_000)]),
    );
    row(
        "nearly quiet: 0.05/s, 5 lists",
        false,
        quiet(0.05),
        Box::new(|r| vec![at_most("own mean s", own(r), 15.0), calls(r, 10_000)]),
    );
    let late = |entries, spent_calls| Scenario { entries, spent_calls, members: 1_000_000, ..only_burst(500_000, 23, 50, 20) };
    row(
        "500,000 adds at 23:50, 9,900 spent",
        false,
        late(1.0, 9_900),
        Box::new(|r| vec![at_least("before midnight", part_before(r, 11), 1.0), calls(r, 25)]),
    );
    row(
        "500,000 removals at 23:50, 9,900 spent",
        false,
        late(0.0, 9_900),
        Box::new(|r| vec![at_least("before midnight", part_before(r, 11), 1.0), calls(r, 50)]),
    );
    let spread = Scenario { lists: 50, ..late(0.7, 9_900) };
    row(
        "500,000 at 23:50 over 50 lists, 9,900 spent",
        false,
        spread,
        Box::new(|r| {
            vec![
                at_least("before midnight", part_before(r, 11), 0.85),
                at_least("2 min after", part_before(r, 13), 1.0),
                at_most("calls on a day", r.calls_in_a_day_max as f64, 10_000.0),
            ]
        }),
    );
    row(
        "500,000 adds at 23:50, 9,990 spent",
        false,
        late(1.0, 9_990),
        Box::new(|r| {
            vec![at_least("before midnight", part_before(r, 11), 0.7), at_least("2 min after", part_before(r, 13), 1.0)]
        }),
    );
    let noon = Scenario { events_per_second: 139.0, lists: 50, burst: burst(1_000_000, 12, 0), ..common() };
    row(
        "139/s over 50 lists, 1,000,000 at noon",
        false,
        noon,
        Box::new(|r| {
            let after = r.calls_by_hour[12..16].iter().min().copied().unwrap_or(0);
            vec![
                at_most("own mean s", own(r), 1.25 * 405.0),
                at_least("calls in each of the four hours after", after as f64, 1.0),
            ]
        }),
    );
    let left = |lists| Scenario { lists, left_to_others_percent: 20, ..common() };
    for (name, lists, max) in [("2,000 left to others, one list", 1, 1.5), ("2,000 left to others, 50 lists", 50, 1.25)] {
        row(name, false, left(lists), Box::new(move |r| vec![vs_bound(r, max), calls(r, 8_000)]));
    }
    let unannounced = Scenario { spent_by_others_calls: 2_000, after_ms: 8 * MINUTE_MS, ..common() };
    row(
        "2,000 spent by others, unannounced",
        false,
        unannounced,
        Box::new(|r| {
            let refused = &r.refused_at_seconds;
            let probes = refused.windows(2).all(|pair| pair[1] - pair[0] >= 3_500.0);
            vec![
                aim(format!("refused {} times, an hour apart: {probes}", refused.len()), probes && !refused.is_empty()),
                aim(format!("applied in the minutes after midnight: {:?}", by_minute(r, 1_440)), true),
                at_most(
                    "applied later than 5 min after midnight",
                    r.applied_by_minute.range(1_445..).map(|(_, rows)| rows).sum::<u64>() as f64,
                    0.0,
                ),
                all_applied(r),
            ]
        }),
    );
    let partner = |lists| Scenario { lists, calls_per_day: 250_000, calls_per_second: 10, ..common() };
    for (name, lists) in [("partner key, one list", 1), ("partner key, 50 lists", 50)] {
        row(
            name,
            false,
            partner(lists),
            Box::new(move |r| {
                let delay = if lists == 1 { at_most("own mean s", own(r), 2.5) } else { vs_bound(r, 1.3) };
                vec![
                    delay,
                    at_most("calls in a second", r.calls_in_a_second_max as f64, 10.0),
                    at_most("open", r.open_activities_max as f64, 1_000.0),
                    calls(r, 250_000),
                ]
            }),
        );
    }
    // The busiest list is weighed against all others; one in the middle takes little from them.
    for (name, list) in [("weight 20 for the busiest of 50 lists", 0), ("weight 20 for the tenth of 50 lists", 9)] {
        row(
            name,
            false,
            Scenario { weighted: Some((list, 20)), ..fifty() },
            Box::new(move |r| {
                let without = &*WITHOUT_WEIGHT;
                let own_delay = |report: &Report| report.own_delay_by_list_seconds[usize::from(list)];
                let rises = |with: f64, without: f64| (with / without - 1.0) * 100.0;
                vec![
                    at_least("its own delay falls by a factor of", own_delay(without) / own_delay(r), 3.3),
                    at_most("the mean of all, by weight, rises by %", rises(by_weight(r), own(without)), 10.0),
                    at_most("by weight x W0", by_weight(r) / r.bound_seconds, 1.25),
                    aim(format!("the mean of all, each alike, rises by {:.1} %", rises(own(r), own(without))), true),
                    calls(r, 10_000),
                    even(r, 10_000.0),
                ]
            }),
        );
    }
    let serial = Scenario { vendor: VendorKind::Serial, events_per_second: 277.0, ..common() };
    row(
        "277/s, one list, serial vendor",
        false,
        serial,
        Box::new(|r| {
            vec![
                at_most("mean age s", r.freshness_seconds.mean, 600.0),
                aim("backlog does not grow".into(), r.unapplied_at_end < 400_000),
            ]
        }),
    );
    let ceiling = Scenario {
        events_per_second: 300.0,
        hours: 12.0,
        profiles_per_hour_max: Some(1_000_000),
        after_ms: 3 * HOUR_MS,
        ..common()
    };
    row(
        "300/s for 12 h, ceiling 1,000,000/h",
        false,
        ceiling,
        Box::new(|r| {
            vec![
                at_most("profiles in an hour", r.profiles_in_an_hour_max as f64, 1_000_000.0),
                aim(format!("held {:?}", r.held), r.held.contains(&"profiles_per_hour")),
                all_applied(r),
            ]
        }),
    );
    let flapping = |changes| Scenario {
        events_per_second: 100.0,
        flaps_per_day: Some(changes),
        after_ms: 24 * HOUR_MS + 30 * MINUTE_MS,
        ..common()
    };
    row(
        "100/s, one profile in 100 changes 20 times a day",
        false,
        flapping(20),
        Box::new(move |r| {
            let without = plan::run(&flapping(0));
            vec![
                at_most("imports of one profile in 24 h", r.sends_in_a_day_max as f64, 5.0),
                at_most("not as wanted 24.5 h after the load", r.flapping_behind as f64, 0.0),
                at_most("the others wait s", r.others_waited_seconds, 1.1 * without.others_waited_seconds),
            ]
        }),
    );
    rows
}

/// How a simpler policy picks what goes next.
#[derive(Clone, Copy)]
enum Policy {
    Tokens,
    EqualIntervals,
    FixedLinger,
}

/// Mean own delay of a policy with so many calls, and the worst group's in means; by the counts of groups in steps of a
/// second.
fn simple(scenario: &Scenario, calls: f64, policy: Policy) -> (f64, f64) {
    let groups: Vec<(f64, f64)> = plan::shares(usize::from(scenario.lists * scenario.connections))
        .into_iter()
        .flat_map(|share| {
            let rate = scenario.events_per_second * share;
            [(rate * scenario.entries, 1.0), (rate * (1.0 - scenario.entries), 2.0)]
        })
        .collect();
    let per_second = calls / 86_400.0;
    let flush_calls: f64 = groups.iter().map(|(_, calls)| calls).sum();
    let mut state = vec![(0.0_f64, 0.0_f64, 0.0_f64); groups.len()];
    let mut waited = vec![0.0_f64; groups.len()];
    let (mut credit, mut left) = (0.0_f64, calls);
    for second in 0..86_400 {
        for (((rate, _), (waiting, area, _)), waited) in groups.iter().zip(&mut state).zip(&mut waited) {
            *area += *waiting + rate / 2.0;
            *waiting += rate;
            *waited += *waiting - rate / 2.0;
        }
        credit += per_second;
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by(|a, b| (state[*b].1 / groups[*b].1).total_cmp(&(state[*a].1 / groups[*a].1)));
        for index in order {
            let (_, calls) = groups[index];
            let age = f64::from(second + 1) - state[index].2;
            if matches!(policy, Policy::Tokens) && credit < calls {
                // The next flush is saved for.
                break;
            }
            let goes = match policy {
                Policy::Tokens => true,
                Policy::EqualIntervals => age >= flush_calls / per_second,
                Policy::FixedLinger => age >= 10.0,
            };
            if goes && left >= calls {
                credit -= calls;
                left -= calls;
                state[index] = (0.0, 0.0, f64::from(second + 1));
            }
        }
    }
    let mean = waited.iter().sum::<f64>() / (scenario.events_per_second * 86_400.0);
    let by_group = groups.iter().zip(&waited).filter(|((rate, _), _)| *rate > 0.0);
    (mean, by_group.map(|((rate, _), waited)| waited / (rate * 86_400.0)).fold(0.0, f64::max) / mean)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times real work")]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let mut missed = 0;
    for row in rows().into_iter().filter(|row| words.iter().all(|word| row.name.contains(word.as_str()))) {
        let began = std::time::Instant::now();
        let report = plan::run(&row.scenario);
        let seconds = began.elapsed().as_secs_f64();
        let aims = (row.check)(&report);
        let mut text = String::new();
        let reached = aims.iter().all(|aim| aim.reached);
        missed += usize::from(!reached);
        let events = report.events as f64 / seconds / 1e6;
        let _ok =
            writeln!(text, "{} {} [{seconds:.1} s, {events:.2} M events/s]", if reached { "ok    " } else { "MISSED" }, row.name);
        for aim in aims {
            let _ok = writeln!(text, "         {} {}", if aim.reached { " " } else { "!" }, aim.what);
        }
        let kinds: Vec<String> =
            report.calls_by_kind.iter().filter(|(_, calls)| **calls > 0).map(|(kind, calls)| format!("{kind} {calls}")).collect();
        let _ok = writeln!(text, "           calls {}: {}", report.calls, kinds.join(", "));
        let hours: Vec<String> = report.calls_by_hour.iter().map(u64::to_string).collect();
        let _ok = writeln!(text, "           by hour: {}", hours.join(" "));
        if row.steady {
            let others = [
                ("tokens", Policy::Tokens),
                ("equal intervals", Policy::EqualIntervals),
                ("fixed linger 10 s", Policy::FixedLinger),
            ];
            let flushes = ["import", "remove"].iter().filter_map(|kind| report.calls_by_kind.get(*kind)).sum::<u64>();
            let others = others.iter().map(|(name, policy)| {
                let (mean, worst) = simple(&row.scenario, flushes as f64, *policy);
                format!("{name} {mean:.1} s (worst group {worst:.1})")
            });
            let _ok = writeln!(text, "           other policies, own mean: {}", others.collect::<Vec<_>>().join(", "));
        }
        std::io::stdout().write_all(text.as_bytes()).expect("stdout");
    }
    let text = if missed == 0 { "all rows reached\n".to_owned() } else { format!("{missed} rows missed\n") };
    std::io::stdout().write_all(text.as_bytes()).expect("stdout");
}
