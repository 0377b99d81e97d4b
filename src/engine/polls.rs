//! When an account's activities are read: one call reads all that are open, so it is spent when enough has ended unread.
//!
//! What nobody waits for is read when the unread rows' waiting, at a small weight, outweighs the price of a call, and in
//! any case before confirmation becomes a matter of half hours.

use crate::model::{
    call::Request,
    catalog::ConnectionId,
    time::{Mono, Now},
    whole,
};

use super::{
    Engine,
    activity::Stage,
    calls::{Polling, Purpose},
    limits::{
        CONFIRM_CALLS, CONFIRM_MAX_MS, CONFIRM_SMALL_MAX_MS, OPEN_ROWS_MAX, POLL_INTERVAL_MAX_MS, TOGETHER_MAX_MS, TOGETHER_MS,
        UNREAD_WEIGHT,
    },
};

/// One whose turn it should have been over is read again after this long,
const TURN_POLL_MS: u64 = 60_000;
/// and each that runs while the stage stops after this long.
const DRAIN_POLL_MS: u64 = 5_000;

/// One running activity, as a poll sees it.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// When it is likely done.
    done_at: Mono,
    /// When its answer was read.
    since: Mono,
    rows: u64,
    /// A round's removal waits for it.
    staged: bool,
    /// It is read as soon as it may be done: nobody knows what an earlier term's, or its repeat, has done.
    urgent: bool,
}

/// What one account's activities need.
#[derive(Debug, Clone, Default)]
struct Account {
    running: Vec<Running>,
    first: Option<u64>,
    unlisted: Option<u64>,
}

/// When the first is done, and those with it that follow one another closely.
fn together_at<'a>(mut running: impl Iterator<Item = &'a Running>) -> Option<Mono> {
    let first = running.next()?.done_at;
    let last = first.plus_ms(TOGETHER_MAX_MS);
    Some(running.fold(first, |at, one| if one.done_at <= at.plus_ms(TOGETHER_MS).min(last) { one.done_at } else { at }))
}

/// When the unread rows outweigh `price` waiting-seconds, if nothing else ends; `running` in the order of their ends.
fn outweighs_at(running: &[Running], price: f64) -> Option<Mono> {
    let price_ms = price * 1_000.0;
    let (mut rows, mut sum_ms) = (0.0, 0.0);
    let base = running.first()?.done_at;
    for (index, one) in running.iter().enumerate() {
        let weighed = one.rows.max(1) as f64 * if one.staged { 1.0 } else { UNREAD_WEIGHT };
        rows += weighed;
        sum_ms += weighed * one.done_at.since_ms(base) as f64;
        let at = base.plus_ms(whole((price_ms + sum_ms) / rows)).max(one.done_at);
        if running.get(index + 1).is_none_or(|next| at <= next.done_at) {
            return Some(at);
        }
    }
    None
}

/// Whether the imports of an account's rounds are better read together: with a poll every p seconds for imports of m rows
/// that end r times a second, waiting and calls cost least at p = √(2μ/mr), and reading each at once costs less than that
/// while rμ/m is below 2.
fn shares_poll(rounds_per_second: f64, price: f64, rows: u64) -> bool {
    rounds_per_second * price / rows.max(1) as f64 > 2.0
}

/// How much later than in the mean each of some accounts is read, so that reads cost the fewest calls and each change is
/// confirmed as soon in the mean: with r changes a second read every p seconds, Σ 1/p is least for p ~ 1/√r.
pub(super) fn read_later(per_second: &[f64]) -> Vec<f64> {
    let (sum, roots): (f64, f64) = (per_second.iter().sum(), per_second.iter().map(|rate| rate.sqrt()).sum());
    per_second.iter().map(|rate| if *rate > 0.0 { sum / (rate.sqrt() * roots) } else { 1.0 }).collect()
}

impl Engine {
    /// How long after a look at an activity of that age the next one is due: the older it is, the later. One that hangs for
    /// hours must not cost a call a minute.
    pub(super) fn poll_interval_ms(&self, now: Now, account: ConnectionId, since: Mono) -> u64 {
        let longest_ms = if self.drain.is_some() {
            DRAIN_POLL_MS
        } else if self.connections[usize::from(account.0)].activity_time.is_serial() {
            TURN_POLL_MS
        } else {
            POLL_INTERVAL_MAX_MS
        };
        (now.mono.since_ms(since) / 6).clamp(1_000, longest_ms)
    }

    /// What ends before the stage has stopped is read by this term: the next one would have to send it again.
    pub(super) fn poll_before_stop(&mut self, now: Now) {
        let soon = now.mono.plus_ms(DRAIN_POLL_MS);
        for batch in self.batches.values_mut() {
            if let Stage::Running { next_poll, .. } = &mut batch.stage {
                *next_poll = soon.min(*next_poll);
            }
        }
    }

    /// When the one whose turn it is should have ended, and the next as well while several wait for theirs.
    fn read_in_turn_at(&self, now: Now, id: ConnectionId, running: &[Running]) -> Option<Mono> {
        let first = running.first()?;
        let time = &self.connections[usize::from(id.0)].activity_time;
        let vendor_now = self.vendor_now(self.catalog.connection(id).application, now);
        let left_ms = time.turn_left_ms(first.rows, now.mono.since_ms(first.since), vendor_now);
        if left_ms == 0 {
            return Some(first.done_at);
        }
        let later_ms = running.get(1).filter(|_| running.len() > 2).map_or(0, |second| time.look_after_ms(second.rows));
        Some(now.mono.plus_ms(left_ms + later_ms))
    }

    /// When an account's activities are read next.
    fn read_at(&self, now: Now, id: ConnectionId, running: &mut [Running], accounts: u64) -> Option<Mono> {
        let account = &self.connections[usize::from(id.0)];
        if self.drain.is_some() {
            return running.iter().map(|one| one.done_at).min();
        }
        if account.activity_time.is_serial() {
            return self.read_in_turn_at(now, id, running);
        }
        running.sort_unstable_by_key(|one| one.done_at);
        let first = running.first()?.done_at;
        let key = &self.applications[usize::from(self.catalog.connection(id).application.0)];
        if account.gated.is_some() || account.open_rows > OPEN_ROWS_MAX / 2 {
            return Some(first);
        }
        let call_ms = key.quota.left().map_or(0, |left| key.quota.day_left_ms(now.mono) / u64::from(left.max(1)));
        let latest_ms = (CONFIRM_CALLS * accounts * call_ms).min(CONFIRM_MAX_MS) as f64 * account.read_later;
        let latest = first.plus_ms(whole(latest_ms).min(CONFIRM_SMALL_MAX_MS));
        let price = key.price.waiting_seconds;
        // Waiting saves a call only where others come to the same point meanwhile.
        let alone = |one: &Running| one.staged && !shares_poll(account.rounds_per_second, price, one.rows);
        let urgent = together_at(running.iter().filter(|one| one.urgent || alone(one)));
        let outweighs = if price > 0.0 { outweighs_at(running, price) } else { together_at(running.iter()) };
        [Some(latest), urgent, outweighs].into_iter().flatten().min()
    }

    /// Polls and looks: what is already under way at the vendor.
    pub(super) fn follow(&mut self, now: Now) {
        let mut polls = vec![Account::default(); self.connections.len()];
        let mut looks: Vec<(u64, Mono)> = Vec::new();
        let unread = self.go_ahead_where_due(now);
        for (number, batch) in &self.batches {
            match &batch.stage {
                // Its removal needs no reading of its import.
                Stage::Running { .. } if unread.contains(number) => {}
                Stage::Running { next_poll, since, unlisted, .. } => {
                    let polls = &mut polls[usize::from(batch.connection.0)];
                    let staged = batch.stages();
                    let urgent = batch.restored || batch.repeated || batch.is_early();
                    let rows = batch.rows.len() as u64;
                    polls.running.push(Running { done_at: *next_poll, since: *since, rows, staged, urgent });
                    // Two activities of one round are read together.
                    if self.import_ahead(*number).is_none() {
                        polls.first = polls.first.or(Some(*number));
                    }
                    if *unlisted && *next_poll <= now.mono {
                        polls.unlisted = polls.unlisted.or(Some(*number));
                    }
                }
                Stage::Looking(look) if !look.under_way => looks.push((*number, look.next_at)),
                Stage::Clearing { next_at, under_way: false, .. } => looks.push((*number, *next_at)),
                Stage::Looking(_)
                | Stage::Clearing { .. }
                | Stage::Opening
                | Stage::Committing(_)
                | Stage::Ready
                | Stage::Posting
                | Stage::Checking(_)
                | Stage::Ended(_) => {}
            }
        }
        let accounts = polls.iter().filter(|account| !account.running.is_empty()).count() as u64;
        for (id, mut polls) in self.connection_ids().zip(polls) {
            let ghosts_due = self.ghosts_due(id);
            let read_at = self.read_at(now, id, &mut polls.running, accounts);
            let Some(due) = read_at.into_iter().chain(ghosts_due).min() else {
                if let Polling::NextPage(..) = self.connections[usize::from(id.0)].polling {
                    self.connection_mut(id).polling = Polling::Idle;
                }
                continue;
            };
            let next_page = match &self.connections[usize::from(id.0)].polling {
                Polling::Idle => None,
                Polling::UnderWay => continue,
                Polling::NextPage(cursor, page) => Some((cursor.clone(), *page)),
            };
            if due > now.mono && next_page.is_none() {
                self.wake_at(due);
                continue;
            }
            let Some(permit) = self.permit(now, id, 0) else { continue };
            self.connection_mut(id).polling = Polling::UnderWay;
            if let Some((cursor, page)) = next_page {
                self.call(now, id, permit, Request::Activities { cursor: Some(cursor) }, Purpose::PollAll(id, page));
                continue;
            }
            // One that no page showed, or the only one, is read by itself.
            let looks = ghosts_due.is_some_and(|at| at <= now.mono);
            let alone = if looks { None } else { polls.unlisted.or(polls.first.filter(|_| polls.running.len() == 1)) };
            match alone.and_then(|number| Some((number, self.running_activity(number)?))) {
                Some((number, activity_id)) => {
                    self.call(now, id, permit, Request::Activity { activity_id }, Purpose::PollOne(number));
                }
                None => self.call(now, id, permit, Request::Activities { cursor: None }, Purpose::PollAll(id, 0)),
            }
        }
        for (number, next_at) in looks {
            if next_at > now.mono {
                self.wake_at(next_at);
                continue;
            }
            let Some(batch) = self.batches.get(&number) else { continue };
            let connection = batch.connection;
            let Some(permit) = self.permit(now, connection, 0) else { continue };
            let (cursor, purpose) = match self.batches.get_mut(&number).map(|batch| &mut batch.stage) {
                Some(Stage::Looking(look)) => {
                    look.under_way = true;
                    (look.cursor.clone(), Purpose::Look(number))
                }
                Some(Stage::Clearing { under_way, cursor, .. }) => {
                    *under_way = true;
                    (cursor.clone(), Purpose::Clear(number))
                }
                Some(_) | None => continue,
            };
            self.call(now, connection, permit, Request::Activities { cursor }, purpose);
        }
    }

    fn running_activity(&self, number: u64) -> Option<crate::model::ActivityId> {
        if let Some(import) = self.import_ahead(number) {
            return Some(import);
        }
        match self.batches.get(&number).map(|batch| &batch.stage) {
            Some(Stage::Running { activity, .. }) => Some(*activity),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(done_at: u64, rows: u64) -> Running {
        Running { done_at: Mono(done_at), since: Mono(0), rows, staged: false, urgent: false }
    }

    #[test]
    fn a_free_call_is_made_when_the_first_is_done() {
        assert_eq!(together_at([running(5_000, 10), running(9_000, 10)].iter()), Some(Mono(5_000)));
        assert_eq!(together_at([running(5_000, 10), running(6_000, 10), running(7_500, 10)].iter()), Some(Mono(7_500)));
        assert_eq!(outweighs_at(&[], 0.0), None);
    }

    #[test]
    fn a_round_waits_for_a_poll_only_where_others_share_it() {
        // Fifty lists of one account have a round a minute; one of twenty accounts has one in twenty minutes.
        assert!(shares_poll(1.0 / 60.0, 1_900_000.0, 5_000));
        assert!(!shares_poll(1.0 / 1_200.0, 800_000.0, 5_000));
    }

    #[test]
    fn an_account_where_little_changes_is_read_later_than_one_where_much_does() {
        assert!(read_later(&[3.0, 3.0, 0.0]).iter().all(|later| (later - 1.0).abs() < 1e-9));
        let later = read_later(&[16.0, 1.0]);
        assert!((later[1] / later[0] - 4.0).abs() < 1e-9, "{later:?}");
        assert!((16.0 * later[0] + later[1] - 17.0).abs() < 1e-9, "as soon in the mean: {later:?}");
    }

    #[test]
    fn a_dear_call_waits_until_enough_has_ended() {
        // 1,000 rows for 2 s, then 3,000.
        let two = [running(0, 1_000), running(2_000, 2_000)];
        for (row_seconds, at) in [(1_000.0, 1_000), (2_000.0, 2_000), (8_000.0, 4_000)] {
            assert_eq!(outweighs_at(&two, row_seconds * UNREAD_WEIGHT), Some(Mono(at)));
        }
    }
}
