//! What becomes of a batch's contacts once it has ended: applied, refused, or sent again.

use smallvec::SmallVec;

use crate::model::{
    Text,
    batch::Operation,
    catalog::{ConnectionId, ExportId},
    dead_letter::{DeadLetter, LetterOriginal, LetterReason},
    hash::text_hash,
    position::Position,
    row::Row,
    time::Now,
};

use super::{
    Engine, Event,
    activity::{Batch, BatchRow, Ending, Stage},
    coalescer::{Tokens, Waiting},
    limits::{DIRTY_MEMBERS_MAX, IMPORT_ROWS_MAX, count},
    membership::{ContactSlot, Known, Member, MemberId},
    planted::{Bug, planted},
    search::RefusedReason,
};

impl Engine {
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
