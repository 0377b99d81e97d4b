//! What happened: one object for scripts, a screenful for people.

use std::{collections::BTreeMap, fmt::Write as _};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{fold::Comparison, setup::Folder};

/// What a configuration moves in an hour unless it says otherwise; the demo lifts it and shows what would be possible.
pub const CEILING_CONTACTS_PER_HOUR: u64 = crate::config::PROFILES_PER_HOUR_MAX;

/// The figures of a run, under the names that `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Distinct profiles.
    pub profiles: u32,
    /// Records produced.
    pub events: u64,
    /// Segments that exports name.
    pub segments: usize,
    /// Exports.
    pub exports: usize,
    /// The seed.
    pub seed: u64,
    /// Whether limits and delays were lifted.
    pub fast: bool,
    /// The whole run.
    pub seconds: f64,
    /// CPU time of the whole process, user and system.
    pub cpu_seconds: f64,
    /// Rows of completed activities.
    pub contacts_applied: u64,
    /// The same by what they did.
    pub applied: Applied,
    /// Contacts whose changes cancelled each other before they were sent.
    pub cancelled_before_sending: u64,
    /// Rows of completed activities in an hour, at the pace from the first record to the last commit.
    pub contacts_per_hour: u64,
    /// What an export may move in an hour unless its configuration says otherwise.
    pub ceiling_contacts_per_hour: u64,
    /// Requests, as the simulated account counted them.
    pub api_calls: u64,
    /// The same by what they were for.
    pub api_calls_by_kind: BTreeMap<&'static str, u64>,
    /// The most in any window of a second.
    pub max_calls_in_a_second: u64,
    /// Activities.
    pub activities: u64,
    /// Whether each list has exactly the members that it should have.
    pub lists_converged: bool,
    /// Offsets behind the last record, summed over partitions.
    pub offsets_produced: u64,
    /// Offsets that Kafka has confirmed as committed, summed over partitions.
    pub offsets_committed: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Requests above a limit, as the simulated account counted them.
    pub quota_violations: u64,
    /// The most memory that the process ever held.
    pub peak_rss_bytes: u64,
}

impl Figures {
    /// One line of JSON, its keys in the order above.
    #[must_use]
    pub fn json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(text) => text + "\n",
            Err(error) => unreachable!("numbers and names of ours: {error}"),
        }
    }
}

/// Rows of completed activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Contacts that joined a list.
    pub adds: u64,
    /// Contacts whose fields changed.
    pub updates: u64,
    /// Contacts that left a list.
    pub removals: u64,
}

/// A run, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The figures.
    pub figures: Figures,
    /// Each list, by its name.
    pub lists: Vec<(String, Comparison)>,
    /// Records that nobody could decode.
    pub undecodable: u64,
    /// Why it was given up, if it was.
    pub given_up: Option<String>,
    /// The folder with the configuration.
    pub folder: Folder,
}

impl Outcome {
    /// True when everything is as it should be.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        let figures = &self.figures;
        figures.lists_converged
            && figures.offsets_committed == figures.offsets_produced
            && figures.quota_violations == 0
            && self.given_up.is_none()
    }

    /// The summary.
    #[must_use]
    pub fn summary(&self) -> String {
        let (figures, mut text) = (&self.figures, String::new());
        let mut line = |name: &str, words: String| {
            // Writing to a String cannot fail.
            let _ok = writeln!(text, "  {name:<9} {words}");
        };
        let count = HumanCount;
        if let Some(reason) = &self.given_up {
            line("GIVEN UP", reason.clone());
        }
        for (name, list) in &self.lists {
            let verdict = if list.equal() {
                "exactly those who belong there".to_owned()
            } else {
                format!("WRONG: {} missing, {} too many", count(list.missing), count(list.surplus))
            };
            line("list", format!("{:>9} on {name}: {verdict}", count(list.members).to_string()));
        }
        let Applied { adds, updates, removals } = figures.applied;
        line(
            "applied",
            format!(
                "{} contacts: {} added, {} updated, {} removed; {} cancelled before they were sent",
                count(figures.contacts_applied),
                count(adds),
                count(updates),
                count(removals),
                count(figures.cancelled_before_sending)
            ),
        );
        line(
            "pace",
            format!(
                "{} contacts an hour; without the ceiling of {}, which an export has by default",
                count(figures.contacts_per_hour),
                count(figures.ceiling_contacts_per_hour)
            ),
        );
        let limit = if figures.fast { "no limit with --fast" } else { "the limit is 4" };
        let kinds: Vec<String> = figures.api_calls_by_kind.iter().map(|(kind, calls)| format!("{kind} {calls}")).collect();
        line(
            "API",
            format!(
                "{} calls ({}), {} activities; at most {} in a second ({limit}); {} above a limit",
                count(figures.api_calls),
                kinds.join(", "),
                count(figures.activities),
                figures.max_calls_in_a_second,
                if figures.quota_violations == 0 { "none".to_owned() } else { format!("{} CALLS", figures.quota_violations) }
            ),
        );
        let left = figures.offsets_produced.saturating_sub(figures.offsets_committed);
        line(
            "Kafka",
            format!(
                "{} offsets produced, {}; {} undecodable records, {} dead letters",
                count(figures.offsets_produced),
                if left == 0 { "all committed".to_owned() } else { format!("{} NOT COMMITTED", count(left)) },
                self.undecodable,
                figures.dead_letters
            ),
        );
        line(
            "machine",
            format!(
                "{:.1} s, {:.1} s of CPU, {} of memory at most, for Kafka, the account and the stage together",
                figures.seconds,
                figures.cpu_seconds,
                HumanBytes(figures.peak_rss_bytes)
            ),
        );
        line("files", format!("{} (the configuration, as an operator would write it)", self.folder.config.display()));
        let verdict = if self.succeeded() { "every list is right" } else { "NOT as it should be" };
        format!(
            "{} segment changes of {} profiles in {} segments, to {} lists: {verdict}\n\n{text}",
            count(figures.events),
            count(u64::from(figures.profiles)),
            figures.segments,
            figures.exports
        )
    }
}

/// CPU time in seconds and the most memory in bytes, of this process.
#[must_use]
pub fn usage() -> (f64, u64) {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        unreachable!("getrusage fails for an unknown subject alone, and this one is known");
    };
    let micros = |time: nix::sys::time::TimeVal| {
        std::time::Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + std::time::Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    let cpu = micros(usage.user_time()) + micros(usage.system_time());
    // Linux counts in KiB.
    (cpu.as_secs_f64(), u64::try_from(usage.max_rss()).unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            figures: Figures {
                profiles: 200_000,
                events: 240_000,
                segments: 4,
                exports: 3,
                seed: 1,
                fast: false,
                seconds: 40.0,
                cpu_seconds: 12.5,
                contacts_applied: 200_000,
                applied: Applied { adds: 190_000, updates: 5_000, removals: 5_000 },
                cancelled_before_sending: 3_900,
                contacts_per_hour: 18_000_000,
                ceiling_contacts_per_hour: CEILING_CONTACTS_PER_HOUR,
                api_calls: 60,
                api_calls_by_kind: BTreeMap::from([("import", 9), ("poll", 51)]),
                max_calls_in_a_second: 4,
                activities: 19,
                lists_converged: true,
                offsets_produced: 240_000,
                offsets_committed: 240_000,
                dead_letters: 9,
                quota_violations: 0,
                peak_rss_bytes: 300 << 20,
            },
            lists: vec![("VIP customers".to_owned(), Comparison { expected: 9, members: 9, missing: 0, surplus: 0 })],
            undecodable: 9,
            given_up: None,
            folder: Folder { path: "/tmp/x".into(), config: "/tmp/x/listkeeper.yaml".into() },
        }
    }

    #[test]
    fn anything_that_is_not_as_it_should_be_is_a_failure_that_the_summary_shows() {
        let good = outcome();
        assert!(good.succeeded() && good.summary().starts_with("240,000 segment changes"), "{}", good.summary());
        type Spoil = fn(&mut Outcome);
        let spoilt: [(Spoil, &str); 4] = [
            (|bad| bad.figures.offsets_committed -= 1, "1 NOT COMMITTED"),
            (|bad| bad.figures.quota_violations = 2, "2 CALLS above a limit"),
            (|bad| bad.given_up = Some("nothing moved".to_owned()), "GIVEN UP  nothing moved"),
            (
                |bad| {
                    bad.lists[0].1.missing = 1;
                    bad.figures.lists_converged = false;
                },
                "WRONG: 1 missing, 0 too many",
            ),
        ];
        for (spoil, words) in spoilt {
            let mut bad = outcome();
            spoil(&mut bad);
            assert!(!bad.succeeded() && bad.summary().contains(words), "{}", bad.summary());
        }
    }

    #[test]
    fn the_object_has_exactly_the_keys_that_scripts_were_promised() {
        let value = serde_json::to_value(outcome().figures).expect("JSON");
        let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut promised = [
            "profiles",
            "events",
            "segments",
            "exports",
            "seed",
            "fast",
            "seconds",
            "cpu_seconds",
            "contacts_applied",
            "applied",
            "cancelled_before_sending",
            "contacts_per_hour",
            "ceiling_contacts_per_hour",
            "api_calls",
            "api_calls_by_kind",
            "max_calls_in_a_second",
            "activities",
            "lists_converged",
            "offsets_produced",
            "offsets_committed",
            "dead_letters",
            "quota_violations",
            "peak_rss_bytes",
        ];
        promised.sort_unstable();
        assert_eq!(keys, promised);
        assert_eq!(value["applied"], serde_json::json!({ "adds": 190_000, "updates": 5_000, "removals": 5_000 }));
    }
}
