//! Rounds whose removal goes *ahead*: it is sent when its import must be done, before anybody has read that it is.
//!
//! Why: the poll between the two activities costs a call, and where calls are dear that is worth more than the seconds by
//! which the removal waits longer, so that it is all but sure to find everybody. One poll reads both then. Nothing is taken
//! on trust: the removal counts only if the vendor took it in a later second than the one in which the import was done,
//! which makes it one like any other. Otherwise it was *early*, and its contacts are decided anew.

use std::collections::BTreeSet;

use crate::model::{
    ActivityId,
    activity::{Activity, ActivityState},
    batch::RoundStep,
    catalog::ExportId,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine,
    activity::{Batch, Look, Stage},
    limits::EARLY_WAITED_MAX_MS,
    membership::ContactSlot,
    rounds::Round,
};

/// The import that a removal went ahead of.
#[derive(Debug)]
pub(super) struct Ahead {
    import: ActivityId,
    /// When the answer to its request was read.
    since: Mono,
    /// How it ended, once that was read.
    over: Option<Box<Activity>>,
}

/// What it costs, in waiting-seconds, to read an import of so many rows before its removal: a call, or where the rounds of
/// an account are read together (see `polls`) a part of one and the time until they are.
fn reading_costs(rounds_per_second: f64, price: f64, rows: f64) -> f64 {
    price.min((2.0 * price * rows / rounds_per_second).sqrt())
}

/// When a change of that age began to wait. By the wall clock, which may be wrong: not more than hours ago.
fn waits_since(now: Now, since: UnixMillis) -> Mono {
    Mono(now.mono.0.saturating_sub(now.wall.since_ms(since).min(EARLY_WAITED_MAX_MS)))
}

impl Round {
    /// Whether nobody has read yet that its import is over, though its removal may be under way.
    fn is_unread(&self) -> bool {
        self.step == RoundStep::RemoveAhead && self.ahead.as_ref().is_none_or(|ahead| ahead.over.is_none())
    }
}

impl Batch {
    /// Whether it is a round whose import may still run beside its removal.
    pub(super) fn may_import_still(&self) -> bool {
        self.round.as_ref().is_some_and(Round::is_unread)
    }

    /// Whether its removal was sent too early, or may have been.
    pub(super) fn is_early(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.early)
    }
}

impl Engine {
    /// How long after a round's import was taken its removal goes ahead; `None` where it waits until the import was read.
    pub(super) fn goes_ahead_after_ms(&self, export: ExportId, rows: f64) -> Option<u64> {
        let (id, application) = (self.export(export).connection, self.export(export).application);
        if self.export(export).rounds.was_early() {
            return None;
        }
        let account = &self.connections[usize::from(id.0)];
        if account.learned.removes_from_source != Some(true) || account.gated.is_some() || self.drain.is_some() {
            return None;
        }
        let price = self.applications[usize::from(application.0)].price.waiting_seconds;
        let (expected_ms, margin_ms) = account.activity_time.surely_over_after_ms(rows, account.read_later)?;
        let weight = f64::from(self.catalog.export(export).weight);
        let waits = weight * rows * margin_ms as f64 / 1_000.0;
        (waits < reading_costs(account.rounds_per_second, price, rows)).then_some(expected_ms + margin_ms)
    }

    /// When the removal of a round goes ahead, if it is to.
    fn goes_ahead_at(&self, batch: &Batch) -> Option<Mono> {
        let Stage::Running { since, .. } = batch.stage else { return None };
        let begun_well = batch.round.as_ref().is_some_and(|round| round.step == RoundStep::Import && !round.early);
        if !begun_well || batch.restored || batch.repeated {
            return None;
        }
        Some(since.plus_ms(self.goes_ahead_after_ms(batch.export, batch.rows.len() as f64)?))
    }

    /// Sends the removals whose time it is; those whose time comes later wait for it without a reading.
    pub(super) fn go_ahead_where_due(&mut self, now: Now) -> BTreeSet<u64> {
        let ahead = self.batches.iter().filter_map(|(number, batch)| Some((*number, self.goes_ahead_at(batch)?)));
        let (due, later): (Vec<_>, Vec<_>) = ahead.partition(|(_, at)| *at <= now.mono);
        for (number, _) in due {
            self.go_ahead(number);
        }
        for (_, at) in &later {
            self.wake_at(*at);
        }
        later.into_iter().map(|(number, _)| number).collect()
    }

    /// Its removal waits for its record.
    fn go_ahead(&mut self, number: u64) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let (Stage::Running { activity, since, .. }, Some(round)) = (&batch.stage, &mut batch.round) else { return };
        round.ahead = Some(Ahead { import: *activity, since: *since, over: None });
        self.goes_on_with(number, RoundStep::RemoveAhead);
    }

    /// The import of a running round that is to be read beside its removal.
    pub(super) fn import_ahead(&self, number: u64) -> Option<ActivityId> {
        let round = self.batches.get(&number)?.round.as_ref()?;
        if round.is_unread() { round.ahead.as_ref().map(|ahead| ahead.import) } else { None }
    }

    /// One reading of that import.
    pub(super) fn on_import_ahead(&mut self, now: Now, number: u64, activity: &Activity) {
        let Some(batch) = self.batches.get(&number) else { return };
        let Some(since) = batch.round.as_ref().and_then(|round| round.ahead.as_ref()).map(|ahead| ahead.since) else { return };
        self.check_name(batch.connection, activity);
        if !activity.state.is_final() {
            return;
        }
        self.activity_over(now, number, crate::model::batch::Operation::Import, since, activity);
        let round = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut());
        if let Some(ahead) = round.and_then(|round| round.ahead.as_mut()) {
            ahead.over = Some(Box::new(activity.clone()));
        }
    }

    /// Changes whose removal was sent too early have waited for all of their age, and need not wait for a price once more.
    pub(super) fn keep_ages(&mut self, now: Now, export: ExportId, changes: Vec<(ContactSlot, UnixMillis)>) {
        for (slot, since) in changes {
            if let Some(mut waiting) = self.take_waiting(export, slot) {
                waiting.queued_at = waiting.queued_at.min(waits_since(now, since));
                self.put_waiting(export, slot, waiting);
            }
        }
    }

    /// Whether a round that is over otherwise must still wait for its import: its contacts stay fenced until then.
    pub(super) fn waits_for_import(&mut self, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number) else { return false };
        let nameless = self.is_nameless(batch.connection);
        let Some(batch) = self.batches.get_mut(&number) else { return false };
        let Some(round) = batch.round.as_mut().filter(|round| round.is_unread()) else { return false };
        let stage = match round.ahead.take() {
            Some(Ahead { import, since, .. }) => Stage::running(import, Mono(0), since),
            // An earlier term's: whatever has no name was waited for already.
            None if nameless => return false,
            None => Stage::Looking(Look { cursor: None, absent_since: None, next_at: Mono(0), under_way: false }),
        };
        (round.step, round.early) = (RoundStep::Import, true);
        batch.stage = stage;
        true
    }

    /// A removal that went ahead completed; `true` when it came after its import, which has put everybody in their place.
    pub(super) fn came_after_import(&mut self, number: u64, removal: &Activity) -> bool {
        let Some(round) = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut()) else { return false };
        let Some(import) = round.ahead.as_ref().and_then(|ahead| ahead.over.clone()) else { return false };
        // The vendor tells whole seconds: in the same one, either may have been first.
        let second = |at: UnixMillis| at.0.div_euclid(1_000);
        let after = match (import.completed_at, removal.created_at) {
            (Some(done), Some(taken)) => second(taken) > second(done),
            (_, None) | (None, _) => false,
        };
        round.early = !after;
        after && import.state == ActivityState::Completed && self.takes_staged(number, &import)
    }
}

#[cfg(test)]
mod tests {
    use super::{reading_costs, waits_since};
    use crate::model::time::{Mono, Now, UnixMillis};

    #[test]
    fn what_was_sent_too_early_has_waited_for_its_age() {
        let now = Now { mono: Mono(90_000_000), wall: UnixMillis(1_795_478_400_000) };
        assert_eq!(waits_since(now, now.wall.plus_ms(-2_500_000)), Mono(87_500_000));
        let wrong = waits_since(now, UnixMillis(0));
        assert_eq!(wrong, Mono(90_000_000 - 21_600_000), "a clock that was wrong makes nobody wait for years");
    }

    #[test]
    fn reading_costs_a_call_or_a_part_of_one() {
        // One of twenty accounts, a round in twenty minutes: a call.
        assert_eq!(reading_costs(1.0 / 1_200.0, 800_000.0, 5_000.0), 800_000.0);
        // Fifty lists of an account, a round a minute: about half a call, and as much of waiting.
        let cost = reading_costs(1.0 / 60.0, 1_900_000.0, 5_000.0);
        assert!((1_000_000.0..1_100_000.0).contains(&cost), "{cost}");
        assert_eq!(reading_costs(0.1, 0.0, 5_000.0), 0.0);
    }
}
