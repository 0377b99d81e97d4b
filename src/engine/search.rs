//! Rows that the vendor refuses without a word which: they are looked for, within a bound.
//!
//! A completed import counts its refused rows, and names lines in texts that it may cut short. Where the names do not
//! explain the count, the named rows are sent once more apart from the rest, and what nobody names in halves. A row is
//! refused for good when it was alone, or when the names explain all of an import: a named row whose own import completes
//! is on the list like any other.
//!
//! Why a bound: each step costs calls of the day, and hundreds of bad rows would cost hundreds of them. What is left when
//! it is spent is parked: nobody knows who of it is on the list, so that none of it counts as applied or as refused. It is
//! not sent again as it is, not by the next term either; another row of the profile is sent, and who leaves is removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Text,
    batch::{CutReason, ImportRows, Operation},
    catalog::ExportId,
    hash::text_hash,
    named,
    row::Row,
    state::{ROW_UNFOUND, Refused},
    time::{Now, UnixMillis},
};

use super::{
    Engine,
    activity::{BatchRow, Cut, Ending, JudgedImport},
    coalescer::{Place, Waiting},
    limits::{SEARCH_IMPORTS_MAX, count},
    membership::{ContactSlot, Known, Member, MemberId},
    planted::{Bug, planted},
};

named! {
    /// Why a row is not sent again.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum RefusedReason {
        /// The vendor refused it.
        RowRefused = "row_refused",
        /// The vendor may have refused it: it was among others of which some were, and the search for those is spent.
        SearchSpent = "search_spent",
    }
}

impl RefusedReason {
    /// What a member's record says of a row.
    pub(super) fn of(self, row_hash: u64, member: &Member) -> Box<Refused> {
        Box::new(Refused { row_hash, reason: Text::const_new(self.as_str()), position: member.position })
    }

    /// Whether this is the reason that a record names.
    #[must_use]
    pub fn is_why(self, refused: &Refused) -> bool {
        refused.reason == self.as_str()
    }
}

/// One search: all batches that one import was sent again in share its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SearchId(u64);

#[derive(Debug)]
struct Search {
    imports_left: u32,
    /// Open batches that belong to it: it goes with the last of them.
    batches: u32,
}

/// The searches under way.
#[derive(Debug, Default)]
pub(super) struct Searches {
    next: u64,
    under_way: BTreeMap<SearchId, Search>,
}

impl Searches {
    fn begin(&mut self) -> SearchId {
        let id = SearchId(self.next);
        self.next += 1;
        self.under_way.insert(id, Search { imports_left: SEARCH_IMPORTS_MAX, batches: 0 });
        id
    }

    /// Takes so many imports of a search; false when it has fewer left.
    fn spend(&mut self, id: SearchId, imports: u32) -> bool {
        let Some(search) = self.under_way.get_mut(&id) else { return false };
        let Some(left) = search.imports_left.checked_sub(imports) else { return false };
        search.imports_left = left;
        true
    }

    fn joined(&mut self, id: SearchId) {
        if let Some(search) = self.under_way.get_mut(&id) {
            search.batches += 1;
        }
    }

    /// One of its batches is closed.
    pub(super) fn left(&mut self, id: SearchId) {
        if let Some(search) = self.under_way.get_mut(&id) {
            search.batches -= 1;
            if search.batches == 0 {
                self.under_way.remove(&id);
            }
        }
    }
}

impl Engine {
    /// An import of several rows completed, and some were refused without a word which, or it was short: the vendor took
    /// fewer rows than were sent.
    pub(super) fn search(&mut self, now: Now, number: u64, judged: &JudgedImport, short: bool) {
        let Some(batch) = self.batches.get(&number) else { return };
        let (connection, rows) = (batch.connection, count(batch.rows.len()));
        let named = &judged.refused;
        let id = batch.search.unwrap_or_else(|| self.searches.begin());
        if !self.searches.spend(id, 2) {
            // Whom the vendor keeps off lists need not be parked: they are told apart where they can be.
            let reads_first = (judged.cannot_add > 0).then(|| self.connection_mut(connection).suppression.ask());
            if let Some(batch) = self.batches.get_mut(&number) {
                batch.unfound = named.len() as u64 + judged.unexplained;
                batch.reads_first = reads_first;
            }
            self.end(number, Ending::Unknown);
            return;
        }
        if short || named.is_empty() || named.len() == rows as usize {
            self.send_in_two(now, number, Some(id), |row| row < rows / 2);
        } else {
            self.send_in_two(now, number, Some(id), |row| named.binary_search(&row).is_ok());
        }
    }

    /// Sends a batch again in two halves.
    pub(super) fn split(&mut self, now: Now, number: u64) {
        let Some(batch) = self.batches.get(&number) else { return };
        let (search, middle) = (batch.search, count(batch.rows.len() / 2));
        self.send_in_two(now, number, search, |row| row < middle);
    }

    /// Sends a batch again in two parts: their rows keep what they carry.
    fn send_in_two(&mut self, now: Now, number: u64, search: Option<SearchId>, is_first: impl Fn(u32) -> bool) {
        let Some(mut batch) = self.batches.remove(&number) else { return };
        // It stays under way while its last batch gives way to the next two.
        search.into_iter().for_each(|id| self.searches.joined(id));
        self.close(&batch);
        let rows = std::mem::take(&mut batch.rows);
        if search.is_some() && batch.operation == Operation::Import {
            let vendor_now = self.vendor_now(self.export(batch.export).application, now);
            rows.iter().for_each(|row| self.note_sent(batch.export, row.slot, vendor_now, true));
        }
        let (firsts, seconds): (Vec<_>, Vec<_>) = (0..).zip(rows).partition(|(row, _): &(u32, BatchRow)| is_first(*row));
        let first_len = firsts.len();
        for part in [firsts, seconds] {
            if planted(Bug::HalfForgotten) && part.len() > first_len {
                continue;
            }
            let places = || part.iter().map(|(row, _)| *row as usize);
            let import = batch.import.as_ref().map(|import| {
                let lines: Vec<(Text, Row)> = places().filter_map(|row| import.rows.get(row).cloned()).collect();
                ImportRows { rows: Arc::from(lines), ..import.clone() }
            });
            let ids = places().filter_map(|row| batch.ids.get(row).copied()).collect();
            let rows = part.into_iter().map(|(_, row)| row).collect();
            let (export, operation, deletes) = (batch.export, batch.operation, batch.deletes);
            let cut = Cut { export, operation, rows, import, ids, round: None, deletes, reason: CutReason::Split };
            let opened = self.open_batch(now, batch.list, cut);
            if let (Some(id), Some(batch)) = (search, self.batches.get_mut(&opened)) {
                batch.search = Some(id);
                self.searches.joined(id);
            }
        }
        search.into_iter().for_each(|id| self.searches.left(id));
    }

    /// The search for what was refused among some rows is spent: this one is kept as it is until another comes.
    pub(super) fn keep_unfound(&mut self, export: ExportId, row: &BatchRow, since: UnixMillis) {
        let members = &mut self.export_mut(export).members;
        let known = match members.contact(row.slot).known {
            // It stays on the list, whichever of its rows is there.
            Known::On { at, .. } => Known::On { row_hash: ROW_UNFOUND, at },
            Known::Off | Known::Unknown { .. } => Known::Unknown { since },
        };
        members.set_known(row.slot, known);
        let contact = members.contact(row.slot);
        let row_hash = text_hash(&contact.address) ^ row.row_hash;
        let wanted_by = contact.wanted_by.clone();
        for id in wanted_by.iter().copied() {
            let member = members.member_mut(id);
            member.refused = Some(RefusedReason::SearchSpent.of(row_hash, member));
        }
        for id in wanted_by.iter().copied() {
            self.due(export, id);
        }
    }

    /// Whether a row that is to be imported is kept, because a search for what was refused was spent on it. One that is
    /// sent after all, as another row or because it is surely not on the list, is like any other again: its next outcome
    /// says what is known of it.
    pub(super) fn is_unfound(&mut self, export: ExportId, slot: ContactSlot, row: &Row) -> bool {
        let members = &mut self.export_mut(export).members;
        let contact = members.contact(slot);
        let spent_on = |id: &MemberId| {
            let refused = members.member_if(*id).and_then(|member| member.refused.as_deref());
            refused.filter(|refused| RefusedReason::SearchSpent.is_why(refused)).map(|refused| refused.row_hash)
        };
        if !contact.wanted_by.iter().any(|id| spent_on(id).is_some()) {
            return false;
        }
        let row_hash = text_hash(&contact.address) ^ row.hash();
        if contact.known != Known::Off && contact.wanted_by.iter().any(|id| spent_on(id) == Some(row_hash)) {
            return true;
        }
        let spent: Vec<MemberId> = contact.wanted_by.iter().copied().filter(|id| spent_on(id).is_some()).collect();
        for id in spent {
            self.export_mut(export).members.member_mut(id).refused = None;
            self.due(export, id);
        }
        false
    }

    /// Where such a row waits: for no call.
    pub(super) fn put_unfound(&mut self, export: ExportId, slot: ContactSlot, waiting: Box<Waiting>) {
        self.export_mut(export).search_spent += 1;
        self.put_aside(export, slot, waiting, Place::SearchSpent);
    }
}
