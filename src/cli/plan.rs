//! `listkeeper plan`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{CommandError, validate::overrides};
use crate::config::{self, Secrets};
use crate::model::catalog::{ApplicationId, Catalog};
use crate::simulator::plan::{self, Burst, Report, Scenario, VendorKind};

const LEARN_MORE: &str = "\
The engine itself runs through the load in virtual time, with a vendor that takes 20 s for an activity and a second for each \
1,000 rows. What is told is an estimate for a load of that kind: own delay is a change's age without the vendor's time, the \
bound is the least that any planner could reach with these calls.

Examples:
  listkeeper plan --events-per-second 100 --lists 20 --staging
  listkeeper plan --config listkeeper.yaml --events-per-second 30 --burst 500000@12:00 --json";

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// Plan for the exports of this configuration file instead of made-up ones.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lists", "connections"])]
    config: Option<PathBuf>,
    /// Plan for the exports of this application; needed where the configuration has several, whose calls are counted apart.
    #[arg(long, value_name = "NAME", requires = "config")]
    application: Option<String>,
    /// Changes a second over all lists, a Poisson process.
    #[arg(long, value_name = "RATE", default_value_t = 277.0, value_parser = not_negative)]
    events_per_second: f64,
    /// How long the load lasts.
    #[arg(long, value_name = "HOURS", default_value_t = 24.0, value_parser = positive_hours)]
    hours: f64,
    /// Lists of each connection; the first gets most changes (Zipf's law).
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    lists: u16,
    /// Connections that share the API key.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    connections: u16,
    /// Part of the changes that are entries; the others are exits.
    #[arg(long, value_name = "PART", default_value_t = 0.7, value_parser = part)]
    entries: f64,
    /// Members of all lists when it begins.
    #[arg(long, value_name = "COUNT", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(0..=50_000_000))]
    members: u64,
    /// Changes that come at once, at this time of UTC.
    #[arg(long, value_name = "COUNT@HH:MM", value_parser = burst)]
    burst: Option<Burst>,
    /// Calls of the first day that are spent already.
    #[arg(long, value_name = "CALLS", default_value_t = 0)]
    spent: u32,
    /// When it begins, in UTC.
    #[arg(long, value_name = "HH:MM", default_value = "00:00", value_parser = time_of_day)]
    start: i64,
    /// Requests that the key may make in a day of UTC: as configured, or 10000.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    calls_per_day: Option<u32>,
    /// Requests that it may make in a second: as configured, or 4.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    calls_per_second: Option<u32>,
    /// How the vendor works on an account's activities: side by side, side by side in scattered times, or one after the other.
    #[arg(long, value_name = "KIND", default_value = "parallel", value_parser = ["parallel", "scattered", "serial"])]
    vendor: String,
    /// Allow removals by staging lists.
    #[arg(long)]
    staging: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn number(text: &str, fits: impl Fn(f64) -> bool, says: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && fits(*number)).ok_or_else(|| says.to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=100_000.0).contains(&number), "a number from 0 to 100000")
}

fn positive_hours(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 240.0, "hours, above 0 and at most 240")
}

fn part(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=1.0).contains(&number), "a number from 0 to 1")
}

/// Milliseconds after midnight.
fn time_of_day(text: &str) -> Result<i64, String> {
    let parts = text.split_once(':').and_then(|(hours, minutes)| Some((hours.parse().ok()?, minutes.parse().ok()?)));
    match parts {
        Some((hours @ 0..=23, minutes @ 0..=59)) => Ok((hours * 60 + minutes) * 60_000),
        Some(_) | None => Err("a time of day is HH:MM, from 00:00 to 23:59".to_owned()),
    }
}

fn burst(text: &str) -> Result<Burst, String> {
    let Some((count, at)) = text.split_once('@') else { return Err("a burst is COUNT@HH:MM, like 500000@12:00".to_owned()) };
    let events = count.parse().ok().filter(|count| (1..=50_000_000).contains(count));
    Ok(Burst { events: events.ok_or("the burst's count is a number from 1 to 50000000")?, at_ms: time_of_day(at)? })
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let json = arguments.json;
    let scenario = scenario(arguments)?;
    let report = plan::run(&scenario);
    let text = if json {
        let text = serde_json::to_string(&report);
        text.map_err(|error| CommandError { message: format!("the report cannot be written: {error}"), code: 70 })? + "\n"
    } else {
        rendered(&scenario, &report)
    };
    write!(std::io::stdout().lock(), "{text}").map_err(|error| CommandError { message: format!("stdout: {error}"), code: 74 })?;
    Ok(ExitCode::SUCCESS)
}

/// The application that is planned for.
fn application(catalog: &Catalog, name: Option<&str>) -> Result<ApplicationId, String> {
    let names = || catalog.applications.iter().map(|application| application.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        None if catalog.applications.len() > 1 => {
            Err(format!("applications: each has its own calls: name one of them with --application ({})", names()))
        }
        None => Ok(ApplicationId::at(0)),
        Some(name) => {
            let place = catalog.applications.iter().position(|application| application.name == name);
            place.map(ApplicationId::at).ok_or_else(|| format!("applications: none is called {name} ({})", names()))
        }
    }
}

fn scenario(arguments: Arguments) -> Result<Scenario, CommandError> {
    let catalog = match &arguments.config {
        None => None,
        Some(file) => {
            let config = config::load_with(file, &overrides(), Secrets::Skip)
                .map_err(|errors| CommandError { message: errors.to_string(), code: 78 })?;
            let at = |message: String| CommandError { message: format!("{}: {message}", file.display()), code: 78 };
            let application = application(&config.catalog, arguments.application.as_deref()).map_err(at)?;
            let catalog = plan::of_application(&config.catalog, application);
            if catalog.exports.is_empty() {
                return Err(at("exports: there is none to plan for".to_owned()));
            }
            Some(Arc::new(catalog))
        }
    };
    let key = catalog.as_ref().map(|catalog| catalog.application(ApplicationId::at(0)));
    let calls_per_day = arguments.calls_per_day.or(key.and_then(|key| key.calls_per_day)).unwrap_or(10_000);
    let calls_per_second = arguments.calls_per_second.or(key.and_then(|key| key.calls_per_second)).unwrap_or(4);
    let left_to_others_percent = key.map_or(0, |key| key.reserved_for_others_percent);
    Ok(Scenario {
        catalog,
        events_per_second: arguments.events_per_second,
        hours: arguments.hours,
        lists: arguments.lists,
        connections: arguments.connections,
        entries: arguments.entries,
        members: arguments.members,
        burst: arguments.burst,
        spent_calls: arguments.spent,
        start_ms: arguments.start,
        calls_per_day,
        calls_per_second,
        left_to_others_percent,
        vendor: match arguments.vendor.as_str() {
            "scattered" => VendorKind::Scattered,
            "serial" => VendorKind::Serial,
            _ => VendorKind::Parallel,
        },
        staging: arguments.staging,
        ..Scenario::default()
    })
}

fn rendered(scenario: &Scenario, report: &Report) -> String {
    let mut text = String::new();
    let kinds: Vec<String> =
        report.calls_by_kind.iter().filter(|(_, calls)| **calls > 0).map(|(kind, calls)| format!("{kind} {calls}")).collect();
    let seconds = |figures: plan::Figures| {
        format!("mean {:.1} s, 95 % within {:.1} s, all within {:.1} s", figures.mean, figures.p95, figures.max)
    };
    let bound = match report.ratio_to_bound {
        Some(ratio) => format!("{:.1} s at least with these calls; this is {ratio:.2} times as much", report.bound_seconds),
        None => "there are calls enough to send each change by itself".to_owned(),
    };
    let lines = [
        (
            "changes",
            format!("{} in {} h, {} applied, {} not yet", report.events, scenario.hours, report.applied, report.unapplied_at_end),
        ),
        ("freshness", seconds(report.freshness_seconds)),
        ("own delay", seconds(report.own_delay_seconds)),
        ("bound", bound),
        ("calls", format!("{} ({}); the key has {} a day", report.calls, kinds.join(", "), report.calls_per_day_limit)),
        (
            "confirmed",
            format!(
                "{:.0} s after the activity's end, at most {:.0} s",
                report.confirmation_seconds.mean, report.confirmation_seconds.max
            ),
        ),
        ("profiles", format!("at most {} of one list in an hour", report.profiles_in_an_hour_max)),
        ("fits", if report.fits { "yes".to_owned() } else { "no".to_owned() }),
    ];
    for (what, value) in lines {
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "{what:<10} {value}");
    }
    for reason in &report.held {
        let _ok = writeln!(text, "{:<10} {reason}", "held");
    }
    for line in &report.advice {
        let _ok = writeln!(text, "{:<10} {line}", "may help");
    }
    text
}
