//! What an operator orders of an export, and how a hold of the operator's keeps things from being sent.
//!
//! An order is written in a transaction and answered once that is confirmed. A paused export, and one that was not started,
//! takes and parks what comes and sends nothing of it; whoever was erased leaves its list all the same. Its other removals
//! are *held back*: put aside, out of the queues, so that what is in these may go. So are
//! those that the brake holds (`brake`).
//!
//! Why the term ends after a first run was ordered: what is routed is decided where a term begins, and what the source has
//! of its segments is read again from there. That takes seconds, once in an export's life.

use crate::model::{
    catalog::ExportId,
    control::{ControlAction, ControlOutcome},
    time::Now,
};

use super::{
    Engine, Event, Output,
    activity::{Batch, Ending},
    coalescer::{Place, Waiting},
    limits::count,
    membership::ContactSlot,
    output::OrderId,
    reason::HoldReason,
    removal::Finding,
};

/// An order that goes with the next transaction, or with the one under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordered {
    order: OrderId,
    export: ExportId,
    action: ControlAction,
    outcome: ControlOutcome,
}

impl Engine {
    /// The operator orders something.
    pub(super) fn control(&mut self, now: Now, order: OrderId, export: ExportId, action: ControlAction) {
        if self.drain.is_some() {
            self.outputs.push_back(Output::Controlled { order, outcome: ControlOutcome::Stopping });
            return;
        }
        let Some(outcome) = self.obey(now, export, action) else {
            self.outputs.push_back(Output::Controlled { order, outcome: ControlOutcome::Unchanged });
            return;
        };
        self.export_mut(export).record_due = true;
        self.journal.ordered.push(Ordered { order, export, action, outcome });
        self.journal.urgent = true;
    }

    /// What becomes of an order; `None` where nothing is to be changed.
    fn obey(&mut self, now: Now, export: ExportId, action: ControlAction) -> Option<ControlOutcome> {
        let started = self.is_started(export);
        let control = &mut self.export_mut(export).control;
        match action {
            ControlAction::Run if started => return None,
            ControlAction::Run => {
                control.started_at = Some(now.wall);
                return Some(ControlOutcome::BeginsAnew);
            }
            ControlAction::Pause if control.paused => return None,
            ControlAction::Pause => control.paused = true,
            ControlAction::Resume if !control.paused => return None,
            ControlAction::Resume => control.paused = false,
            ControlAction::Approve if !self.approve(export) => return None,
            ControlAction::Approve => {}
        }
        self.hold_back_anew(export);
        Some(ControlOutcome::Done)
    }

    /// The transaction with these orders is confirmed.
    pub(super) fn on_ordered(&mut self, ordered: Vec<Ordered>) {
        for Ordered { order, export, action, outcome } in ordered {
            self.outputs.push_back(Output::Controlled { order, outcome });
            self.emit(Event::Ordered { export, action });
        }
    }

    /// Routes the exports whose first run was asked for, once all of the state was read.
    pub(super) fn begin_started(&mut self) {
        for id in self.export_ids() {
            let state = self.export(id);
            let consents = self.catalog.connection(state.connection).consent.is_some();
            if !state.removed && state.control.started_at.is_some() && consents {
                let connection = state.connection;
                self.export_mut(id).routed = true;
                self.connection_mut(connection).used = true;
            }
        }
    }

    /// Finds the exports that are not started and have somebody on their list from before: who is erased leaves it.
    pub(super) fn begin_not_started(&mut self) {
        for id in self.export_ids() {
            let state = self.export(id);
            let connection = state.connection;
            let consents = self.catalog.connection(connection).consent.is_some();
            if !state.removed && !self.is_started(id) && consents && self.was_stopped_here(id) {
                self.export_mut(id).reaches_erased = true;
                self.connection_mut(connection).used = true;
            }
        }
    }

    /// Whether it runs by its configuration, or because its first run was asked for.
    pub(super) fn is_started(&self, id: ExportId) -> bool {
        self.catalog.export(id).starts_at_once || self.export(id).control.started_at.is_some()
    }

    /// Why the operator's word, or the lack of it, keeps an export from sending.
    pub(super) fn operator_hold(&self, id: ExportId) -> Option<HoldReason> {
        let state = self.export(id);
        // Of a removed one nothing goes but who was erased.
        if state.removed {
            return None;
        }
        if !self.is_started(id) {
            return Some(HoldReason::NotStarted);
        }
        state.control.paused.then_some(HoldReason::Paused)
    }

    /// Changes of an export that wait and that nobody holds back.
    pub(super) fn may_go(&self, id: ExportId) -> usize {
        let state = self.export(id);
        let imports = if self.operator_hold(id).is_none() { state.imports.live } else { 0 };
        imports + state.removals.live()
    }

    /// Changes of an export that wait to be sent, held or not.
    pub(super) fn waiting_of(&self, id: ExportId) -> u64 {
        u64::from(count(self.in_queues(id)))
    }

    /// See [`Self::waiting_of`].
    pub(super) fn in_queues(&self, id: ExportId) -> usize {
        let state = self.export(id);
        state.imports.live + state.removals.live()
    }

    /// Whether a removal waits for the operator. Who was erased leaves whatever the operator says.
    pub(super) fn holds_back(&self, id: ExportId, slot: ContactSlot) -> bool {
        (self.operator_hold(id).is_some() || self.is_braked(id) || self.waits_to_adopt(id)) && !self.is_erased(id, slot)
    }

    /// Puts a removal aside until the operator lets it go.
    pub(super) fn put_held_back(&mut self, id: ExportId, slot: ContactSlot, waiting: Box<Waiting>) {
        self.export_mut(id).held_back += 1;
        self.put_aside(id, slot, waiting, Place::HeldBack);
    }

    /// Decides for each removal of an export anew whether it waits for the operator.
    pub(super) fn hold_back_anew(&mut self, id: ExportId) {
        let removes = |place| matches!(place, Some(Place::Unfound | Place::Found | Place::Later | Place::HeldBack));
        let contacts = self.export(id).members.contacts();
        let waiting = contacts.filter_map(|(slot, contact)| Some((contact.waiting.as_ref()?, slot)));
        let mut slots: Vec<(u64, ContactSlot)> =
            waiting.filter(|(waiting, _)| removes(waiting.place)).map(|(waiting, slot)| (waiting.sequence, slot)).collect();
        slots.sort_unstable();
        // All of them first: how many may go depends on how many are in the queues, and the oldest go first.
        let taken: Vec<_> = slots.into_iter().filter_map(|(_, slot)| Some((slot, self.take_waiting(id, slot)?))).collect();
        for (slot, waiting) in taken {
            self.put_waiting(id, slot, waiting);
        }
        let state = self.export_mut(id);
        // Nobody is looked for any more; rounds look by themselves.
        if state.removals.live() == 0 && matches!(state.finding, Finding::Scanning { .. } | Finding::LookingUp { .. }) {
            state.finding = Finding::Idle;
        }
    }

    /// A batch of a held export that was cut and has not left goes back, unless what it does was begun before or is for who was
    /// erased alone. True when it goes.
    pub(super) fn takes_back_held(&mut self, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number) else { return false };
        let Batch { export, restored, repeated, .. } = *batch;
        let begun = restored || repeated || batch.round.is_some();
        if begun || self.operator_hold(export).is_none() || batch.rows.iter().all(|row| self.is_erased(export, row.slot)) {
            return false;
        }
        self.end(number, Ending::NotDone);
        true
    }
}
