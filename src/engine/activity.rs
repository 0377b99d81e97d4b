//! A batch's life: opened in the state, sent, followed to the end of its activity, settled.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::model::{
    ActivityId, ContactId, ListId, Text,
    activity::{Activity, ActivityState},
    batch::{BatchName, CutReason, ImportRows, Operation},
    call::Cursor,
    catalog::{ConnectionId, ExportId},
    dead_letter::{DeadLetter, LetterOriginal, LetterReason},
    hash::text_hash,
    position::{PartitionId, Position},
    row::Row,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    answers::poll_interval_ms,
    coalescer::{Tokens, Waiting},
    limits::{BATCH_CHUNK_ROWS, DIRTY_MEMBERS_MAX, IMPORT_ROWS_MAX, OPEN_ROW_BYTES, count},
    membership::{ContactSlot, InFlight, Known, Member, MemberId},
    output::CommitId,
    planted::{Bug, planted},
    rounds::Round,
    search::{RefusedReason, SearchId},
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
        self.application_mut(application).unsent += 1;
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
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let rows = batch.rows.len() as u64;
        if !activity.state.is_final() {
            // It was read beside others, perhaps long before its own end.
            let done_at = since.plus_ms(self.connections[usize::from(connection.0)].activity_time.look_after_ms(rows));
            let next_poll = now.mono.plus_ms(poll_interval_ms(now, since)).max(done_at);
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

    /// Settles ended batches, as far as the next transaction has room for their records.
    pub(super) fn finish_batches(&mut self, now: Now) {
        let ended: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| matches!(batch.stage, Stage::Ended(_)))
            .filter(|(_, batch)| {
                batch.carried.iter().all(|(partition, offset)| self.acks.reader(*partition).is_none_or(|reader| reader > *offset))
            })
            .filter(|(_, batch)| {
                batch
                    .reads_first
                    .is_none_or(|number| self.connections[usize::from(batch.connection.0)].suppression.has_read(number))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            let rows = self.batches.get(&number).map_or(0, |batch| batch.rows.len());
            if self.journal.due() > 0 && self.journal.due() + rows > DIRTY_MEMBERS_MAX + IMPORT_ROWS_MAX {
                return;
            }
            if let Some(batch) = self.batches.remove(&number) {
                self.close(&batch);
                if batch.given_up {
                    self.give_up(now, &batch);
                }
                self.finish(now, batch);
            }
        }
    }

    fn finish(&mut self, now: Now, mut batch: Batch) {
        let Stage::Ended(mut ending) = std::mem::replace(&mut batch.stage, Stage::Opening) else { return };
        let export = batch.export;
        if batch.round.is_some() && batch.cannot_add > 0 {
            // Whom the vendor kept off the staging list is still on the target: everybody may be, until all of them are known.
            let known = batch.rows.iter().filter(|row| self.suppressed_at(export, row.slot).is_some()).count() as u64;
            if known < batch.cannot_add && matches!(&*ending, Ending::Applied { .. }) {
                *ending = Ending::Unknown;
            }
        }
        self.round_ended(now, &batch, &ending);
        self.adds_end(now, &batch, matches!(&*ending, Ending::NotDone));
        let aged: Vec<_> = batch.rows.iter().filter(|_| batch.is_early()).map(|row| (row.slot, row.since)).collect();
        let round = batch.round.take();
        let (import, ids) = (batch.import, batch.ids);
        let vendor_now = self.vendor_now(self.export(export).application, now);
        let (mut adds, mut updates, mut removals, mut erased) = (0, 0, 0, 0);
        let mut freshness_ms = Vec::new();
        let (mut applied_at, vendor_ms) = (vendor_now, batch.vendor_ms);
        let (counted_at, rows) = (batch.counted_at, batch.rows.len() as u64);
        let mut refused_rows = 0;
        let mut unexplained = batch.cannot_add;
        let (restored, search, unfound, deletes) = (batch.restored, batch.search, batch.unfound, batch.deletes);
        let mut parked = 0;
        let slots: Vec<ContactSlot> = batch.rows.iter().map(|row| row.slot).collect();
        let imports = batch.operation == Operation::Import;
        let mut unstaged = Vec::new();
        for (index, row) in batch.rows.into_iter().enumerate() {
            self.export_mut(export).members.contact_mut(row.slot).in_flight = None;
            if let Some(id) = ids.get(index).filter(|_| !matches!(&*ending, Ending::Applied { .. })) {
                self.export_mut(export).members.keep_id(row.slot, *id, true);
            }
            let staged = !round.as_ref().is_some_and(|round| round.refused(count(index)));
            if !staged {
                unstaged.push(row.slot);
            }
            let haunted = batch.haunted.contains(&row.slot);
            // What is not sent again in parts was sent once: who of it is on the list is not known.
            let undone = search.is_some() && matches!(&*ending, Ending::NotDone);
            let ending = if haunted || undone { &Ending::Unknown } else { &*ending };
            match ending {
                Ending::Applied { at, .. } if imports => self.note_sent(export, row.slot, *at, false),
                Ending::Unknown if imports && !undone => self.note_sent(export, row.slot, vendor_now, false),
                Ending::Applied { .. } | Ending::Unknown | Ending::NotDone => {}
            }
            match ending {
                // It was not on the staging list, and is on the target still.
                Ending::Applied { .. } if !staged => self.send_again(now, export, row, None),
                Ending::Applied { refused, .. } if refused.binary_search(&count(index)).is_ok() => {
                    refused_rows += 1;
                    self.refuse_row(now, export, row);
                }
                // It was not added, and is wanted: it waits with the suppressed.
                Ending::Applied { .. } if batch.cannot_add > 0 && self.suppressed_at(export, row.slot).is_some() => {
                    unexplained = unexplained.saturating_sub(1);
                    let sent = import.as_ref().and_then(|import| import.rows.get(index)).map(|(_, row)| row.clone());
                    self.send_again(now, export, row, sent);
                }
                Ending::Applied { at, .. } => {
                    let was = self.export(export).members.contact(row.slot).known;
                    let known = match batch.operation {
                        crate::model::batch::Operation::Import => {
                            if matches!(was, Known::On { .. }) {
                                updates += 1
                            } else {
                                adds += 1
                            }
                            Known::On { row_hash: row.row_hash, at: *at }
                        }
                        crate::model::batch::Operation::Remove => {
                            removals += 1;
                            erased += u64::from(self.is_erased(export, row.slot));
                            Known::Off
                        }
                    };
                    applied_at = *at;
                    freshness_ms.push(u32::try_from(at.since_ms(row.since)).unwrap_or(u32::MAX));
                    self.export_mut(export).members.set_known(row.slot, known);
                    self.settle_contact(export, row.slot, row.tokens, &row.touched);
                }
                Ending::Unknown => {
                    if unfound > 0 && !haunted {
                        parked += 1;
                        self.keep_unfound(export, &row, vendor_now);
                    } else if !(restored && planted(Bug::NoNetChangeAfterCrash)) {
                        self.export_mut(export).members.set_known(row.slot, Known::Unknown { since: vendor_now });
                    }
                    let sent = import.as_ref().and_then(|import| import.rows.get(index)).map(|(_, row)| row.clone());
                    self.send_again(now, export, row, sent);
                }
                Ending::NotDone => {
                    let sent = import.as_ref().and_then(|import| import.rows.get(index)).map(|(_, row)| row.clone());
                    self.send_again(now, export, row, sent);
                }
            }
        }
        if deletes {
            self.on_deletion_ended(now, export, batch.connection, &slots, matches!(*ending, Ending::Applied { .. }));
        }
        for slot in slots {
            self.unfence(now, batch.connection, export, slot);
            self.decide(now, export, slot);
        }
        self.keep_ages(now, export, aged);
        for slot in unstaged {
            self.leave_unstaged(export, slot);
        }
        self.count_removed(export, vendor_now, u64::from(removals) - erased);
        let moved = u64::from(adds) + u64::from(updates) + u64::from(removals);
        if matches!(*ending, Ending::NotDone) {
            self.export_mut(export).hourly.give_back(counted_at, rows);
        }
        if moved > 0 {
            let at = applied_at;
            self.emit(Event::Applied { export, adds, updates, removals, at, vendor_ms, freshness_ms });
        }
        if unexplained > 0 {
            self.emit(Event::CannotAddUnexplained { export, rows: unexplained });
        }
        if refused_rows > 0 {
            self.emit(Event::RowsRefused { export, rows: refused_rows });
        }
        if parked > 0 {
            self.emit(Event::SearchSpent { export, contacts: parked, refused: unfound });
        }
    }

    /// What is known of a contact changed: the records that say so are due, and what waited for it settles.
    fn settle_contact(&mut self, export: ExportId, slot: ContactSlot, tokens: Tokens, touched: &[MemberId]) {
        let contact = self.export(export).members.contact(slot);
        let mut due: SmallVec<[MemberId; 4]> = SmallVec::from_slice(&contact.wanted_by);
        due.push(contact.owner);
        for member in due {
            self.due(export, member);
        }
        self.settle_tokens(export, tokens, touched);
    }

    /// What a row carried waits again, behind or under what has come since.
    fn send_again(&mut self, now: Now, export: ExportId, row: BatchRow, sent: Option<Row>) {
        let owner = self.export(export).members.contact(row.slot).owner;
        self.due(export, owner);
        if let Some(mut waiting) = self.take_waiting(export, row.slot) {
            waiting.since = waiting.since.min(row.since);
            if !row.tokens.is_empty() && (waiting.tokens.is_empty() || row.parks_at < waiting.parks_at) {
                waiting.parks_at = self.park_at(row.parks_at, export, row.slot);
            }
            waiting.tokens.extend(row.tokens);
            for member in row.touched {
                if !waiting.touched.contains(&member) {
                    waiting.touched.push(member);
                }
            }
            self.put_waiting(export, row.slot, waiting);
            return;
        }
        // A row found in the state alone carries nothing: what is wanted decides.
        if row.tokens.is_empty() && sent.is_none() {
            return;
        }
        let mut waiting = Box::new(Waiting::new(sent.unwrap_or_default(), row.since, now.mono));
        if !row.tokens.is_empty() {
            waiting.parks_at = self.park_at(row.parks_at, export, row.slot);
        }
        waiting.tokens = row.tokens;
        waiting.touched = row.touched;
        self.put_waiting(export, row.slot, waiting);
    }

    /// The vendor refuses a row for good: its events become dead letters, and it is not sent again as it is.
    fn refuse_row(&mut self, now: Now, export: ExportId, row: BatchRow) {
        let waiting = self.export(export).members.contact(row.slot).waiting.as_ref();
        if waiting.is_some_and(|waiting| waiting.row.hash() != row.row_hash) {
            // Another row waits already: that one is wanted now, and its events come after these.
            self.send_again(now, export, row, None);
            return;
        }
        let refused_by = self.refused_by(export);
        let mut positions: SmallVec<[Position; 2]> = row.tokens.iter().map(|token| self.acks.position(*token)).collect();
        if positions.is_empty() {
            // Parked, or found in the state: the newest event of each profile that still wants the row, unless a letter has
            // told of it: an address may be refused again for the sake of another that shares it.
            let members = &self.export(export).members;
            let told = |member: &&Member| {
                let refused = member.refused.as_ref().filter(|refused| RefusedReason::RowRefused.is_why(refused));
                refused.is_some_and(|refused| refused.position == member.position)
            };
            let wanted_by = &members.contact(row.slot).wanted_by;
            let touched = row.touched.iter().filter(|id| wanted_by.contains(id));
            let touched = touched.filter_map(|id| members.member_if(*id)).filter(|member| !told(member));
            positions.extend(touched.map(|member| member.position).filter(|position| position.offset >= 0));
        }
        for position in positions {
            self.letter(DeadLetter {
                position,
                refused_by: Some(refused_by.clone()),
                reason: LetterReason::RowRefused,
                detail: Text::const_new("the vendor refused the row; its page of the activity may say more"),
                original: LetterOriginal::InSource,
            });
        }
        let members = &mut self.export_mut(export).members;
        let address_hash = text_hash(&members.contact(row.slot).address);
        if let Known::On { at, .. } = members.contact(row.slot).known {
            // It stays on the list as it was; the row that was refused is not sent again.
            members.set_known(row.slot, Known::On { row_hash: row.row_hash, at });
            self.settle_contact(export, row.slot, row.tokens, &row.touched);
            return;
        }
        let wanted_by = std::mem::take(&mut members.contact_mut(row.slot).wanted_by);
        for id in wanted_by.iter() {
            let member = members.member_mut(*id);
            member.refused = Some(RefusedReason::RowRefused.of(address_hash ^ row.row_hash, member));
        }
        for id in wanted_by.iter().copied() {
            self.due(export, id);
        }
        self.settle_contact(export, row.slot, row.tokens, &row.touched);
    }

    /// The fence of a contact falls; changes of other exports that waited for it go on.
    fn unfence(&mut self, now: Now, connection: ConnectionId, export: ExportId, slot: ContactSlot) {
        let Some(contact) = self.exports[usize::from(export.0)].members.contact_if(slot) else { return };
        let address = contact.address.clone();
        let deferred = self.connections[usize::from(connection.0)].fences.remove(&text_hash(&address)).unwrap_or_default();
        for (other, slot) in deferred {
            self.decide(now, other, slot);
        }
        if self.exports.last().is_some_and(|export| export.removed) {
            self.leave_to_others(now, connection, &address);
        }
    }
}
