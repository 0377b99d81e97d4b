//! What the next transaction writes, and when it begins.

use std::collections::VecDeque;

use crate::model::{
    batch::BatchName,
    catalog::{ClientIdHash, ExportId},
    dead_letter::{DeadLetter, LetterOriginal},
    position::Position,
    state::{
        Applied, BatchChunk, BatchContact, ExportRecord, Header, LedgerRecord, MemberCut, ROW_LEFT, ROW_UNKNOWN, STATE_FORMAT,
        StateChange, StateKey, StateValue,
    },
    time::{Mono, Now},
};

use super::{
    Engine, Event, Output,
    activity::{Batch, Stage},
    control::Ordered,
    limits::{
        BATCH_CHUNK_ROWS, CHANGES_WAITING_LOW, CHANGES_WAITING_MAX, COMMIT_INTERVAL_MS, DIRTY_MEMBERS_MAX, IDLE_COMMIT_MS,
        LEASE_MS, LEASE_RENEW_MS, LETTERS_BYTES_MAX, LETTERS_MAX, RECORDS_UNSETTLED_LOW, RECORDS_UNSETTLED_MAX,
        WAITING_BYTES_MAX, count,
    },
    membership::{Known, MemberId},
    output::{Commit, CommitId},
    planted::{Bug, planted},
    reason::{Holder, PauseReason},
    rounds::Round,
};

/// Bytes of the record that a letter carries.
fn letter_bytes(letter: &DeadLetter) -> usize {
    match &letter.original {
        LetterOriginal::Carried(record) => record.size_bytes(),
        LetterOriginal::InSource => 0,
    }
}

/// A transaction under way.
#[derive(Debug)]
struct UnderWay {
    commit: CommitId,
    handed_over: Mono,
    changes: u32,
    ledgers: Vec<(usize, LedgerRecord)>,
    ordered: Vec<Ordered>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    next_commit: u64,
    /// Transactions that were confirmed.
    confirmed: u64,
    under_way: Option<UnderWay>,
    committed_at: Mono,
    /// Members whose records are due.
    dirty: VecDeque<(ExportId, MemberId)>,
    letters: Vec<DeadLetter>,
    /// Bytes of the records that the letters carry.
    letters_bytes: usize,
    /// Batches that ended: their records go.
    pub(super) closed: Vec<(BatchName, u32)>,
    /// Further changes for the next transaction.
    pub(super) ready: Vec<StateChange>,
    /// Orders of the operator that go with the next transaction.
    pub(super) ordered: Vec<Ordered>,
    /// A watermark moved.
    pub(super) moved: bool,
    /// Something waits for a transaction: an open batch, a reservation, a lease.
    pub(super) urgent: bool,
    /// Calls wait, and the lease is short.
    pub(super) wants_lease: bool,
    /// Changes that wait, over all exports, and their bytes.
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
}

impl Journal {
    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        let is_ordered = self.under_way.as_ref().is_some_and(|under_way| !under_way.ordered.is_empty());
        self.dirty.is_empty() && self.letters.is_empty() && !self.moved && self.ordered.is_empty() && !is_ordered
    }

    /// Transactions of this term that were handed over, and how many of them were confirmed.
    pub(super) const fn commits_begun(&self) -> u64 {
        self.next_commit
    }

    /// See [`Self::commits_begun`].
    pub(super) const fn commits_confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Members whose records are due.
    pub(super) fn due(&self) -> usize {
        self.dirty.len()
    }
}

impl Engine {
    /// A member's record is due.
    pub(super) fn due(&mut self, export: ExportId, id: MemberId) {
        let members = &mut self.exports[usize::from(export.0)].members;
        if members.member_if(id).is_some() {
            let member = members.member_mut(id);
            if !member.dirty {
                member.dirty = true;
                self.journal.dirty.push_back((export, id));
            }
        }
    }

    /// A dead letter goes with the next transaction.
    pub(super) fn letter(&mut self, letter: DeadLetter) {
        let reason = letter.reason.as_str();
        self.journal.letters_bytes += letter_bytes(&letter);
        self.journal.moved |= self.may_leave(&letter);
        self.journal.letters.push(letter);
        self.emit(Event::DeadLettered { letters: 1, reason });
    }

    /// Begins a transaction when something asks for one and none is under way.
    pub(super) fn commit_if_due(&mut self, now: Now) {
        // Nothing follows the transaction that ends the term.
        if self.journal.under_way.is_some() || self.drain.is_some_and(|drain| drain.done) {
            return;
        }
        let opening = self.batches.values().any(|batch| matches!(batch.stage, Stage::Opening));
        let lease_short = self.lease_until.since_ms(now.mono) < LEASE_RENEW_MS;
        let urgent = self.journal.urgent || opening || (self.journal.wants_lease && lease_short);
        let journal = &self.journal;
        let something = !journal.dirty.is_empty() || !journal.closed.is_empty() || !journal.ready.is_empty() || journal.moved;
        let since = now.mono.since_ms(journal.committed_at);
        let ending = self.ending(now);
        if !(urgent || ending || (something && since >= COMMIT_INTERVAL_MS) || since >= IDLE_COMMIT_MS) {
            let wait = if something { COMMIT_INTERVAL_MS } else { IDLE_COMMIT_MS };
            let at = self.journal.committed_at.plus_ms(wait);
            self.wake_at(at);
            // Whatever else is waited for: then the stop is over.
            if let Some(drain) = self.drain {
                self.wake_at(drain.deadline);
            }
            return;
        }
        self.commit(now, ending);
    }

    /// True when the stage is stopping and nothing is under way any more, or its time is up.
    fn ending(&self, now: Now) -> bool {
        let Some(drain) = self.drain else { return false };
        !drain.done
            && ((self.calls.is_empty() && self.token_reads.is_empty() && !self.works_on_in_drain()) || now.mono >= drain.deadline)
    }

    fn works_on_in_drain(&self) -> bool {
        self.batches.values().any(|batch| match batch.stage {
            Stage::Running { .. } | Stage::Posting | Stage::Looking(_) | Stage::Clearing { .. } | Stage::Checking(_) => {
                !batch.restored
            }
            Stage::Opening | Stage::Committing(_) | Stage::Ready | Stage::Ended(_) => false,
        })
    }

    fn commit(&mut self, now: Now, ending: bool) {
        let commit = CommitId(self.journal.next_commit);
        self.journal.next_commit += 1;
        let mut changes = Vec::with_capacity(self.journal.dirty.len() + 16);
        for state in &mut self.exports {
            let acks = &self.acks;
            state.members.forget_settled(|position| acks.watermark(position.partition).is_none_or(|at| position.offset < at));
        }
        let opening: Vec<u64> =
            self.batches.iter().filter(|(_, batch)| matches!(batch.stage, Stage::Opening)).map(|(number, _)| *number).collect();
        for number in opening {
            if let Some(batch) = self.batches.get(&number) {
                self.batch_records(batch, false, &mut changes);
            }
            if let Some(batch) = self.batches.get_mut(&number) {
                batch.stage = Stage::Committing(commit);
                batch.recorded = true;
            }
        }
        changes.append(&mut self.journal.ready);
        for (name, chunks) in std::mem::take(&mut self.journal.closed) {
            for chunk in 0..chunks {
                changes.push(StateChange { key: StateKey::Batch { name: name.clone(), chunk }, value: None });
            }
        }
        for (export, id) in std::mem::take(&mut self.journal.dirty) {
            self.member_record(export, id, &mut changes);
        }
        self.forget_left(&mut changes);
        let mut ledgers = Vec::new();
        for index in 0..self.applications.len() {
            if let Some(record) = self.applications[index].quota.reservation(now.mono) {
                let application: ClientIdHash = self.catalog.applications[index].client_id_hash;
                changes.push(StateChange { key: StateKey::Ledger { application }, value: Some(StateValue::Ledger(record)) });
                ledgers.push((index, record));
            }
        }
        for (state, connection) in self.connections.iter_mut().zip(&self.catalog.connections) {
            state.records(&connection.name, &mut changes);
        }
        for id in self.export_ids() {
            let name = self.catalog.export(id).name.clone();
            let state = self.export_mut(id);
            // The next term begins with what this one knows.
            if std::mem::take(&mut state.record_due) || (ending && state.routed) {
                let record = ExportRecord {
                    list: state.list,
                    rows_by_minute: state.hourly.by_minute(),
                    existing_read: state.existing.is_read(),
                    existing_from: state.existing.from,
                    control: state.control,
                    existing_adopted: state.existing.is_adopted(),
                    removed_by_minute: state.brake.removed.by_minute(),
                    arrivals_per_hour: state.arrivals.each_mut().map(|arrivals| arrivals.per_hour(now.mono)),
                };
                state.existing.take_records(&name, &mut changes);
                changes.push(StateChange { key: StateKey::Export { export: name }, value: Some(StateValue::Export(record)) });
            }
        }
        // A term that ends while requests of the one before may be under way hands the wait on, as one does whose own
        // may still arrive.
        let waited = now.mono >= self.first_call_at;
        let rests = self.applications.iter().all(|application| application.pacer.rests_within_a_second(now.mono));
        let ended =
            planted(Bug::AlwaysInOrder) || ending && waited && rests && self.calls.is_empty() && self.token_reads.is_empty();
        let header = Header {
            format: STATE_FORMAT,
            written_at: now.wall,
            ended,
            partitions: self.acks.headers(),
            routed: self.routed(),
            stopped: self.stopped(),
            grown: self.order.grown(),
        };
        changes.push(StateChange { key: StateKey::Header, value: Some(StateValue::Header(header)) });
        let letters = self.take_letters();
        self.journal.moved = false;
        self.journal.urgent = false;
        self.journal.wants_lease = false;
        let ordered = std::mem::take(&mut self.journal.ordered);
        let under_way = UnderWay { commit, handed_over: now.mono, changes: count(changes.len()), ledgers, ordered };
        self.journal.under_way = Some(under_way);
        if ending && let Some(drain) = &mut self.drain {
            drain.done = true;
        }
        self.outputs.push_back(Output::Commit(Commit { commit, changes, letters, offsets: self.acks.watermarks() }));
    }

    /// Whether a letter goes with the next transaction. That of a record that nobody can read goes with the transaction that commits past it: sent earlier, it would
    /// be sent again by a term that reads the record again. What an export refuses goes at once, and perhaps twice: a record
    /// of its profile may cover the event, so that the next term would not come to refuse it again.
    fn may_leave(&self, letter: &DeadLetter) -> bool {
        letter.refused_by.is_some()
            || self.acks.watermark(letter.position.partition).is_none_or(|watermark| letter.position.offset < watermark)
    }

    /// Takes the letters that go with this transaction.
    fn take_letters(&mut self) -> Vec<DeadLetter> {
        let letters = std::mem::take(&mut self.journal.letters);
        let (now, later) = letters.into_iter().partition(|letter| planted(Bug::LetterAhead) || self.may_leave(letter));
        self.journal.letters = later;
        self.journal.letters_bytes = self.journal.letters.iter().map(letter_bytes).sum();
        now
    }

    pub(super) fn on_committed(&mut self, now: Now, commit: CommitId, began: Mono) {
        let Some(under_way) = self.journal.under_way.take() else { return };
        assert!(under_way.commit == commit, "transactions are confirmed in order");
        self.journal.committed_at = now.mono;
        self.journal.confirmed = commit.0 + 1;
        self.lease_until = self.lease_until.max(began.plus_ms(LEASE_MS));
        for (index, record) in under_way.ledgers {
            self.applications[index].quota.reserved(record);
        }
        self.on_ordered(under_way.ordered);
        for batch in self.batches.values_mut() {
            if matches!(batch.stage, Stage::Committing(id) if id == commit) {
                batch.stage = Stage::Ready;
            }
        }
        self.emit(Event::Committed { changes: under_way.changes, took_ms: now.mono.since_ms(under_way.handed_over) });
        if self.drain.is_some_and(|drain| drain.done) {
            self.outputs.push_back(Output::Drained);
        }
    }

    /// The records of a batch that is open, or was given up.
    pub(super) fn batch_records(&self, batch: &Batch, given_up: bool, changes: &mut Vec<StateChange>) {
        let members = &self.export(batch.export).members;
        let chunks = count(batch.rows.len().div_ceil(BATCH_CHUNK_ROWS));
        // A round's next step is told by the first part.
        let parts = if batch.recorded && batch.round.is_some() && !given_up { 1 } else { usize::MAX };
        for (chunk, rows) in batch.rows.chunks(BATCH_CHUNK_ROWS).enumerate().take(parts) {
            let rows = rows.iter().enumerate().map(|(index, row)| {
                let contact = members.contact(row.slot);
                let owner = members.member_if(contact.owner);
                BatchContact {
                    profile: owner.map(|owner| owner.profile.clone()).unwrap_or_default(),
                    address: contact.address.clone(),
                    contact_id: batch.ids.get(chunk * BATCH_CHUNK_ROWS + index).copied(),
                    position: owner.map(|owner| owner.position).unwrap_or_default(),
                }
            });
            let value = BatchChunk {
                operation: batch.operation,
                export: self.catalog.export(batch.export).name.clone(),
                list: batch.list,
                opened_at: batch.opened_at,
                chunks,
                given_up,
                rows: rows.collect(),
                connection: self.catalog.connection(batch.connection).name.clone(),
                round: batch.round.as_ref().map(Round::record),
                deletes: batch.deletes,
            };
            let key = StateKey::Batch { name: batch.name.clone(), chunk: count(chunk) };
            changes.push(StateChange { key, value: Some(StateValue::Batch(value)) });
        }
    }

    /// Writes a member's cut, or forgets it where nothing of it is left.
    fn member_record(&mut self, export: ExportId, id: MemberId, changes: &mut Vec<StateChange>) {
        let catalog = std::sync::Arc::clone(&self.catalog);
        let Some(member) = self.export(export).members.member_if(id) else { return };
        let recorded = member.recorded;
        let left = member.segments == 0 && member.contact.is_none() && member.former.is_empty();
        let gone = left && !self.keeps_sends(export, id);
        let key = StateKey::Member { export: catalog.export(export).name.clone(), profile: member.profile.clone() };
        let unsettled = self.unsettled_position(export, id);
        // What was entered and left in one partition is read again as a whole. In two, the exit may be settled alone; and
        // what entered below the watermark is not read again.
        let told_again = || !member.told_below && self.export(export).members.positions(id).count() == 1;
        if gone && (unsettled.is_none() || (!recorded && told_again())) {
            if recorded {
                changes.push(StateChange { key, value: None });
            }
            self.export_mut(export).members.forget_member(id);
            return;
        }
        let value = self.cut(export, id);
        changes.push(StateChange { key, value: Some(StateValue::Member(value)) });
        let state = self.export_mut(export);
        let member = state.members.member_mut(id);
        member.recorded = true;
        member.dirty = false;
        if gone && let Some(position) = unsettled {
            state.leaving.insert((position.partition.0, position.offset, id.0));
        }
    }

    /// An event in a member that a term after this one would read again.
    fn unsettled_position(&self, export: ExportId, id: MemberId) -> Option<Position> {
        let settled = |position: &Position| self.acks.watermark(position.partition).is_none_or(|at| position.offset < at);
        self.export(export).members.positions(id).find(|position| !settled(position))
    }

    /// Forgets members that left, once the watermark is beyond what they say.
    fn forget_left(&mut self, changes: &mut Vec<StateChange>) {
        for export in self.export_ids() {
            for next in self.acks.watermarks() {
                let range = (next.partition.0, i64::MIN, 0)..(next.partition.0, next.offset, 0);
                let left: Vec<(i32, i64, u32)> = self.export(export).leaving.range(range).copied().collect();
                for entry in left {
                    self.export_mut(export).leaving.remove(&entry);
                    let id = MemberId(entry.2);
                    let stays = self
                        .export(export)
                        .members
                        .member_if(id)
                        .is_none_or(|member| member.segments != 0 || member.contact.is_some() || !member.former.is_empty());
                    if stays || self.keeps_sends(export, id) {
                        continue;
                    }
                    match self.unsettled_position(export, id) {
                        None => self.member_record(export, id, changes),
                        Some(position) => {
                            self.export_mut(export).leaving.insert((position.partition.0, position.offset, entry.2));
                        }
                    }
                }
            }
        }
    }

    /// A member as one cut.
    fn cut(&self, export: ExportId, id: MemberId) -> MemberCut {
        let state = self.export(export);
        let member = state.members.member(id);
        let segments = state.members.segments_of(member);
        let row = member.contact.filter(|_| !planted(Bug::ParkedRowLost)).and_then(|slot| {
            let contact = state.members.contact(slot);
            if !contact.wanted_by.contains(&id) {
                return None;
            }
            match (&contact.waiting, contact.in_flight) {
                (Some(waiting), _) => Some(waiting.row.clone()),
                (None, Some(place)) => self.batches.get(&place.batch()).and_then(|batch| batch.row(place.row())),
                (None, None) => None,
            }
        });
        let owned = member.contact.into_iter().chain(member.former.iter().copied());
        let applied = owned.filter_map(|slot| {
            let contact = state.members.contact(slot);
            if contact.owner != id {
                return None;
            }
            let (row_hash, at) = match contact.known {
                Known::Off if state.members.has_left(slot) => (ROW_LEFT, member.changed_at),
                Known::Off => return None,
                Known::On { row_hash, at } => (row_hash, at),
                Known::Unknown { since } => (ROW_UNKNOWN, since),
            };
            Some(Applied { address: contact.address.clone(), list: state.list.unwrap_or_default(), row_hash, at })
        });
        MemberCut {
            segments,
            address: member.contact.map(|slot| state.members.contact(slot).address.clone()),
            row,
            positions: state.members.positions(id).collect(),
            changed_at: member.changed_at,
            applied: applied.collect(),
            refused: member.refused.as_deref().cloned(),
            erased: member.erased,
            sent: self.sent_of(export, id),
        }
    }

    /// Changes of exports that a person has to let go. They lie in the state, and what is to be sent of others must not wait for
    /// that person; the bounds of bytes and of profiles hold for them all the same.
    fn waiting_for_a_person(&self) -> usize {
        let held = self.export_ids().filter(|id| {
            let state = self.export(*id);
            let holders = [Holder::Export(*id), Holder::Connection(state.connection), Holder::Application(state.application)];
            let waits = |who: &Holder| {
                self.wait_for_a_person.contains(who) || self.holds.get(who).is_some_and(|reason| reason.needs_a_person())
            };
            holders.iter().any(waits)
        });
        held.map(|id| self.in_queues(id)).sum()
    }

    /// The export that has most of what waits.
    fn most_waiting(&self) -> Option<ExportId> {
        self.export_ids().max_by_key(|id| self.in_queues(*id))
    }

    /// Pauses or resumes reading at the bounds.
    pub(super) fn press_back(&mut self) {
        let journal = &self.journal;
        let profiles: usize = self.exports.iter().map(|export| export.members.profiles()).sum();
        let full = u64::try_from(profiles).unwrap_or(u64::MAX) >= self.catalog.profiles_max;
        // What is read again waits until it has been handed over, and no reading less helps it: the profiles' bound is its.
        let reads_again = self.reads_again();
        // Below the low water nobody need know whose they are.
        let kept = if journal.waiting < CHANGES_WAITING_LOW { 0 } else { self.waiting_for_a_person() };
        let waiting = journal.waiting.saturating_sub(kept);
        let reason = if self.drain.is_some() {
            Some(PauseReason::Draining)
        } else if full {
            Some(PauseReason::ProfilesMax)
        } else if journal.due() >= DIRTY_MEMBERS_MAX
            || journal.letters.len() >= LETTERS_MAX
            || journal.letters_bytes >= LETTERS_BYTES_MAX
        {
            Some(PauseReason::CommitBehind)
        } else if reads_again {
            None
        } else if waiting >= CHANGES_WAITING_MAX || journal.waiting_bytes >= WAITING_BYTES_MAX {
            Some(PauseReason::ChangesWaiting)
        } else if self.acks.unsettled() >= RECORDS_UNSETTLED_MAX {
            Some(PauseReason::RecordsUnsettled)
        } else {
            None
        };
        let low = (reads_again || (waiting < CHANGES_WAITING_LOW && journal.waiting_bytes < WAITING_BYTES_MAX / 2))
            && journal.due() < DIRTY_MEMBERS_MAX / 2
            && self.acks.unsettled() < RECORDS_UNSETTLED_LOW;
        match (self.paused, reason) {
            (None, Some(reason)) => {
                self.paused = Some(reason);
                let partitions = self.acks.ids().collect();
                self.outputs.push_back(Output::Pause { partitions, reason });
                let most = (reason == PauseReason::ChangesWaiting).then(|| self.most_waiting()).flatten();
                self.emit(Event::Paused { reason, most });
            }
            (Some(_), None) if low => {
                self.paused = None;
                let partitions = self.acks.ids().filter(|id| !self.order.waits(*id)).collect();
                self.outputs.push_back(Output::Resume { partitions });
                self.emit(Event::Resumed);
            }
            (Some(_) | None, None | Some(_)) => {}
        }
    }
}
