//! An export whose list is another than before, in the same account: ours leave the old list, then join the new one.
//!
//! Events are routed all along, so that nothing is missed; their rows are told anew as they are for a changed mapping, and
//! kept for the new list. The header names the old list until nothing of ours is left there: a crash goes on where it was,
//! and a roll-back finds what it left. Nobody is on both lists meanwhile, and for some minutes nobody is on either.
//!
//! Nobody leaves before the new list is known to exist ([`Engine::may_leave_list`]). Where many would leave at once, the removal
//! brake (`brake`) has them wait for the operator's approval, as any other removals.

use crate::model::{
    ListId, Text,
    catalog::{ExportId, ListRef},
    row::Row,
    time::Now,
};

use super::{Engine, Event, coalescer::Waiting, existing::Existing, membership::ContactSlot, removal::Finding, removed::list_of};

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    /// The list that is left, as the header names it.
    pub(super) from: Text,
    /// The new list, once it is known to exist: before that nobody leaves the old one.
    pub(super) to: Option<ListId>,
}

impl Engine {
    /// What the state knows of an export is on another list than the configuration names.
    pub(super) fn begin_move(&mut self, id: ExportId, from: &Text) {
        let to = match &self.catalog.export(id).list {
            ListRef::Id(list) => Some(*list),
            ListRef::Named { .. } => None,
        };
        let list = match list_of(from) {
            ListRef::Id(list) => Some(list),
            ListRef::Named { .. } => self.restored.lists.get(&id).copied(),
        };
        let state = self.export_mut(id);
        state.list = list;
        state.moving = Some(Move { from: from.clone(), to });
        let contacts = state.members.on_list();
        self.emit(Event::MoveBegan { export: id, contacts });
    }

    /// Whether the new list of an export that moves is still to be found by its name.
    pub(super) fn seeks_list(&self, id: ExportId) -> bool {
        let state = self.export(id);
        state.moving.as_ref().map_or(state.list.is_none(), |moving| moving.to.is_none())
    }

    /// Whether ours may leave an export's old list now.
    pub(super) fn may_leave_list(&self, id: ExportId) -> bool {
        self.export(id).moving.as_ref().is_none_or(|moving| moving.to.is_some())
    }

    /// Whether a contact is wanted and nothing is added to its list now: its row is kept for when something is.
    pub(super) fn is_kept(&self, id: ExportId, slot: ContactSlot) -> bool {
        let state = self.export(id);
        (state.removed || state.moving.is_some()) && state.members.contact(slot).wanted()
    }

    /// A contact leaves the old list: what is to be sent to the new one, and the records that settle with it, wait on.
    pub(super) fn keep_row(&mut self, id: ExportId, slot: ContactSlot, waiting: &mut Waiting) {
        if self.export(id).moving.is_none() || !self.is_kept(id, slot) || waiting.row == Row::default() {
            return;
        }
        let mut kept = Box::new(waiting.clone());
        waiting.tokens.clear();
        (kept.operation, kept.place, kept.not_before) = (None, None, None);
        self.put_waiting(id, slot, kept);
    }

    /// Ends the moves of exports that have nothing on their old list any more.
    pub(super) fn finish_moves(&mut self, now: Now) {
        for id in self.export_ids() {
            let state = self.export(id);
            let Some(Move { to, .. }) = state.moving else { continue };
            // The same list under another name or by its id: nobody has to leave it.
            let same = to.is_some() && to == state.list;
            let left = state.members.maybe_on_list() == 0
                && matches!(state.finding, Finding::Idle)
                && !self.batches.values().any(|batch| batch.export == id);
            if (same || (left && to.is_some())) && !self.is_reading_again(id) {
                self.finish_move(now, id, to, same);
            }
        }
    }

    fn finish_move(&mut self, now: Now, id: ExportId, to: Option<ListId>, same: bool) {
        let name = self.catalog.export(id).name.clone();
        let lag_ms = i64::try_from(self.catalog.timing.index_lag_ms).unwrap_or(i64::MAX);
        // Ours may have left the new list a moment ago: whoever the vendor's index shows there is not taken for somebody else.
        let from = self.vendor_now(self.export(id).application, now).plus_ms(lag_ms);
        let state = &mut self.exports[usize::from(id.0)];
        state.moving = None;
        state.list = to;
        state.record_due = true;
        if !same {
            std::mem::take(&mut state.existing).forget_records(&name, &mut self.journal.ready);
            state.existing = Existing::unread_before(from);
            state.members_shown = 0;
        }
        self.stopped_elsewhere(id);
        // The header names the new list in the same transaction as the record that does.
        self.journal.urgent = true;
        let slots: Vec<ContactSlot> = self.export(id).members.contacts().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.decide(now, id, slot);
        }
        self.emit(Event::MoveEnded { export: id });
    }
}
