//! Why a group of changes goes now or waits, as a value and in words for an operator.

use serde::Serialize;

use crate::model::{batch::Operation, catalog::ExportId, time::Now};

use super::{
    Engine,
    activity_time::Gate,
    limits::OVERDUE_HOLDS_MAX_MS,
    planner::{Group, Verdict},
};

/// What becomes of one export's changes in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Adds and updates, or removals.
    pub operation: Operation,
    /// How many contacts wait.
    pub contacts: u64,
    /// How long they have waited, added up and by the export's weight, in seconds.
    pub waiting_seconds: f64,
    /// Calls that sending them would add.
    pub calls: f64,
    /// What a call costs now, in waiting-seconds.
    pub price_waiting_seconds: f64,
    /// Why they go or wait.
    pub standing: Standing,
    /// The same in words.
    pub explain: String,
}

/// Why a group goes or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// They are sent as soon as a call may be made.
    Goes,
    /// A call is worth more elsewhere.
    Price,
    /// The export has moved nearly as many profiles in the last hour as it may: too few more are worth no call.
    Hour,
    /// The vendor works on the account's activities one after the other: more of them would only wait there.
    InTurn,
    /// An activity of the account takes longer than its rows explain: more of them might only wait behind it.
    Overdue,
}

/// 41,000 rather than 41000.27.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| char::from(*digit)));
    }
    text
}

impl Engine {
    /// What becomes of an export's changes, for both directions in which some wait.
    pub(super) fn decisions(&self, now: Now, export: ExportId) -> Vec<Decision> {
        let state = self.export(export);
        // A shard that is held as a whole plans nothing.
        let Some(key) = self.applications.get(usize::from(state.application.0)) else { return Vec::new() };
        let price = key.price.waiting_seconds;
        let directions = [(Operation::Import, state.imports.live), (Operation::Remove, state.removals.live())];
        directions
            .into_iter()
            .filter(|(_, contacts)| *contacts > 0)
            .filter_map(|(operation, contacts)| {
                let group = Group { export, operation };
                let waiting_seconds = self.waited_seconds(now, group);
                let calls = self.calls_of(now, group);
                let gate = self.connections[usize::from(state.connection.0)].gated;
                let standing = match (gate, self.judge(now, group)) {
                    (Some(Gate::InTurn), _) => Standing::InTurn,
                    (Some(Gate::Overdue), _) => Standing::Overdue,
                    (None, Verdict::Goes(..)) => Standing::Goes,
                    (None, Verdict::Waits(_)) => Standing::Price,
                    (None, Verdict::Full(_)) => Standing::Hour,
                    (None, Verdict::Empty) => return None,
                };
                let (seconds, saved) = (grouped(waiting_seconds), grouped(price * calls));
                let waited = format!("{} {} have waited {seconds} s together", grouped(contacts as f64), what(operation));
                let explain = match standing {
                    Standing::Goes => format!("a call costs {} waiting-seconds: {waited}, so they go", grouped(price)),
                    Standing::Price => format!(
                        "a call costs {} waiting-seconds: {waited}, and sending them takes {calls:.0} of them, so they wait for {saved} s",
                        grouped(price)
                    ),
                    Standing::Hour => format!(
                        "{waited}: the export has moved nearly as many profiles in the last hour as it may, so they wait for more room"
                    ),
                    Standing::InTurn => format!(
                        "{waited}: the vendor works on this account's activities one after the other, so they wait until what runs is done"
                    ),
                    Standing::Overdue => format!(
                        "{waited}: an activity of this account takes longer than its rows explain, so they wait until it is done, {} min at most",
                        OVERDUE_HOLDS_MAX_MS / 60_000
                    ),
                };
                Some(Decision {
                    operation,
                    contacts: contacts as u64,
                    waiting_seconds,
                    calls,
                    price_waiting_seconds: price,
                    standing,
                    explain,
                })
            })
            .collect()
    }
}

const fn what(operation: Operation) -> &'static str {
    match operation {
        Operation::Import => "adds and updates",
        Operation::Remove => "removals",
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn large_numbers_are_read_in_groups() {
        let texts: Vec<String> = [0.4, 999.0, 1_000.0, 41_000.27, 1_234_567.0].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "999", "1,000", "41,000", "1,234,567"]);
    }
}
