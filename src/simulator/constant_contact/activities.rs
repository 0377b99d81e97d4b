//! Bulk activities: states over time, counts, listings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{
    account::Account,
    answer::{Answer, instant, second},
    config::{Execution, VendorConfig},
    ids::IdKind,
    import::Import,
    query::Query,
    removal::{Deletion, Removal},
};
use crate::model::{
    ActivityId, ListId, Text, activity::ActivityState, batch::Operation, call::ContactStatus, hash::text_hash, time::UnixMillis,
};

/// Activities can be read for ten days.
const RETENTION_MS: u64 = 10 * 86_400_000;

/// What an activity counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) items_total: u64,
    pub(super) items_completed: u64,
    pub(super) person: u64,
    pub(super) error: u64,
    pub(super) correctable: u64,
    pub(super) cannot_add_to_list: u64,
    pub(super) lists: u64,
}

/// What is still to be done.
#[derive(Debug)]
pub(super) enum Work {
    Import(Import),
    Remove(Removal),
    /// Of a list, by its number.
    Delete(u32),
    DeleteContacts(Deletion),
}

/// An activity that has not ended, for oracles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenActivity {
    /// Its id.
    pub activity_id: ActivityId,
    /// What it does.
    pub operation: Operation,
    /// The imported file's name.
    pub source_file_name: Option<Text>,
    /// The lists it changes.
    pub lists: Vec<ListId>,
    /// [`text_hash`] of the addresses that it touches; empty when its work is done already.
    pub contacts: Vec<u64>,
}

/// One application step, for oracles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// When.
    pub at: UnixMillis,
    /// Which activity.
    pub activity_id: ActivityId,
    /// What it did.
    pub operation: Operation,
    /// How it ends.
    pub ending: ActivityState,
    /// The imported file's name.
    pub source_file_name: Option<Text>,
    /// The lists it changed.
    pub lists: Vec<ListId>,
    /// Rows of the file without the header, or contacts named.
    pub rows: u64,
    /// [`text_hash`] of the addresses that it touched.
    pub contacts: Vec<u64>,
    /// The addresses of contacts that it deleted.
    pub deleted: Vec<Text>,
    /// Contacts that it made, and how many of the account's were active then.
    pub made: u64,
    /// See [`Self::made`].
    pub active: u64,
}

#[derive(Debug)]
struct Activity {
    created: UnixMillis,
    starts: UnixMillis,
    ends: UnixMillis,
    operation: Operation,
    state: ActivityState,
    /// The state that it ends in, and the rows or contacts that it comes to before.
    ending: ActivityState,
    reaches: usize,
    file_name: Option<Text>,
    lists: Vec<u32>,
    work: Option<Work>,
    counts: Counts,
    errors: Vec<String>,
    /// Once it has ended: as it is shown, but for its links.
    ended: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start,
    End,
}

#[derive(Debug, Default)]
pub(super) struct Activities {
    /// The number of the oldest that is kept.
    first: u32,
    kept: VecDeque<Activity>,
    timeline: BTreeSet<(UnixMillis, u32, Step)>,
    last_end: UnixMillis,
    applied: Vec<Applied>,
    forgotten: BTreeMap<&'static str, u64>,
    open: usize,
}

const fn word(state: ActivityState) -> &'static str {
    match state {
        ActivityState::Initialized => "initialized",
        ActivityState::Processing => "processing",
        ActivityState::Completed => "completed",
        ActivityState::Cancelled => "cancelled",
        ActivityState::Failed => "failed",
        ActivityState::TimedOut => "timed_out",
    }
}

/// How an activity is to end, and how many of its rows or contacts it comes to.
fn ending(config: &VendorConfig, random: &mut fastrand::Rng, size: u64) -> (ActivityState, usize) {
    let bad = config.bad_endings;
    let mut below = 0;
    let states = [
        (ActivityState::Failed, bad.failed_percent),
        (ActivityState::Cancelled, bad.cancelled_percent),
        (ActivityState::TimedOut, bad.timed_out_percent),
    ];
    // Nothing is drawn where all end well, so that this choice changes no world that does not make it.
    let drawn = if states.iter().all(|(_, percent)| *percent == 0) { u32::MAX } else { random.u32(..100) };
    for (state, percent) in states {
        below += u32::from(percent);
        if drawn < below {
            let done_percent = u64::from(random.u8(..=bad.done_percent_max.min(100)));
            return (state, usize::try_from(size * done_percent / 100).unwrap_or(usize::MAX));
        }
    }
    (ActivityState::Completed, usize::MAX)
}

fn hashes(account: &Account, work: &Work) -> Vec<u64> {
    match work {
        Work::Import(import) => import.hashes(),
        // What becomes of its contacts concerns no other list.
        Work::Delete(_) => Vec::new(),
        Work::DeleteContacts(deletion) => deletion.known.iter().map(|number| text_hash(account.address(*number))).collect(),
        Work::Remove(removal) => removal.contacts(account).into_iter().map(|number| text_hash(account.address(number))).collect(),
    }
}

impl Activities {
    /// Queues the work and answers 201, or 429 when the account's queue is full.
    pub(super) fn queue(
        &mut self,
        account: &Account,
        config: &VendorConfig,
        random: &mut fastrand::Rng,
        now: UnixMillis,
        work: Work,
    ) -> Answer {
        if self.open >= config.activities_queued_max {
            let message = "Too many requests. You exceeded 1,000 queued activities for this user account.";
            return Answer::error(StatusCode::TOO_MANY_REQUESTS, "contacts.api.too_many_activities", message);
        }
        let (operation, size, lists, file_name) = match &work {
            Work::Import(import) => {
                (Operation::Import, import.records, import.lists.clone(), config.names_echoed.then(|| import.file_name.clone()))
            }
            Work::Remove(removal) => (Operation::Remove, removal.size(account), removal.lists.clone(), None),
            Work::DeleteContacts(deletion) => (Operation::Remove, deletion.named, Vec::new(), None),
            Work::Delete(list) => (Operation::Remove, account.members(*list).count() as u64, vec![*list], None),
        };
        let status = if let Work::Delete(_) = &work { StatusCode::ACCEPTED } else { StatusCode::CREATED };
        let time = config.activity_ms;
        let (mut queued_ms, mut work_ms) = (0, 0);
        if !config.instant {
            queued_ms = time.queued_ms;
            work_ms = time.base_ms + time.per_1000_rows_ms * size / 1_000;
            work_ms += work_ms * u64::from(random.u8(0..=time.jitter_percent)) / 100;
        }
        let (ending, reaches) = ending(config, random, size);
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let mut starts = now.plus_ms(ms(queued_ms));
        if config.serial {
            starts = starts.max(self.last_end);
        }
        let ends = starts.plus_ms(ms(work_ms));
        self.last_end = self.last_end.max(ends);
        let number = self.first + u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        self.timeline.insert((starts, number, Step::Start));
        self.timeline.insert((ends, number, Step::End));
        self.open += 1;
        self.kept.push_back(Activity {
            created: now,
            starts,
            ends,
            operation,
            state: ActivityState::Initialized,
            ending,
            reaches,
            file_name,
            lists,
            work: Some(work),
            counts: Counts::default(),
            errors: Vec::new(),
            ended: None,
        });
        let mut body = String::new();
        self.show(account, number, now, account.ids.id(IdKind::Activity, number), &mut body);
        Answer::text(status, body)
    }

    /// Everything that happens up to `now`, in its order.
    pub(super) fn advance(&mut self, account: &mut Account, config: &VendorConfig, now: UnixMillis) {
        while let Some(&(at, number, step)) = self.timeline.first() {
            if at > now {
                break;
            }
            self.timeline.pop_first();
            let Some(activity) = self.kept.get_mut((number - self.first) as usize) else { continue };
            let works = match (step, config.execution) {
                (Step::Start, Execution::AtStart) | (Step::End, Execution::AtEnd) => activity.work.take(),
                (Step::Start, Execution::AtEnd) | (Step::End, Execution::AtStart) => None,
            };
            match step {
                Step::Start => activity.state = ActivityState::Processing,
                Step::End => {
                    activity.state = activity.ending;
                    self.open -= 1;
                }
            }
            if let Some(work) = works {
                activity.work_off(account, config, at, number, work, &mut self.applied);
            }
            if activity.state.is_final() {
                activity.ended = Some(activity.shown(account.ids.id(IdKind::Activity, number), at).into());
            }
        }
        while self.kept.front().is_some_and(|oldest| oldest.state.is_final() && now.since_ms(oldest.created) > RETENTION_MS) {
            if let Some(oldest) = self.kept.pop_front() {
                *self.forgotten.entry(word(oldest.state)).or_default() += 1;
                self.first += 1;
            }
        }
    }

    pub(super) fn next_change(&self) -> Option<UnixMillis> {
        self.timeline.first().map(|&(at, _, _)| at)
    }

    pub(super) fn last_end(&self) -> UnixMillis {
        self.last_end
    }

    pub(super) fn drain_applied(&mut self) -> Vec<Applied> {
        std::mem::take(&mut self.applied)
    }

    pub(super) fn by_state(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.forgotten.clone();
        for activity in &self.kept {
            *counts.entry(word(activity.state)).or_default() += 1;
        }
        counts
    }

    pub(super) fn open(&self, account: &Account) -> Vec<OpenActivity> {
        (self.first..)
            .zip(&self.kept)
            .filter(|(_, activity)| !activity.state.is_final())
            .map(|(number, activity)| OpenActivity {
                activity_id: account.ids.id(IdKind::Activity, number),
                operation: activity.operation,
                source_file_name: activity.file_name.clone(),
                lists: activity.lists.iter().map(|&list| account.list_id(list)).collect(),
                contacts: activity.work.as_ref().map(|work| hashes(account, work)).unwrap_or_default(),
            })
            .collect()
    }

    fn number(&self, account: &Account, id: Uuid) -> Option<u32> {
        let number = account.ids.number(IdKind::Activity, id)?;
        let place = number.checked_sub(self.first)?;
        ((place as usize) < self.kept.len()).then_some(number)
    }

    /// `GET /activities/{activity_id}`.
    pub(super) fn one(&self, account: &Account, id: &str, now: UnixMillis) -> Result<Answer, Answer> {
        let id: Uuid = id.parse().map_err(|_| Answer::not_found("activity_id is in an invalid format."))?;
        let number = self.number(account, id).ok_or_else(|| Answer::not_found("activity_id not found"))?;
        let mut body = String::new();
        self.show(account, number, now, id, &mut body);
        Ok(Answer::text(StatusCode::OK, body))
    }

    /// `GET /activities`, newest first.
    pub(super) fn listing(&self, account: &Account, query: &Query, now: UnixMillis) -> Result<Answer, Answer> {
        query.only(&["limit", "state"])?;
        let limit = query.limit(500)?;
        // The text of the method says time_out, its list of values timed_out.
        let state = query.value("state").map(|state| if state == "time_out" { "timed_out" } else { state });
        if state.is_some_and(|state| !["processing", "completed", "cancelled", "failed", "timed_out"].contains(&state)) {
            return Err(Answer::invalid("state does not have a valid value"));
        }
        let end = self.first + u32::try_from(self.kept.len()).unwrap_or(0);
        let from = match query.next()? {
            None => end,
            Some(id) => self.number(account, id).ok_or_else(|| Answer::invalid("cursor is unknown"))? + 1,
        };
        let mut rest = (self.first..from).rev().filter(|&number| {
            let activity = self.kept.get((number - self.first) as usize);
            activity.is_some_and(|activity| state.is_none_or(|state| word(activity.state) == state))
        });
        let numbers: Vec<u32> = rest.by_ref().take(limit).collect();
        // As recorded from the real API: every item links to the last one.
        let linked = account.ids.id(IdKind::Activity, numbers.last().copied().unwrap_or_default());
        let mut body = String::from(r#"{"activities":["#);
        for (place, number) in numbers.iter().enumerate() {
            if place > 0 {
                body.push(',');
            }
            self.show(account, *number, now, linked, &mut body);
        }
        body.push(']');
        if let Some(next) = rest.next() {
            let next = account.ids.id(IdKind::Activity, next);
            let links = json!({ "next": { "href": query.next_href("/v3/activities", limit, next) } });
            body.push_str(r#","_links":"#);
            body.push_str(&links.to_string());
        }
        body.push('}');
        Ok(Answer::text(StatusCode::OK, body))
    }

    /// Writes an activity as it is shown. A listing shows all of the last ten days, so what has ended is written once.
    fn show(&self, account: &Account, number: u32, now: UnixMillis, linked: Uuid, into: &mut String) {
        let Some(activity) = self.kept.get((number - self.first) as usize) else { return };
        match &activity.ended {
            Some(ended) => into.push_str(ended),
            None => into.push_str(&activity.shown(account.ids.id(IdKind::Activity, number), now)),
        }
        // The place of the closing brace.
        into.pop();
        into.push_str(r#","_links":{"self":{"href":"/v3/activities/"#);
        into.push_str(linked.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        into.push_str(r#""}}}"#);
    }
}

impl Activity {
    /// Does its work.
    fn work_off(
        &mut self,
        account: &mut Account,
        config: &VendorConfig,
        at: UnixMillis,
        number: u32,
        mut work: Work,
        applied: &mut Vec<Applied>,
    ) {
        let contacts = if config.observed { hashes(account, &work) } else { Vec::new() };
        let deleted = match &work {
            Work::DeleteContacts(deletion) if config.observed => {
                deletion.known.iter().take(self.reaches).map(|number| Text::new(account.address(*number))).collect()
            }
            Work::Import(_) | Work::Remove(_) | Work::Delete(_) | Work::DeleteContacts(_) => Vec::new(),
        };
        let now_s = u32::try_from(second(at)).unwrap_or(0);
        let before = account.contacts.len();
        let rows = match &mut work {
            Work::Import(import) => {
                (self.counts, self.errors) = import.apply(account, config, now_s, self.reaches);
                import.records
            }
            Work::Remove(removal) => {
                self.counts = removal.apply(account, config, now_s, self.reaches);
                self.counts.items_total
            }
            Work::DeleteContacts(deletion) => {
                self.counts = deletion.apply(account, now_s, self.reaches);
                self.counts.items_total
            }
            // All of it or, where it ends badly, nothing.
            Work::Delete(list) => {
                let total = if self.ending == ActivityState::Completed { account.delete_list(*list, now_s) } else { 0 };
                self.counts = Counts { items_total: total, items_completed: total, lists: 1, ..Counts::default() };
                total
            }
        };
        if config.observed {
            applied.push(Applied {
                at,
                activity_id: account.ids.id(IdKind::Activity, number),
                operation: self.operation,
                ending: self.ending,
                source_file_name: self.file_name.clone(),
                lists: self.lists.iter().map(|&list| account.list_id(list)).collect(),
                rows,
                contacts,
                deleted,
                made: (account.contacts.len() - before) as u64,
                active: account.contacts.iter().filter(|contact| contact.status == ContactStatus::Active).count() as u64,
            });
        }
    }

    /// As it is shown, but for its links.
    fn shown(&self, id: Uuid, now: UnixMillis) -> String {
        let (percent, updated) = match self.state {
            ActivityState::Initialized => (1, self.created),
            ActivityState::Processing => {
                let span_ms = self.ends.since_ms(self.starts).max(1);
                ((now.since_ms(self.starts) * 100 / span_ms).clamp(1, 99), self.starts)
            }
            ActivityState::Completed | ActivityState::Cancelled | ActivityState::Failed | ActivityState::TimedOut => {
                (100, self.ends)
            }
        };
        let mut shown = json!({
            "activity_id": id,
            "state": word(self.state),
            "created_at": instant(second(self.created)),
            "updated_at": instant(second(updated)),
            "percent_done": percent,
            "activity_errors": self.errors,
            "status": {},
        });
        if let Some(file_name) = &self.file_name {
            shown["source_file_name"] = json!(file_name);
        }
        if self.state != ActivityState::Initialized {
            shown["started_at"] = json!(instant(second(self.starts)));
        }
        if self.state.is_final() {
            shown["completed_at"] = json!(instant(second(self.ends)));
            let counts = &self.counts;
            shown["status"] = match self.operation {
                Operation::Import => json!({
                    "items_total_count": counts.items_total,
                    "person_count": counts.person,
                    "error_count": counts.error,
                    "correctable_count": counts.correctable,
                    "cannot_add_to_list_count": counts.cannot_add_to_list,
                }),
                Operation::Remove => json!({
                    "items_total_count": counts.items_total,
                    "items_completed_count": counts.items_completed,
                    "list_count": counts.lists,
                }),
            };
        }
        shown.to_string()
    }
}
