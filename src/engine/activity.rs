//! A batch's life: opened in the state, sent, followed to the end of its activity, settled.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::model::{
    ActivityId, ContactId, ListId,
    activity::{Activity, ActivityState},
    batch::{BatchName, CutReason, ImportRows, Operation},
    call::Cursor,
    catalog::{ConnectionId, ExportId},
    hash::text_hash,
    position::PartitionId,
    row::Row,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    coalescer::Tokens,
    limits::{BATCH_CHUNK_ROWS, OPEN_ROW_BYTES, count},
    membership::{ContactSlot, InFlight, MemberId},
    output::CommitId,
    planted::{Bug, planted},
    rounds::Round,
    search::SearchId,
    suppression::Seen,
    verify::Check,
};

/// One contact in a batch.
#[derive(Debug)]
pub(super) struct BatchRow {
    pub(super) slot: ContactSlot,
    pub(super) row_hash: u64,
    pub(super) since: UnixMillis,
    pub(super) tokens: Tokens,
    /// When its records are parked.
    pub(super) parks_at: Mono,
    pub(super) touched: SmallVec<[MemberId; 1]>,
}

/// How far a look for an import's name has come.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) cursor: Option<Cursor>,
    /// When the first complete look found nothing.
    pub(super) absent_since: Option<Mono>,
    pub(super) next_at: Mono,
    pub(super) under_way: bool,
}

/// Where a batch stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its record is to be committed.
    Opening,
    /// Its record is in this transaction.
    Committing(CommitId),
    /// It may be sent.
    Ready,
    /// It is being sent.
    Posting,
    /// Its outcome is unknown: its name is looked for.
    Looking(Look),
    /// The vendor works on it.
    Running {
        activity: ActivityId,
        next_poll: Mono,
        since: Mono,
        /// When it was last read as still at work.
        seen_at: Mono,
        /// No page of the account's activities showed it: it is read by itself.
        unlisted: bool,
    },
    /// A removal was repeated: nameless activities that may be its first attempt are waited for.
    Clearing {
        next_at: Mono,
        cursor: Option<Cursor>,
        under_way: bool,
        waiting_for: bool,
        /// The repeat completed.
        completed: bool,
    },
    /// A round's removal completed: it is looked whether its contacts have left.
    Checking(Check),
    /// It is over.
    Ended(Box<Ending>),
}

impl Stage {
    pub(super) const fn running(activity: ActivityId, next_poll: Mono, since: Mono) -> Self {
        Self::Running { activity, next_poll, since, seen_at: since, unlisted: false }
    }

    pub(super) const fn clearing(next_at: Mono, completed: bool) -> Self {
        Self::Clearing { next_at, cursor: None, under_way: false, waiting_for: false, completed }
    }
}

/// How a batch ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Completed, with the rows (by index) that were refused.
    Applied { at: UnixMillis, refused: Vec<u32> },
    /// What it did is unknown; its contacts are decided anew.
    Unknown,
    /// It never reached the vendor, or was refused as a whole.
    NotDone,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) name: BatchName,
    pub(super) export: ExportId,
    /// The account that it is sent to: the export may be in another one by now.
    pub(super) connection: ConnectionId,
    pub(super) operation: Operation,
    pub(super) list: ListId,
    pub(super) rows: Vec<BatchRow>,
    /// How many of them the brake counts.
    pub(super) removals: u64,
    /// How many of them may become contacts of the account, where its contract limits these.
    pub(super) adds: u64,
    pub(super) import: Option<ImportRows>,
    pub(super) ids: Vec<ContactId>,
    /// For a removal by a staging list.
    pub(super) round: Option<Round>,
    /// For a removal that deletes its contacts.
    pub(super) deletes: bool,
    pub(super) stage: Stage,
    /// By the vendor's clock: none of its activities is older.
    pub(super) opened_at: UnixMillis,
    /// When its rows were counted as moved.
    pub(super) counted_at: UnixMillis,
    pub(super) reason: CutReason,
    /// Not before this instant.
    pub(super) not_before: Mono,
    /// It was found in the state: it settles nothing.
    pub(super) restored: bool,
    /// A removal that was sent more than once.
    pub(super) repeated: bool,
    /// When the records that its rows carry are parked; `None` when none is left to park.
    pub(super) parks_at: Option<Mono>,
    /// It was not found by its name: its record stays.
    pub(super) given_up: bool,
    /// Contacts that one which was given up touched meanwhile.
    pub(super) haunted: BTreeSet<ContactSlot>,
    /// Contacts that its activity could not add to the list.
    pub(super) cannot_add: u64,
    /// The search for refused rows that it is a part of: an import of its rows has completed before.
    pub(super) search: Option<SearchId>,
    /// Rows of it that were refused, and are not looked for any more.
    pub(super) unfound: u64,
    /// How long the vendor worked on its activities.
    pub(super) vendor_ms: u64,
    /// The reading of suppressed contacts that may explain them.
    pub(super) reads_first: Option<u64>,
    /// What was known of suppressed and erased contacts when its rows were looked through.
    pub(super) seen: Option<Seen>,
    /// The state holds all of its parts: the next step of a round is written to the first alone.
    pub(super) recorded: bool,
    /// For a restored one: the positions that its rows carried; its contacts are decided once they were read again.
    pub(super) carried: BTreeMap<PartitionId, i64>,
}

impl Batch {
    /// The row that is being sent.
    pub(super) fn row(&self, index: u32) -> Option<Row> {
        self.import.as_ref().and_then(|import| import.rows.get(index as usize)).map(|(_, row)| row.clone())
    }

    pub(super) fn chunks(&self) -> u32 {
        count(self.rows.len().div_ceil(BATCH_CHUNK_ROWS))
    }
}

/// What an import's counts and texts say.
pub(super) struct JudgedImport {
    /// Fewer rows than were sent: the rest may have been cut off without a word.
    pub(super) short: bool,
    /// Rows, by index, that were refused; ascending.
    pub(super) refused: Vec<u32>,
    /// Rows that were refused without a word which.
    pub(super) unexplained: u64,
    /// Contacts that must not be on lists.
    pub(super) cannot_add: u64,
}

/// Reads the counts of an import of so many rows.
pub(super) fn judge_import(rows: u64, activity: &Activity) -> JudgedImport {
    let counts = activity.counts;
    let faults = counts.error.unwrap_or(0) + counts.correctable.unwrap_or(0);
    let named = activity.error_lines.iter().filter_map(|line| line.checked_sub(2)).filter(|row| u64::from(*row) < rows);
    let mut refused: Vec<u32> = named.collect();
    refused.sort_unstable();
    refused.dedup();
    let unexplained = faults.saturating_sub(refused.len() as u64);
    if rows == 1 && faults > 0 && refused.is_empty() {
        refused.push(0);
    }
    JudgedImport {
        short: counts.items_total.is_some_and(|total| total < rows),
        refused,
        unexplained,
        cannot_add: counts.cannot_add_to_list.unwrap_or(0),
    }
}

/// How many rows a batch is held for: long ones count as several.
fn rows_held(rows: usize, import: Option<&ImportRows>) -> u64 {
    let bytes: usize = import.map_or(0, |import| import.rows.iter().map(|(address, row)| row.size_bytes_max(address)).sum());
    (rows as u64).max(bytes as u64 / OPEN_ROW_BYTES)
}

/// What a new batch is made of.
pub(super) struct Cut {
    pub(super) export: ExportId,
    pub(super) operation: Operation,
    pub(super) rows: Vec<BatchRow>,
    pub(super) import: Option<ImportRows>,
    pub(super) ids: Vec<ContactId>,
    pub(super) round: Option<Round>,
    /// Of a removal: its contacts are deleted.
    pub(super) deletes: bool,
    pub(super) reason: CutReason,
}

impl Engine {
    /// Opens a batch: its contacts are fenced from here on. Its number.
    pub(super) fn open_batch(&mut self, now: Now, list: ListId, cut: Cut) -> u64 {
        let number = self.next_batch;
        self.next_batch += 1;
        let name = BatchName(compact_str::format_compact!("lk-{:016x}-{number}", self.term_mark));
        let parks_at = cut.rows.iter().filter(|row| !row.tokens.is_empty()).map(|row| row.parks_at).min();
        let state = &mut self.exports[usize::from(cut.export.0)];
        let (connection, application) = (state.connection, state.application);
        for (index, row) in cut.rows.iter().enumerate() {
            let contact = state.members.contact_mut(row.slot);
            contact.in_flight = Some(InFlight::new(number, count(index)));
            if planted(Bug::FenceForgotten) {
                continue;
            }
            self.connections[usize::from(connection.0)].fences.entry(text_hash(&contact.address)).or_default();
        }
        state.rows_open += u64::from(count(cut.rows.len()));
        let rows = count(cut.rows.len());
        let account = self.connection_mut(connection);
        account.open_batches += 1;
        account.open_rows += rows_held(cut.rows.len(), cut.import.as_ref());
        account.begins += 1;
        let key = self.application_mut(application);
        (key.unsent, key.ready) = (key.unsent + 1, key.ready + 1);
        if cut.round.is_some() {
            // Its two activities are planned as they are sent.
            let more = self.removal_calls_usual(now, cut.export).map_or(0.0, |calls| calls - 2.0);
            self.application_mut(application).overhead.plan(more);
        }
        let opened_at = self.vendor_now(application, now);
        let hour_now = self.hour_now(application, now);
        let counted_at = if cut.round.is_some() { self.staged_at(connection, hour_now, u64::from(rows)) } else { hour_now };
        let state = self.export_mut(cut.export);
        let counted_at = state.hourly.add(hour_now, counted_at, u64::from(rows));
        state.record_due = true;
        self.emit(Event::BatchCut { name: name.clone(), export: cut.export, operation: cut.operation, rows, reason: cut.reason });
        let mut batch = Batch {
            name,
            export: cut.export,
            connection,
            operation: cut.operation,
            list,
            rows: cut.rows,
            removals: 0,
            adds: 0,
            import: cut.import,
            ids: cut.ids,
            round: cut.round,
            deletes: cut.deletes,
            stage: if planted(Bug::SentBeforeCommit) { Stage::Ready } else { Stage::Opening },
            opened_at,
            counted_at,
            reason: cut.reason,
            not_before: Mono(0),
            restored: false,
            repeated: false,
            parks_at,
            given_up: false,
            haunted: BTreeSet::new(),
            cannot_add: 0,
            search: None,
            unfound: 0,
            vendor_ms: 0,
            reads_first: None,
            seen: None,
            recorded: false,
            carried: BTreeMap::new(),
        };
        self.count_begun(&mut batch);
        self.adds_begin(&mut batch);
        self.batches.insert(number, batch);
        number
    }

    /// One reading of a running batch's activity.
    pub(super) fn on_activity(&mut self, now: Now, number: u64, activity: &Activity) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let (import, connection) = (batch.sends() == Operation::Import, batch.connection);
        let since = match batch.stage {
            Stage::Running { since, .. } => since,
            Stage::Opening | Stage::Committing(_) | Stage::Ready | Stage::Posting | Stage::Looking(_) => now.mono,
            Stage::Clearing { .. } | Stage::Checking(_) | Stage::Ended(_) => return,
        };
        if import {
            self.check_name(connection, activity);
        }
        let interval_ms = self.poll_interval_ms(now, connection, since);
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let rows = batch.rows.len() as u64;
        if !activity.state.is_final() {
            // It was read beside others, perhaps long before its own end.
            let done_at = since.plus_ms(self.connections[usize::from(connection.0)].activity_time.look_after_ms(rows));
            let next_poll = now.mono.plus_ms(interval_ms).max(done_at);
            let activity = activity.activity_id;
            batch.stage = Stage::Running { activity, next_poll, since, seen_at: now.mono, unlisted: false };
            return;
        }
        let operation = batch.sends();
        let ended_at = self.activity_over(now, number, operation, since, activity);
        if self.waits_for_import(number) {
            self.poll_again(now, number);
            return;
        }
        // First: an earlier attempt of a repeated one may still run, whoever sent it and however the repeat ended. What an
        // import did is not known then: its rows are sent once more, and those counts tell.
        if let Some(batch) = self.batches.get_mut(&number).filter(|batch| batch.repeated && !planted(Bug::RepeatNotCleared)) {
            batch.stage = Stage::clearing(now.mono, !import && activity.state == ActivityState::Completed);
            return;
        }
        match activity.state {
            ActivityState::Failed if planted(Bug::FailedIsApplied) => self.on_completed(now, number, activity, ended_at),
            ActivityState::Completed => self.on_completed(now, number, activity, ended_at),
            ActivityState::Cancelled | ActivityState::Failed | ActivityState::TimedOut => {
                // What a round's import did, it did to the staging list alone.
                let staged = self.batches.get(&number).is_some_and(|batch| batch.round.is_some() && !batch.restored && import);
                self.end(number, if staged { Ending::NotDone } else { Ending::Unknown });
            }
            ActivityState::Initialized | ActivityState::Processing => {}
        }
    }

    /// An activity of a batch is over: what it took is learned. When it ended.
    pub(super) fn activity_over(
        &mut self,
        now: Now,
        number: u64,
        operation: Operation,
        since: Mono,
        activity: &Activity,
    ) -> UnixMillis {
        let Some(batch) = self.batches.get_mut(&number) else { return now.wall };
        let (connection, rows) = (batch.connection, batch.rows.len() as u64);
        let application = self.exports[usize::from(batch.export.0)].application;
        let vendor_now = self.applications[usize::from(application.0)].quota.vendor_time(now.mono);
        let ended_at = activity.completed_at.or(vendor_now.map(|(earliest, _)| earliest)).unwrap_or(now.wall);
        let took_ms = activity.created_at.map_or_else(|| now.mono.since_ms(since), |created| ended_at.since_ms(created));
        batch.vendor_ms += took_ms;
        let (name, export) = (batch.name.clone(), batch.export);
        let account = &mut self.connections[usize::from(connection.0)];
        account.activity_time.ended(since);
        if activity.state == ActivityState::Completed
            && let Some(created_at) = activity.created_at
        {
            account.activity_time.learn(rows, created_at, ended_at);
            account.learned.keep_activity_time(account.activity_time.learned());
        }
        self.emit(Event::ActivityEnded { name, export, operation, state: activity.state, took_ms });
        ended_at
    }

    fn on_completed(&mut self, now: Now, number: u64, activity: &Activity, at: UnixMillis) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        if batch.restored {
            self.end(number, Ending::Unknown);
            return;
        }
        if batch.round.is_some() {
            self.on_step_completed(now, number, activity, at);
            return;
        }
        let rows = batch.rows.len() as u64;
        if batch.operation == Operation::Import {
            let judged = judge_import(rows, activity);
            let short = judged.short && batch.reason != CutReason::Split;
            if rows > 1 && (short || judged.unexplained > 0) {
                self.search(now, number, &judged, short);
                return;
            }
            let JudgedImport { refused, cannot_add, .. } = judged;
            // Whom the vendor keeps off lists is in the set, once it was read on.
            if cannot_add > 0 {
                batch.cannot_add = cannot_add;
                batch.reads_first = Some(self.connections[usize::from(batch.connection.0)].suppression.ask());
            }
            self.end(number, Ending::Applied { at, refused });
        } else {
            self.end(number, Ending::Applied { at, refused: Vec::new() });
        }
    }

    pub(super) fn end(&mut self, number: u64, ending: Ending) {
        if self.waits_for_import(number) {
            return;
        }
        let ending = self.round_ending(number, ending);
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.stage = Stage::Ended(Box::new(ending));
        }
    }

    /// Takes a batch out of the accounts; its records go with the next transaction.
    pub(super) fn close(&mut self, batch: &Batch) {
        self.count_over(batch);
        if !batch.given_up {
            self.journal.closed.push((batch.name.clone(), batch.chunks()));
        }
        if let Some(search) = batch.search {
            self.searches.left(search);
        }
        let state = &mut self.exports[usize::from(batch.export.0)];
        state.rows_open = state.rows_open.saturating_sub(batch.rows.len() as u64);
        let connection = &mut self.connections[usize::from(batch.connection.0)];
        connection.open_batches = connection.open_batches.saturating_sub(1);
        connection.open_rows = connection.open_rows.saturating_sub(rows_held(batch.rows.len(), batch.import.as_ref()));
        connection.contract.closes(batch.adds);
    }
}
