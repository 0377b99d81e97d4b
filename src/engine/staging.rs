//! Lists of our own that removals use: a small pool in each account.
//!
//! Why a pool: a list serves one round of a removal at a time, and is used again only when nobody is on it. Whoever were
//! still there would leave the next round's target, although nobody asked for it. So a list whose round ended in any other
//! way than in order is deleted and replaced, and one whose round ended in order is used again once its count was read as 0.

use std::collections::BTreeSet;

use crate::model::{
    ActivityId, ListId, Text,
    activity::ActivityState,
    call::{Answer, Cursor, Disposition, List, Outcome, Refusal, Request},
    catalog::{ConnectionId, STAGING_PREFIX},
    state::{ConnectionRecord, StagingListRecord},
    time::{Mono, Now},
};

use super::{
    Engine, Event,
    answers::is_stale,
    calls::Purpose,
    event::StagingListChange,
    limits::{LANE_CALLS, STAGING_LISTS_MAX, STAGING_RETRY_MS, staging_lists_usual},
    planted::{Bug, planted},
};

/// Counts are read again after this long, where no list was spent since.
const COUNTS_AGAIN_MS: u64 = 60_000;
/// A deletion that failed is asked for again after this long.
const DELETE_AGAIN_MS: u64 = 60_000;

/// The name of the list with this number: a person who finds it in the account understands what it is.
#[must_use]
pub fn staging_name(number: u8) -> Text {
    compact_str::format_compact!("{STAGING_PREFIX} {number:02} - used while removing contacts; safe to ignore")
}

/// How far the deletion of a list has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// It is asked for once the transaction that says so is confirmed: the next term must not use a list that may vanish.
    Due {
        after_commits: u64,
        at: Mono,
    },
    UnderWay,
    /// The vendor works on it.
    Followed {
        activity: ActivityId,
        at: Mono,
    },
}

/// What may be done with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nobody is on it.
    Free,
    /// A round uses it.
    Serving,
    /// A round is over in order, every activity on it has its answer; its count was not read since.
    Spent { since: Mono },
    /// Nobody knows who is on it, or will be.
    Condemned(Deletion),
}

#[derive(Debug)]
struct StagingList {
    list: ListId,
    number: u8,
    state: Use,
}

/// What a pool is asked for.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// Transactions that were confirmed.
    commits: u64,
    /// Lists that rounds wait for.
    lists: usize,
    /// Lists that are made before those there are are counted.
    usual: usize,
    /// Until when the account's queue of activities is full.
    queue_full_until: Option<Mono>,
}

/// A reading of all lists' counts: page after page.
#[derive(Debug)]
struct Reading {
    cursor: Option<Cursor>,
    /// When its first page was asked for.
    began: Mono,
    seen: BTreeSet<ListId>,
}

/// The staging lists of one connection.
#[derive(Debug, Default)]
pub(super) struct Staging {
    lists: Vec<StagingList>,
    call_under_way: bool,
    reading: Option<Reading>,
    /// When the last reading began.
    read_at: Option<Mono>,
    /// A creation that may have made its list, and whether the vendor said that the name is taken.
    perhaps_made: Option<(u8, bool)>,
    /// Numbers whose names are somebody else's.
    taken: BTreeSet<u8>,
    /// The vendor makes no more lists until then.
    blocked_until: Mono,
}

/// A call for the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolCall {
    /// Reads the counts of all lists.
    Counts,
    /// Makes the list of this number.
    Create(u8),
    /// Looks for it by name.
    Find(u8),
    /// Deletes a list.
    Delete(ListId),
    /// Reads the activity of its deletion.
    Follow(ListId, ActivityId),
}

/// How a round leaves its list behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing was sent.
    Unused,
    /// Everybody who was on it has left, as the vendor counted.
    InOrder,
    /// Somebody may be on it, or come to be.
    Unsure,
}

impl Staging {
    /// What the state tells.
    pub(super) fn restore(&mut self, record: &ConnectionRecord) {
        let lists = record.staging_lists.iter().map(|known| {
            let due = Deletion::Due { after_commits: 0, at: Mono(0) };
            let state = if known.condemned { Use::Condemned(due) } else { Use::Spent { since: Mono(0) } };
            StagingList { list: known.list, number: known.number, state }
        });
        self.lists = lists.collect();
    }

    /// What the state is to tell.
    pub(super) fn records(&self) -> Vec<StagingListRecord> {
        let record = |known: &StagingList| StagingListRecord {
            list: known.list,
            number: known.number,
            condemned: matches!(known.state, Use::Condemned(_)),
        };
        self.lists.iter().map(record).collect()
    }

    fn find(&mut self, list: ListId) -> Option<&mut StagingList> {
        self.lists.iter_mut().find(|known| known.list == list)
    }

    /// Lists that a round may take now.
    pub(super) fn free(&self) -> usize {
        self.lists.iter().filter(|known| known.state == Use::Free).count()
    }

    /// Until when the vendor makes no lists for us, if that lies ahead.
    pub(super) fn blocked_until(&self, now: Now) -> Option<Mono> {
        (self.blocked_until > now.mono).then_some(self.blocked_until)
    }

    /// Takes a list for a round.
    fn take(&mut self) -> Option<ListId> {
        let known = self.lists.iter_mut().find(|known| known.state == Use::Free)?;
        known.state = Use::Serving;
        Some(known.list)
    }

    /// A round that the state tells of uses this list.
    pub(super) fn serves(&mut self, list: ListId) {
        if let Some(known) = self.find(list).filter(|known| !matches!(known.state, Use::Condemned(_))) {
            known.state = Use::Serving;
        }
    }

    /// Whether no list is to be deleted.
    pub(super) fn is_quiet(&self) -> bool {
        !self.lists.iter().any(|known| matches!(known.state, Use::Condemned(_)))
    }

    /// Calls that so many more lists cost, about: one reading of the counts may free all that are spent.
    pub(super) fn calls_for(&self, lists: u64) -> u64 {
        let missing = lists.saturating_sub(self.free() as u64);
        let spent = self.lists.iter().filter(|known| matches!(known.state, Use::Spent { .. })).count() as u64;
        if spent == 0 { missing } else { missing.saturating_sub(spent) + u64::from(missing > 0) }
    }

    /// The lowest number that no list has; none where there are as many as there may be.
    fn next_number(&self) -> Option<u8> {
        let live = self.lists.iter().filter(|known| !matches!(known.state, Use::Condemned(_))).count();
        let free = |number: &u8| !self.taken.contains(number) && !self.lists.iter().any(|known| known.number == *number);
        (live < STAGING_LISTS_MAX).then(|| (1..=99).find(free)).flatten()
    }

    /// The next call, if one is due, and otherwise when one may be.
    fn next_call(&self, now: Now, needs: Needs) -> (Option<PoolCall>, Option<Mono>) {
        let Needs { commits, lists: needed, usual, queue_full_until } = needs;
        let mut later: Option<Mono> = None;
        let mut wait = |at: Mono| later = Some(later.map_or(at, |before: Mono| before.min(at)));
        for known in &self.lists {
            match known.state {
                Use::Condemned(Deletion::Followed { activity, at }) if at <= now.mono => {
                    return (Some(PoolCall::Follow(known.list, activity)), None);
                }
                Use::Condemned(Deletion::Due { after_commits, at }) if at <= now.mono && after_commits <= commits => {
                    // It is an activity as well.
                    match queue_full_until {
                        Some(until) => wait(until),
                        None => return (Some(PoolCall::Delete(known.list)), None),
                    }
                }
                Use::Condemned(Deletion::Followed { at, .. } | Deletion::Due { at, .. }) if at > now.mono => wait(at),
                Use::Condemned(_) | Use::Free | Use::Serving | Use::Spent { .. } => {}
            }
        }
        if needed <= self.free() {
            return (None, later);
        }
        if let Some(until) = self.blocked_until(now) {
            wait(until);
            return (None, later);
        }
        if self.reading.is_some() {
            return (Some(PoolCall::Counts), None);
        }
        let again = self.read_at.map(|at| at.plus_ms(COUNTS_AGAIN_MS));
        let mut spent = self.lists.iter().filter_map(|known| match known.state {
            Use::Spent { since } => Some(since),
            Use::Free | Use::Serving | Use::Condemned(_) => None,
        });
        // A reading frees all that are spent: where calls are scarce, it is the cheaper the more there are.
        let few = self.lists.iter().filter(|known| !matches!(known.state, Use::Condemned(_))).count() < usual;
        let makes = few && self.perhaps_made.is_none();
        if let Some(number) = self.next_number().filter(|_| makes) {
            return (Some(PoolCall::Create(number)), later);
        }
        if let Some(first) = spent.next() {
            let newest = spent.fold(first, Mono::max);
            let unread = self.read_at.is_none_or(|at| newest > at);
            if unread || again.is_none_or(|at| at <= now.mono) {
                return (Some(PoolCall::Counts), None);
            }
            again.into_iter().for_each(&mut wait);
        }
        if let Some((number, _)) = self.perhaps_made {
            return (Some(PoolCall::Find(number)), None);
        }
        (self.next_number().map(PoolCall::Create), later)
    }
}

impl Engine {
    pub(super) fn staging(&self, id: ConnectionId) -> &Staging {
        &self.connections[usize::from(id.0)].staging
    }

    /// Whether a person has made a staging list the list of an export: it is not ours any more.
    fn is_exports(&self, list: ListId) -> bool {
        self.exports.iter().any(|export| export.list == Some(list))
    }

    /// Takes a list for a round.
    pub(super) fn take_list(&mut self, id: ConnectionId) -> Option<ListId> {
        loop {
            let list = self.connection_mut(id).staging.take()?;
            if !self.is_exports(list) {
                return Some(list);
            }
            self.forget_list(id, list);
        }
    }

    /// The pool changed: its record goes with the next transaction, as does that of a round which uses it.
    fn pool_changed(&mut self, id: ConnectionId) {
        self.connection_due(id);
    }

    fn tell_of(&mut self, connection: ConnectionId, number: u8, change: StagingListChange) {
        self.emit(Event::StagingList { connection, number, change });
    }

    /// A list is used no more, and deleted.
    pub(super) fn condemn(&mut self, id: ConnectionId, list: ListId) {
        let after_commits = self.journal.commits_begun() + 1;
        let state = self.connection_mut(id);
        let Some(known) = state.staging.find(list).filter(|known| !matches!(known.state, Use::Condemned(_))) else { return };
        known.state = Use::Condemned(Deletion::Due { after_commits, at: Mono(0) });
        let number = known.number;
        self.pool_changed(id);
        self.tell_of(id, number, StagingListChange::Condemned);
    }

    /// A round gives its list back.
    pub(super) fn give_back(&mut self, now: Now, id: ConnectionId, list: ListId, left: Left) {
        let left = if planted(Bug::StagingListUnread) { Left::Unused } else { left };
        let state = match left {
            Left::Unused => Use::Free,
            Left::InOrder => Use::Spent { since: now.mono },
            Left::Unsure => return self.condemn(id, list),
        };
        if let Some(known) = self.connection_mut(id).staging.find(list).filter(|known| known.state == Use::Serving) {
            known.state = state;
        }
    }

    /// A round of an export that is not configured any more used this list: nobody follows it to its end.
    pub(super) fn condemn_anywhere(&mut self, list: ListId) {
        for id in self.connection_ids() {
            self.condemn(id, list);
        }
    }

    /// Whether a connection that is in use still has a list to delete.
    pub(super) fn deletes_lists(&self) -> bool {
        self.connections.iter().any(|connection| connection.used && !connection.staging.is_quiet())
    }

    /// Makes the pools' calls: lists that rounds wait for, and those that are to be deleted.
    pub(super) fn keep_pools(&mut self, now: Now) {
        for id in self.connection_ids() {
            if self.connections[usize::from(id.0)].staging.call_under_way {
                continue;
            }
            let needed = self.lists_needed(id);
            let key = &self.applications[usize::from(self.catalog.connection(id).application.0)];
            let rounds_per_day = self.connections[usize::from(id.0)].rounds_per_second * 86_400.0;
            let usual = if key.price.waiting_seconds > 0.0 { staging_lists_usual(rounds_per_day) } else { 0 };
            let commits = self.journal.commits_confirmed();
            let queue_full_until = self.connections[usize::from(id.0)].full_queue.until(now.mono);
            let (call, later) = self.staging(id).next_call(now, Needs { commits, lists: needed, usual, queue_full_until });
            if let Some(at) = later {
                self.wake_at(at);
            }
            let Some(call) = call else { continue };
            if let PoolCall::Delete(list) = call
                && self.is_exports(list)
            {
                self.forget_list(id, list);
                self.wake_at(now.mono);
                continue;
            }
            let Some(permit) = self.permit(now, id, LANE_CALLS) else { continue };
            let staging = &mut self.connection_mut(id).staging;
            staging.call_under_way = true;
            let request = match call {
                PoolCall::Counts => {
                    let reading = staging.reading.get_or_insert(Reading { cursor: None, began: now.mono, seen: BTreeSet::new() });
                    Request::Lists { cursor: reading.cursor.clone() }
                }
                PoolCall::Create(number) => Request::CreateList { name: staging_name(number) },
                PoolCall::Find(number) => Request::FindList { name: staging_name(number) },
                PoolCall::Delete(list) => {
                    if let Some(known) = staging.find(list) {
                        known.state = Use::Condemned(Deletion::UnderWay);
                    }
                    Request::DeleteList { list }
                }
                PoolCall::Follow(_, activity_id) => Request::Activity { activity_id },
            };
            self.call(now, id, permit, request, Purpose::Pool(id, call));
        }
    }

    pub(super) fn on_pool(&mut self, now: Now, id: ConnectionId, call: PoolCall, outcome: Outcome) {
        self.connection_mut(id).staging.call_under_way = false;
        match call {
            PoolCall::Counts => self.on_counts(now, id, outcome),
            PoolCall::Create(number) => self.on_staging_created(now, id, number, outcome),
            PoolCall::Find(number) => self.on_staging_found(now, id, number, outcome),
            PoolCall::Delete(list) => self.on_deleted(now, id, list, &outcome),
            PoolCall::Follow(list, activity) => self.on_followed(now, id, list, activity, &outcome),
        }
    }

    fn on_counts(&mut self, now: Now, id: ConnectionId, outcome: Outcome) {
        let index_lag_ms = self.catalog.timing.index_lag_ms;
        let stale = is_stale(&outcome);
        let staging = &mut self.connection_mut(id).staging;
        let Outcome::Answered(Answer::Lists(page)) = outcome else {
            if stale {
                staging.reading = None;
                staging.blocked_until = now.mono.plus_ms(STAGING_RETRY_MS);
            }
            return;
        };
        let Some(mut reading) = staging.reading.take() else { return };
        let mut dirty = Vec::new();
        for shown in &page.items {
            let Some(known) = staging.find(shown.list_id) else { continue };
            reading.seen.insert(shown.list_id);
            // A count that was read before the round's end says nothing of it; one that is shown late may be too high.
            let Use::Spent { since } = known.state else { continue };
            match shown.membership_count {
                Some(0) if since <= reading.began => known.state = Use::Free,
                Some(count) if count > 0 && reading.began.since_ms(since) >= index_lag_ms => dirty.push(shown.list_id),
                Some(_) | None => {}
            }
        }
        if page.next.is_some() {
            reading.cursor = page.next;
            staging.reading = Some(reading);
        } else {
            staging.read_at = Some(reading.began);
            // Somebody has deleted it.
            let gone = |known: &StagingList| {
                matches!(known.state, Use::Spent { since } if since <= reading.began) && !reading.seen.contains(&known.list)
            };
            let before = staging.lists.len();
            staging.lists.retain(|known| !gone(known));
            if staging.lists.len() < before {
                self.pool_changed(id);
            }
        }
        for list in dirty {
            self.condemn(id, list);
        }
    }

    fn adopt(&mut self, id: ConnectionId, number: u8, list: ListId) {
        self.connection_mut(id).staging.lists.push(StagingList { list, number, state: Use::Free });
        self.pool_changed(id);
        self.tell_of(id, number, StagingListChange::Made);
    }

    fn on_staging_created(&mut self, now: Now, id: ConnectionId, number: u8, outcome: Outcome) {
        let staging = &mut self.connection_mut(id).staging;
        match outcome {
            Outcome::Answered(Answer::List(list)) => self.adopt(id, number, list.list_id),
            Outcome::Refused(Refusal { disposition, .. }) => match disposition {
                Disposition::Conflict => staging.perhaps_made = Some((number, true)),
                Disposition::ServerError => staging.perhaps_made = Some((number, false)),
                // The account has as many lists as it may have, say.
                Disposition::Invalid | Disposition::NotFound | Disposition::Split => {
                    staging.blocked_until = now.mono.plus_ms(STAGING_RETRY_MS);
                }
                Disposition::Throttled
                | Disposition::QuotaExceeded
                | Disposition::QueueFull
                | Disposition::RefreshToken
                | Disposition::HoldConnection => {}
            },
            Outcome::Answered(_) | Outcome::Unknown(_) => staging.perhaps_made = Some((number, false)),
            Outcome::NotSent(_) => {}
        }
    }

    /// One that exists already is ours if nobody is on it: no round of ours has ever used a list that the state does not
    /// know. One with members may be somebody else's.
    fn on_staging_found(&mut self, now: Now, id: ConnectionId, number: u8, outcome: Outcome) {
        let staging = &mut self.connection_mut(id).staging;
        let stale = is_stale(&outcome);
        let Outcome::Answered(Answer::Lists(page)) = outcome else {
            if stale {
                staging.blocked_until = now.mono.plus_ms(STAGING_RETRY_MS);
            }
            return;
        };
        let conflict = staging.perhaps_made.take().is_some_and(|(_, conflict)| conflict);
        let name = staging_name(number);
        let found: Option<&List> = page.items.iter().find(|list| list.name == name);
        match found {
            Some(list) if list.membership_count == Some(0) && staging.find(list.list_id).is_none() => {
                self.adopt(id, number, list.list_id);
            }
            None if !conflict => {}
            Some(_) | None => {
                staging.taken.insert(number);
            }
        }
    }

    /// It is gone, or will be: whatever was there cannot be used again.
    fn forget_list(&mut self, id: ConnectionId, list: ListId) {
        let staging = &mut self.connection_mut(id).staging;
        let Some(place) = staging.lists.iter().position(|known| known.list == list) else { return };
        let number = staging.lists.remove(place).number;
        self.pool_changed(id);
        self.tell_of(id, number, StagingListChange::Deleted);
    }

    fn delete_at(&mut self, id: ConnectionId, list: ListId, at: Mono) {
        if let Some(known) = self.connection_mut(id).staging.find(list) {
            known.state = Use::Condemned(Deletion::Due { after_commits: 0, at });
        }
    }

    fn on_deleted(&mut self, now: Now, id: ConnectionId, list: ListId, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(Answer::Activity(activity)) => {
                let at =
                    now.mono.plus_ms(self.connections[usize::from(id.0)].activity_time.look_after_ms(0).clamp(1_000, 60_000));
                if let Some(known) = self.connection_mut(id).staging.find(list) {
                    known.state = Use::Condemned(Deletion::Followed { activity: activity.activity_id, at });
                }
            }
            // "list_id not found".
            Outcome::Refused(Refusal { disposition: Disposition::Invalid | Disposition::NotFound, .. }) => {
                self.forget_list(id, list);
            }
            Outcome::Refused(Refusal {
                // A full queue of activities is told of this call as one that comes too fast.
                disposition: Disposition::Conflict | Disposition::QueueFull | Disposition::Throttled | Disposition::Split,
                ..
            }) => {
                self.delete_at(id, list, now.mono.plus_ms(DELETE_AGAIN_MS));
            }
            // Asking twice does no harm.
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                self.delete_at(id, list, now.mono);
            }
        }
    }

    fn on_followed(&mut self, now: Now, id: ConnectionId, list: ListId, activity: ActivityId, outcome: &Outcome) {
        let again = now.mono.plus_ms(DELETE_AGAIN_MS);
        let state = match outcome {
            Outcome::Answered(Answer::Activity(read)) => Some(read.state),
            Outcome::Refused(Refusal { disposition: Disposition::NotFound, .. }) => return self.delete_at(id, list, again),
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => None,
        };
        match state {
            Some(ActivityState::Completed) => self.forget_list(id, list),
            Some(ActivityState::Cancelled | ActivityState::Failed | ActivityState::TimedOut) => self.delete_at(id, list, again),
            Some(ActivityState::Initialized | ActivityState::Processing) | None => {
                let at = now.mono.plus_ms(if state.is_some() { 30_000 } else { 5_000 });
                if let Some(known) = self.connection_mut(id).staging.find(list) {
                    known.state = Use::Condemned(Deletion::Followed { activity, at });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: Mono(1_000_000), wall: crate::model::time::UnixMillis(0) };

    fn pool(states: &[Use]) -> Staging {
        let lists = states.iter().zip(1..).map(|(state, number)| StagingList {
            list: ListId::from_u128(u128::from(number)),
            number,
            state: *state,
        });
        Staging { lists: lists.collect(), ..Staging::default() }
    }

    fn needs(commits: u64, lists: usize) -> Needs {
        Needs { commits, lists, usual: 0, queue_full_until: None }
    }

    #[test]
    fn counts_are_read_only_when_a_round_finds_no_free_list() {
        let spent = Use::Spent { since: Mono(999_000) };
        let mut staging = pool(&[spent, Use::Free, spent]);
        assert_eq!(staging.next_call(NOW, needs(0, 1)), (None, None));
        assert_eq!(staging.next_call(NOW, needs(0, 2)), (Some(PoolCall::Counts), None));
        assert_eq!((staging.calls_for(1), staging.calls_for(2), staging.calls_for(3), staging.calls_for(5)), (0, 1, 1, 3));
        // They were read since: another list is made meanwhile.
        staging.read_at = Some(Mono(999_500));
        assert_eq!(staging.next_call(NOW, needs(0, 2)), (Some(PoolCall::Create(4)), Some(Mono(1_059_500))));
        staging.taken.insert(4);
        assert_eq!(staging.next_call(NOW, needs(0, 2)).0, Some(PoolCall::Create(5)));
    }

    #[test]
    fn a_list_is_deleted_once_the_state_says_so_and_its_number_stays_taken_meanwhile() {
        let due = Use::Condemned(Deletion::Due { after_commits: 7, at: Mono(0) });
        let staging = pool(&[due]);
        assert_eq!(staging.next_call(NOW, needs(6, 1)).0, Some(PoolCall::Create(2)));
        assert_eq!(staging.next_call(NOW, needs(7, 1)).0, Some(PoolCall::Delete(ListId::from_u128(1))));
        let full = Needs { queue_full_until: Some(NOW.mono.plus_ms(9)), ..needs(7, 1) };
        assert_eq!(staging.next_call(NOW, full), (Some(PoolCall::Create(2)), Some(NOW.mono.plus_ms(9))), "it is an activity");
        assert!(!staging.is_quiet());
    }

    #[test]
    fn no_more_lists_are_made_than_there_may_be() {
        let mut staging = pool(&[Use::Serving; STAGING_LISTS_MAX]);
        assert_eq!(staging.next_call(NOW, needs(0, 1)), (None, None));
        staging.lists.pop();
        assert_eq!(staging.next_call(NOW, needs(0, 1)).0, Some(PoolCall::Create(50)));
        staging.blocked_until = NOW.mono.plus_ms(5);
        assert_eq!(staging.next_call(NOW, needs(0, 1)), (None, Some(NOW.mono.plus_ms(5))));
    }

    #[test]
    fn names_say_what_the_lists_are_for() {
        assert_eq!(staging_name(7), "Listkeeper staging 07 - used while removing contacts; safe to ignore");
    }
}
