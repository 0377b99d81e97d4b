//! Removals by staging lists: a *round* imports the addresses into a list of our own and then takes that list's members off
//! the target, two activities for up to 39,999 contacts whose ids nobody knows.
//!
//! A round is one batch from its first record to its end, so that its contacts are fenced all the while. Its contacts need
//! not be known to the vendor's index, unlike those of a look-up or a scan: who leaves is named by the list that the import
//! has just filled, so an add that completed a moment ago may be undone at once. Were the list itself read late, the
//! removal would count fewer contacts than were staged, and nothing would count as removed.

use std::sync::Arc;

use crate::model::{
    ListId, Text,
    activity::Activity,
    batch::{CutReason, ImportRows, Operation, RoundStep, StagedRound},
    call::{RemovalSource, Request},
    catalog::{ConnectionId, ExportId},
    row::Row,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::{Batch, BatchRow, Cut, Ending, Stage},
    ahead::Ahead,
    coalescer::Waiting,
    event::RoundEnd,
    limits::{IMPORT_BYTES_MAX, IMPORT_ROWS_MAX, ROUNDS_FAILED_MAX, ROUNDS_PAUSE_MS},
    membership::ContactSlot,
    planted::{Bug, planted},
    removal::Finding,
    staging::Left,
    verify::Check,
};

/// Removals that are looked through before a list is asked for.
const MANY: usize = 1_000;
/// Header of a round's file, in bytes.
const HEADER_BYTES: usize = 64;

/// What a removal by a staging list knows beside its batch.
#[derive(Debug)]
pub(super) struct Round {
    /// The staging list; the batch's own list is the target.
    pub(super) list: ListId,
    pub(super) step: RoundStep,
    /// Its import may have been sent.
    touched: bool,
    /// Contacts that the import put on the staging list, as the vendor counted.
    staged: u64,
    /// Rows, by index, that the vendor did not import; ascending.
    refused: Vec<u32>,
    /// When its contacts had left the target.
    left_at: Option<UnixMillis>,
    /// The vendor counted everybody off the staging list.
    pub(super) emptied: bool,
    /// A contact that was seen on the target before its removal.
    pub(super) witness: Option<ContactSlot>,
    /// The import that its removal went ahead of.
    pub(super) ahead: Option<Ahead>,
    /// Its removal was sent too early, or so it may be.
    pub(super) early: bool,
}

impl Round {
    pub(super) const fn new(list: ListId, step: RoundStep, touched: bool) -> Self {
        Self {
            list,
            step,
            touched,
            staged: 0,
            refused: Vec::new(),
            left_at: None,
            emptied: false,
            witness: None,
            ahead: None,
            early: false,
        }
    }

    pub(super) const fn record(&self) -> StagedRound {
        StagedRound { list: self.list, step: self.step }
    }
}

/// How an export fares with its rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Rows of the next round: halved by each that fails, so that what makes them fail is found.
    rows_max: usize,
    failed: u32,
    /// Other ways are taken until then.
    paused_until: Mono,
    /// A removal that went ahead came to nothing: the next one waits until its import was read.
    was_early: bool,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { rows_max: IMPORT_ROWS_MAX, failed: 0, paused_until: Mono(0), was_early: false }
    }
}

impl Rounds {
    pub(super) const fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Until when no round is begun, if that lies ahead.
    pub(super) fn paused_until(&self, now: Now) -> Option<Mono> {
        (self.paused_until > now.mono).then_some(self.paused_until)
    }

    pub(super) const fn was_early(&self) -> bool {
        self.was_early
    }

    fn went_well(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, now: Now, rows: usize) {
        // Several that fail side by side tell no more than one of them.
        self.rows_max = self.rows_max.min((rows / 2).max(1));
        self.failed += 1;
        if self.failed.is_multiple_of(ROUNDS_FAILED_MAX) {
            self.paused_until = now.mono.plus_ms(ROUNDS_PAUSE_MS);
        }
    }
}

impl Round {
    /// Whether the vendor did not import this row.
    pub(super) fn refused(&self, index: u32) -> bool {
        self.refused.binary_search(&index).is_ok()
    }
}

impl Batch {
    /// What the activity does that it starts, or follows, now: a round's first is an import.
    pub(super) fn sends(&self) -> Operation {
        match &self.round {
            Some(Round { step: RoundStep::Import, .. }) => Operation::Import,
            Some(_) => Operation::Remove,
            None => self.operation,
        }
    }

    /// Whether it is a round that has not come to its removal.
    pub(super) fn stages(&self) -> bool {
        self.is_at(RoundStep::Import)
    }

    pub(super) fn is_at(&self, step: RoundStep) -> bool {
        self.round.as_ref().is_some_and(|round| round.step == step)
    }
}

impl Engine {
    pub(super) fn account_of(&self, export: ExportId) -> ConnectionId {
        self.export(export).connection
    }

    /// Whether a contact may be imported into a staging list.
    fn may_be_staged(&self, export: ExportId, slot: ContactSlot) -> bool {
        let members = &self.export(export).members;
        let contact = members.contact(slot);
        let is_erased = |id| members.member_if(id).is_some_and(|member| member.erased);
        // An erased address must not be given to the vendor anew, whoever else has it.
        let waiting = contact.waiting.as_ref();
        let erased = is_erased(contact.owner) || waiting.is_some_and(|waiting| waiting.touched.iter().any(|id| is_erased(*id)));
        let refused = waiting.is_some_and(|waiting| waiting.unstaged);
        let suppressed = !planted(Bug::SuppressedStaged) && self.suppressed_at(export, slot).is_some();
        !erased && !refused && !suppressed && self.may_join_account(export, slot)
    }

    /// Whether some of the removals that wait without a contact id may go by a staging list; where many wait, some may.
    pub(super) fn some_may_be_staged(&self, export: ExportId) -> bool {
        let state = self.export(export);
        let mut waiting = state.removals.unfound.iter();
        let mut first = waiting.by_ref().take(MANY);
        first.any(|(slot, _)| self.may_be_staged(export, slot)) || waiting.next().is_some()
    }

    /// Staging lists that the exports of a connection wait for.
    pub(super) fn lists_needed(&self, id: ConnectionId) -> usize {
        let mine = self.exports.iter().filter(|export| export.connection == id && export.held.is_none());
        let waits = mine.filter(|export| matches!(export.finding, Finding::Staging { .. }));
        waits.map(|export| export.removals.unfound.live.div_ceil(export.rounds.rows_max())).sum()
    }

    /// Cuts the rounds for which there are lists.
    pub(super) fn cut_rounds(&mut self, now: Now, export: ExportId) {
        let Finding::Staging { upto } = self.export(export).finding else { return };
        let Some(target) = self.export(export).list else { return };
        let id = self.account_of(export);
        if self.staging_paused_until(now, export).is_some() {
            self.export_mut(export).finding = Finding::Idle;
            self.begin_finding(now, export);
            return;
        }
        let (mut aside, mut cut) = (Vec::new(), 0_u32);
        let mut over = !self.waits_upto(export, upto);
        while !over && self.staging(id).free() > 0 && self.may_cut(now, export) {
            // The rest waits for its price, or for more that fills it.
            if cut > 0 && self.export(export).removals.unfound.live < self.export(export).rounds.rows_max() {
                self.export_mut(export).finding = Finding::Idle;
                break;
            }
            let Some(list) = self.take_list(id) else { break };
            // Whoever came later fills it as well.
            let rows = self.round_rows(now, export, &mut aside);
            over = rows.is_empty();
            if over {
                self.give_back(now, id, list, Left::Unused);
                break;
            }
            let state = self.export(export);
            let reason = if rows.len() >= state.rounds.rows_max() { CutReason::Rows } else { state.removes_because };
            let round = Some(Round::new(list, RoundStep::Import, false));
            let batch =
                Cut { export, operation: Operation::Remove, rows, import: None, ids: Vec::new(), round, deletes: false, reason };
            self.open_batch(now, target, batch);
            cut += 1;
        }
        let rest = aside.len() as u64;
        over |= !self.waits_upto(export, upto);
        for (slot, sequence) in aside.into_iter().rev() {
            self.put_back(export, slot, sequence);
        }
        if over {
            self.export_mut(export).finding = Finding::Idle;
            if rest > 0 {
                self.find_unstaged(now, export, upto, rest);
            }
        }
    }

    /// Whether removals up to a sequence wait without a contact id.
    fn waits_upto(&self, export: ExportId, upto: u64) -> bool {
        self.export(export).removals.unfound.iter().any(|(_, sequence)| sequence <= upto)
    }

    /// The contacts of the next round; those that are not to be staged are put aside.
    fn round_rows(&mut self, now: Now, export: ExportId, aside: &mut Vec<(ContactSlot, u64)>) -> Vec<BatchRow> {
        let rows_max = self.export(export).rounds.rows_max().min(self.round_rows_allowed(now, export));
        let (mut rows, mut bytes) = (Vec::new(), HEADER_BYTES);
        while rows.len() < rows_max {
            let Some((slot, sequence)) = self.export_mut(export).removals.unfound.pop() else { break };
            if !self.may_be_staged(export, slot) {
                aside.push((slot, sequence));
                continue;
            }
            if self.deferred(export, slot) {
                continue;
            }
            let size = Row::default().size_bytes_max(&self.export(export).members.contact(slot).address);
            if bytes + size > IMPORT_BYTES_MAX {
                self.put_back(export, slot, sequence);
                break;
            }
            bytes += size;
            let Some(waiting) = self.take_waiting(export, slot) else { continue };
            let Waiting { since, tokens, parks_at, touched, .. } = *waiting;
            rows.push(BatchRow { slot, row_hash: 0, since, tokens, parks_at, touched });
        }
        rows
    }

    /// What a round's next activity asks for.
    pub(super) fn round_request(&self, batch: &Batch, round: &Round) -> Request {
        let target = batch.list;
        let removal = |targets: Vec<ListId>| Request::Remove { source: RemovalSource::Lists(sources(round)), targets };
        match round.step {
            RoundStep::Import => {
                let members = &self.export(batch.export).members;
                // The address alone: nothing else of the contact is to change.
                let line = |row: &BatchRow| (members.contact(row.slot).address.clone(), Row::default());
                let lines: Vec<(Text, Row)> = batch.rows.iter().map(line).collect();
                let rows = ImportRows {
                    custom_fields: Arc::from([]),
                    has_first_name: false,
                    has_last_name: false,
                    rows: Arc::from(lines),
                };
                Request::Import { name: batch.name.clone(), lists: vec![round.list], rows }
            }
            // The target first: where the vendor takes the lists one after the other, the source must not be emptied before.
            RoundStep::RemoveBoth | RoundStep::RemoveAhead => removal(vec![target, round.list]),
            RoundStep::RemoveTarget => removal(vec![target]),
            RoundStep::Empty => removal(vec![round.list]),
        }
    }

    /// Whether a round's next activity may be asked for now. What must not be sent any more goes back, and what goes
    /// another way than it was recorded is recorded first.
    pub(super) fn round_may_leave(&mut self, now: Now, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number) else { return false };
        let Some(round) = &batch.round else { return true };
        let (export, step, repeated) = (batch.export, round.step, batch.repeated);
        let (seen, now_seen) = (batch.seen, self.suppression_seen(export));
        match step {
            RoundStep::Import => {
                if self.suppression_is_full(export) || self.passes_contract(number) {
                    self.take_round_back(now, number);
                    return false;
                }
                if !self.may_stage(now, export) {
                    return false;
                }
                if seen == Some(now_seen) {
                    return true;
                }
                let Some(batch) = self.batches.get_mut(&number) else { return false };
                batch.seen = Some(now_seen);
                let Some(batch) = self.batches.get(&number) else { return false };
                let stays = batch.rows.iter().all(|row| {
                    let members = &self.export(export).members;
                    let owner = members.contact(row.slot).owner;
                    let erased = members.member_if(owner).is_some_and(|member| member.erased);
                    !erased && (planted(Bug::SuppressedStaged) || self.suppressed_at(export, row.slot).is_none())
                });
                if !stays {
                    self.take_round_back(now, number);
                }
                stays
            }
            RoundStep::RemoveBoth if !repeated => match self.removes_from_source(export) {
                Some(true) => true,
                Some(false) => {
                    self.goes_on_with(number, RoundStep::RemoveTarget);
                    false
                }
                None => !self.tries_already(number) && self.is_witnessed(now, number),
            },
            RoundStep::RemoveBoth | RoundStep::RemoveTarget | RoundStep::Empty | RoundStep::RemoveAhead => true,
        }
    }

    fn take_round_back(&mut self, now: Now, number: u64) {
        match self.batches.get_mut(&number) {
            // An earlier attempt may run: it is waited for, without a repeat.
            Some(batch) if batch.repeated => batch.stage = Stage::clearing(now.mono, false),
            Some(_) => self.end(number, Ending::NotDone),
            None => {}
        }
        self.wake_at(now.mono);
    }

    /// Its request was handed over.
    pub(super) fn round_leaves(&mut self, number: u64) {
        if let Some(round) = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut()) {
            round.touched = true;
        }
    }

    pub(super) fn removes_from_source(&self, export: ExportId) -> Option<bool> {
        self.connections[usize::from(self.account_of(export).0)].learned.removes_from_source
    }

    /// A removal that names its source among its targets, while nobody knows whether the vendor takes that.
    pub(super) fn tries_both(&self, number: u64) -> bool {
        self.batches.get(&number).is_some_and(|batch| {
            batch.is_at(RoundStep::RemoveBoth) && !batch.repeated && self.removes_from_source(batch.export).is_none()
        })
    }

    /// The next activity of a round waits for its record.
    pub(super) fn goes_on_with(&mut self, number: u64, step: RoundStep) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let Some(round) = &mut batch.round else { return };
        round.step = step;
        batch.stage = Stage::Opening;
        batch.repeated = false;
        batch.not_before = Mono(0);
    }

    /// One activity of a round completed.
    pub(super) fn on_step_completed(&mut self, now: Now, number: u64, activity: &Activity, at: UnixMillis) {
        let Some(batch) = self.batches.get(&number) else { return };
        let Some(round) = &batch.round else { return };
        let (export, staged) = (batch.export, round.staged);
        let counts = activity.counts;
        let left_all = counts.items_total.is_some_and(|total| total >= staged)
            && counts.items_completed.is_none_or(|completed| completed >= staged);
        match round.step {
            RoundStep::Import if round.early => self.end(number, Ending::Unknown),
            RoundStep::Import => self.on_staged(now, number, activity),
            RoundStep::RemoveAhead => {
                if self.came_after_import(number, activity) {
                    self.on_step_completed(now, number, activity, at);
                } else {
                    self.end(number, Ending::Unknown);
                }
            }
            // Fewer left than were put there: nobody knows who. Another round tells.
            RoundStep::RemoveBoth | RoundStep::RemoveTarget if counts.items_total.is_some() && !left_all => {
                self.end(number, Ending::Unknown);
            }
            RoundStep::RemoveBoth => match self.removes_from_source(export) {
                Some(true) if left_all => {
                    if let Some(round) = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut()) {
                        round.emptied = true;
                    }
                    self.applied(number, at);
                }
                Some(false) => self.end(number, Ending::Unknown),
                // Without counts the list says whether everybody has left it.
                Some(true) => self.looks(number, Check::of_list(now, at)),
                None if round.witness.is_some() => self.looks(number, Check::of_list(now, at)),
                None => self.end(number, Ending::Unknown),
            },
            RoundStep::RemoveTarget if left_all => {
                if let Some(round) = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut()) {
                    round.left_at = Some(at);
                }
                self.goes_on_with(number, RoundStep::Empty);
            }
            RoundStep::RemoveTarget => self.end(number, Ending::Unknown),
            RoundStep::Empty => {
                if let Some(round) = self.batches.get_mut(&number).and_then(|batch| batch.round.as_mut()) {
                    round.emptied = left_all;
                }
                self.applied(number, at);
            }
        }
    }

    /// The import of a round completed: its removal comes next.
    fn on_staged(&mut self, now: Now, number: u64, import: &Activity) {
        if !self.takes_staged(number, import) {
            return;
        }
        let Some(batch) = self.batches.get(&number) else { return };
        let both = match self.removes_from_source(batch.export) {
            Some(both) => both,
            // The round that tries it must be able to tell.
            None => self.witness(now, batch).is_some(),
        };
        self.goes_on_with(number, if both { RoundStep::RemoveBoth } else { RoundStep::RemoveTarget });
    }

    /// Who is on the staging list now, as the counts of the round's import say; `false` when that ends the round.
    pub(super) fn takes_staged(&mut self, number: u64, import: &Activity) -> bool {
        let Some(batch) = self.batches.get_mut(&number) else { return false };
        let connection = self.exports[usize::from(batch.export.0)].connection;
        let rows = batch.rows.len() as u64;
        let judged = super::activity::judge_import(rows, import);
        let faulty = judged.unexplained > 0 && rows > 1;
        // Fewer rows than were sent, or some were refused and nobody knows which: nobody knows who is on the list. The target
        // is as it was; smaller rounds tell.
        if judged.short || faulty {
            self.end(number, Ending::NotDone);
            return false;
        }
        if judged.cannot_add > 0 {
            batch.cannot_add = judged.cannot_add;
            batch.reads_first = Some(self.connections[usize::from(connection.0)].suppression.ask());
        }
        let staged = rows.saturating_sub(judged.refused.len() as u64 + judged.cannot_add);
        let Some(round) = &mut batch.round else { return false };
        round.staged = staged;
        round.refused = judged.refused;
        if staged == 0 {
            // Nobody of it can be staged, for whatever reason: all of them leave another way.
            round.refused = (0..super::limits::count(batch.rows.len())).collect();
            round.emptied = true;
            self.end(number, Ending::NotDone);
            return false;
        }
        // What was sent ahead is a removal like any other from here on.
        if round.step == RoundStep::RemoveAhead {
            round.step = RoundStep::RemoveBoth;
        }
        true
    }

    fn looks(&mut self, number: u64, check: Check) {
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.stage = Stage::Checking(check);
        }
    }

    pub(super) fn applied(&mut self, number: u64, at: UnixMillis) {
        let refused = self.batches.get(&number).and_then(|batch| batch.round.as_ref()).map(|round| round.refused.clone());
        self.end(number, Ending::Applied { at, refused: refused.unwrap_or_default() });
    }

    /// How a batch ends that ends so: a round whose contacts have left the target, as was counted, is applied whatever becomes
    /// of the staging list; and one whose import failed has done nothing to the target.
    pub(super) fn round_ending(&self, number: u64, ending: Ending) -> Ending {
        let Some(batch) = self.batches.get(&number).filter(|batch| !batch.restored) else { return ending };
        let Some(round) = &batch.round else { return ending };
        match (round.step, round.left_at, ending) {
            (RoundStep::Empty, Some(at), _) => Ending::Applied { at, refused: round.refused.clone() },
            // Whatever its import did, a removal that went ahead has taken those off who were there.
            (step, _, Ending::NotDone) if round.early || step == RoundStep::RemoveAhead => Ending::Unknown,
            (_, _, ending) => ending,
        }
    }

    /// How a round's end is taken by the pool, and by the export's next rounds.
    pub(super) fn round_ended(&mut self, now: Now, batch: &Batch, ending: &Ending) {
        let Some(round) = &batch.round else { return };
        let (export, rows) = (batch.export, batch.rows.len());
        let applied = matches!(ending, Ending::Applied { .. });
        let left = match ending {
            _ if batch.restored || batch.given_up => Left::Unsure,
            Ending::NotDone if !round.touched => Left::Unused,
            Ending::Applied { .. } | Ending::NotDone if round.emptied => Left::InOrder,
            Ending::Applied { .. } | Ending::NotDone | Ending::Unknown => Left::Unsure,
        };
        self.give_back(now, self.account_of(export), round.list, left);
        let nobody = round.refused.len() == rows;
        let rounds = &mut self.export_mut(export).rounds;
        if applied {
            rounds.went_well();
        } else if batch.restored {
            // What another term began tells nothing of the rounds to come.
        } else if round.early {
            rounds.was_early = true;
        } else if left == Left::Unsure && !nobody {
            rounds.failed(now, rows);
        }
        let end = match ending {
            _ if batch.restored => RoundEnd::Followed,
            Ending::Applied { .. } => RoundEnd::Applied,
            Ending::NotDone if !round.touched => RoundEnd::TakenBack,
            Ending::NotDone | Ending::Unknown if nobody => RoundEnd::NobodyStaged,
            Ending::Unknown if round.early => RoundEnd::Early,
            Ending::NotDone | Ending::Unknown => RoundEnd::Failed,
        };
        let contacts = super::limits::count(rows);
        let (in_two, ahead) = (round.left_at.is_some(), round.ahead.is_some() || (round.early && !batch.restored));
        self.emit(Event::RoundEnded { export, contacts, end, in_two, ahead });
    }

    /// A contact of a round that the vendor did not import leaves another way.
    pub(super) fn leave_unstaged(&mut self, export: ExportId, slot: ContactSlot) {
        let members = &mut self.export_mut(export).members;
        // What was wanted of it may have been cancelled: then nothing is left of it.
        if members.contact_if(slot).is_some()
            && let Some(waiting) = &mut members.contact_mut(slot).waiting
        {
            waiting.unstaged = true;
        }
    }
}

/// The lists that a round's removal names as its source. Its own alone: an activity takes 20 s and 1 s for each 1,000
/// contacts, so that rounds that leave side by side are over as soon as one of them, and a round that fails takes no other
/// along; joining up to 50 in one removal would save a call for each and cost their sum in time.
fn sources(round: &Round) -> Vec<ListId> {
    vec![round.list]
}
