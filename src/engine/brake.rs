//! The removal brake: when an hour would take too many of an export's members off its list, its removals wait for the
//! operator's approval. Adds and updates go on, and so does the removal of who was erased.
//!
//! What *would* be removed is what was in the last 60 minutes, what is under way and what waits: a configuration that has lost
//! a segment, or names another list, is seen before anybody leaves. An approval covers as many removals as were to be done
//! when it was given; it is counted down as they are applied, and lies in the state.
//!
//! Why whoever joined within the hour counts among ours too: otherwise the first hour of an export would always be too much.

use serde::Serialize;

use crate::model::{
    batch::Operation,
    catalog::ExportId,
    time::{Now, UnixMillis},
};

use super::{Engine, Event, activity::Batch, coalescer::Place, hourly::HourlyRows, membership::ContactSlot};

/// What one export's removals come to.
#[derive(Debug, Default)]
pub(super) struct Brake {
    /// Removals of the last 60 minutes that nobody approved.
    pub(super) removed: HourlyRows,
    /// Removals in open batches.
    under_way: u64,
    /// Removals wait for approval.
    pub(super) braked: Option<Braked>,
}

/// Why removals wait for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Braked {
    /// How many an hour would take off the list.
    pub removals: u64,
    /// Members that are ours.
    pub ours: u64,
    /// What part of these may leave within an hour.
    pub percent: u8,
}

impl std::fmt::Display for Braked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grouped = |number: u64| super::decision::grouped(number as f64);
        let (removals, ours) = (grouped(self.removals), grouped(self.ours));
        write!(f, "would remove {removals} of {ours} ours within an hour, more than {} %", self.percent)
    }
}

impl Engine {
    /// Decides whether an export's removals go or wait for approval.
    pub(super) fn brake(&mut self, now: Now, id: ExportId) {
        let Some(limit) = self.catalog.export(id).removal_brake else { return };
        let state = self.export(id);
        // What is still being found out, and what waits for the operator anyway, is judged afterwards.
        if state.removed || self.waits_to_adopt(id) || self.routing_hold(id).is_some() || self.operator_hold(id).is_some() {
            return;
        }
        let to_be_done = state.brake.under_way + self.removals_waiting(id);
        let vendor_now = self.vendor_now(state.application, now);
        let state = self.export_mut(id);
        let control = &mut state.control;
        // What was approved and is not to be done any more is no leave for others.
        control.approved_removals = control.approved_removals.min(to_be_done);
        let more = to_be_done - control.approved_removals;
        let removed = state.brake.removed.rows(vendor_now);
        let ours = state.members.maybe_on_list() + removed;
        let max = limit.contacts_min.max(ours.saturating_mul(u64::from(limit.percent)) / 100);
        let braked = Braked { removals: removed + more, ours, percent: limit.percent };
        let braked = (more > 0 && braked.removals > max).then_some(braked);
        let fits_in_ms = state.brake.removed.fits_in_ms(vendor_now, more, max);
        let was = std::mem::replace(&mut state.brake.braked, braked);
        if let Some(braked) = braked {
            if more <= max {
                self.wake_at(now.mono.plus_ms(fits_in_ms.max(1_000)));
            }
            if was.is_none() {
                self.emit(Event::RemovalsBraked { export: id, braked });
            }
        }
        if was.is_some() != braked.is_some() {
            self.hold_back_anew(id);
        }
    }

    /// Removals that wait, but for those of who was erased.
    fn removals_waiting(&self, id: ExportId) -> u64 {
        let state = self.export(id);
        let queued = state.removals.live().saturating_sub(state.removals.not_braked) as u64;
        queued + state.held_back
    }

    /// Whether the brake keeps one more removal from going.
    pub(super) fn is_braked(&self, id: ExportId) -> bool {
        let state = self.export(id);
        let going = state.brake.under_way + self.removals_waiting(id) - state.held_back;
        state.brake.braked.is_some() && going >= state.control.approved_removals
    }

    /// The operator approves of what is to be removed now. False where nothing waits for that.
    pub(super) fn approve(&mut self, id: ExportId) -> bool {
        let waiting = self.removals_waiting(id);
        let state = self.export_mut(id);
        if state.brake.braked.take().is_none() {
            return false;
        }
        state.control.approved_removals = state.brake.under_way + waiting;
        true
    }

    /// A removal was begun, by this term or the one before.
    pub(super) fn count_begun(&mut self, batch: &mut Batch) {
        if batch.operation == Operation::Remove {
            let rows = batch.rows.iter().filter(|row| !self.is_erased(batch.export, row.slot)).count() as u64;
            batch.removals = rows;
            self.export_mut(batch.export).brake.under_way += rows;
        }
    }

    /// It is over.
    pub(super) fn count_over(&mut self, batch: &Batch) {
        let brake = &mut self.export_mut(batch.export).brake;
        brake.under_way = brake.under_way.saturating_sub(batch.removals);
    }

    /// So many members have left their list, of whom nobody was erased.
    pub(super) fn count_removed(&mut self, id: ExportId, at: UnixMillis, rows: u64) {
        if rows == 0 {
            return;
        }
        let state = self.export_mut(id);
        let approved = state.control.approved_removals.min(rows);
        state.control.approved_removals -= approved;
        state.brake.removed.add(at, at, rows - approved);
        state.record_due = true;
    }

    /// Whether a waiting removal is one of who was erased, counted as such.
    pub(super) fn counts_as_erased(&self, id: ExportId, slot: ContactSlot, place: Option<Place>) -> bool {
        matches!(place, Some(Place::Unfound | Place::Found | Place::Erased | Place::Later)) && self.is_erased(id, slot)
    }
}
