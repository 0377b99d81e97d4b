//! How many contacts the account's contract allows: imports of a connection with such a limit never take it above.
//!
//! What is compared is an upper estimate: the account's active contacts as they were counted last, and every add of ours that
//! this count may not show. Counting costs a call, so that it is done before a term's first import and where an import would
//! pass the limit, and not more often than [`COUNT_FRESH_MS`]. An import is cut to as many adds as there is room for; the
//! others are put aside, which parks them, and their export says why. While some wait it is counted again every
//! [`COUNT_AGAIN_MS`], and the oldest go as far as there is room then. Updates and removals go on.
//!
//! Why active contacts: the vendor bills those. Who leaves a list stays a contact of the account, so that a removal makes no
//! room, and somebody who comes back counts as an add until the next count: it is not known of an address that is on no list
//! of ours whether the account still has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::model::{
    batch::Operation,
    call::{Answer, Outcome, Request},
    catalog::{ConnectionId, ExportId},
    hash::text_hash,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::Batch,
    calls::Purpose,
    coalescer::{Place, Waiting},
    decision::grouped,
    limits::{COUNT_AGAIN_MS, COUNT_FRESH_MS, LANE_CALLS},
    membership::{ContactSlot, Known},
    planted::{Bug, planted},
    reason::HoldReason,
};

const MINUTE_MS: i64 = 60_000;
/// Ends of batches that are told apart; older ones are taken together.
const ENDS_MAX: usize = 64;

/// So long before.
fn before(at: UnixMillis, ms: u64) -> UnixMillis {
    at.plus_ms(i64::try_from(ms).unwrap_or(i64::MAX).saturating_neg())
}

/// What is known of a connection's contacts, where its contract limits them.
#[derive(Debug, Default)]
pub(super) struct Contract {
    /// The account's active contacts, and when they were asked for.
    counted: Option<(u64, Mono)>,
    /// They are to be counted.
    needed: bool,
    under_way: bool,
    /// There was no room when they were counted last: adds are put aside.
    full: bool,
    /// Adds in open batches.
    open: u64,
    /// Adds of batches that ended, when and how many; ascending. A count that was asked for soon after may not show them.
    ended: VecDeque<(Mono, u64)>,
    /// The same by minutes of the vendor's clock, for the terms to come.
    by_minute: BTreeMap<i64, u64>,
    /// Contacts (by the hash of their address) that batches which were given up may make at any time: they have their room,
    /// whoever makes them.
    given_up: BTreeSet<u64>,
}

impl Contract {
    /// The most contacts that the account may have, once what is under way is done; `None` before a term's first count.
    fn estimate(&self) -> Option<u64> {
        let ended: u64 = self.ended.iter().map(|(_, adds)| adds).sum();
        let more = self.open.saturating_add(ended).saturating_add(self.given_up.len() as u64);
        self.counted.map(|(contacts, _)| contacts.saturating_add(more))
    }

    /// An import ended, and some of its adds may have become contacts.
    fn ends(&mut self, at: Mono, adds: u64) {
        self.ended.push_back((at, adds));
        if self.ended.len() > ENDS_MAX
            && let Some((_, oldest)) = self.ended.pop_front()
            && let Some((_, next)) = self.ended.front_mut()
        {
            *next += oldest;
        }
    }

    /// What the state kept of earlier terms.
    pub(super) fn restore(&mut self, by_minute: &[(i64, u64)]) {
        self.by_minute = by_minute.iter().copied().collect();
    }

    /// For the state.
    pub(super) fn adds_by_minute(&self) -> Vec<(i64, u64)> {
        self.by_minute.iter().map(|(minute, adds)| (*minute, *adds)).collect()
    }

    /// Forgets adds of minutes that were over by then.
    fn forget_until(&mut self, at: UnixMillis) {
        self.by_minute.retain(|minute, _| (minute + 1) * MINUTE_MS > at.0);
    }

    /// Its adds are no longer those of an open batch.
    pub(super) const fn closes(&mut self, adds: u64) {
        self.open = self.open.saturating_sub(adds);
    }
}

/// The account has as many contacts as its contract allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ContractReached {
    /// Adds of the export that wait for room.
    pub adds: u64,
    /// Contacts that the account has at most.
    pub contacts: u64,
    /// How many its contract allows.
    pub contacts_max: u64,
}

impl std::fmt::Display for ContractReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [adds, contacts, max] = [self.adds, self.contacts, self.contacts_max].map(|number| grouped(number as f64));
        write!(f, "{adds} adds wait: the account has up to {contacts} contacts, and its contract allows {max}")
    }
}

/// Whether a change goes with an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It goes.
    Fits,
    /// There is no room: it was put aside.
    Aside,
    /// The contacts are counted first: it waits in its queue.
    Uncounted,
}

impl Engine {
    fn contract_mut(&mut self, id: ConnectionId) -> &mut Contract {
        &mut self.connection_mut(id).contract
    }

    fn contract(&self, id: ConnectionId) -> &Contract {
        &self.connections[usize::from(id.0)].contract
    }

    fn contacts_max(&self, id: ConnectionId) -> Option<u64> {
        self.catalog.connection(id).contacts_max.filter(|_| !planted(Bug::ContractForgotten))
    }

    /// Whether importing a contact may make it one of the account's. Whom an import of ours has put on a list is one.
    fn joins_account(&self, id: ConnectionId, export: ExportId, slot: ContactSlot) -> bool {
        let contact = self.export(export).members.contact(slot);
        let is_on = |other: ExportId| {
            let members = &self.export(other).members;
            let slot = members.find_contact(&contact.address).filter(|_| self.export(other).connection == id);
            slot.is_some_and(|slot| matches!(members.contact(slot).known, Known::On { .. }))
        };
        !matches!(contact.known, Known::On { .. }) && !self.export_ids().any(is_on)
    }

    /// Whether a contact needs room that it has not.
    fn needs_room(&self, id: ConnectionId, export: ExportId, slot: ContactSlot) -> bool {
        let given_up = &self.contract(id).given_up;
        let has_room = || given_up.contains(&text_hash(&self.export(export).members.contact(slot).address));
        self.joins_account(id, export, slot) && (given_up.is_empty() || !has_room())
    }

    /// Whether the contacts of a connection need not be counted before it imports; asks for that where they do.
    pub(super) fn has_counted(&mut self, id: ConnectionId) -> bool {
        let counted = self.contacts_max(id).is_none() || self.contract(id).counted.is_some();
        self.contract_mut(id).needed |= !counted;
        counted
    }

    /// Whether a change, just taken from the queue of an export's imports, goes with the next one, which has so many adds by
    /// now.
    pub(super) fn fit(&mut self, now: Now, export: ExportId, (slot, sequence): (ContactSlot, u64), adds: &mut u64) -> Fit {
        let id = self.export(export).connection;
        let Some(max) = self.contacts_max(id) else { return Fit::Fits };
        if !self.needs_room(id, export, slot) {
            return Fit::Fits;
        }
        let contract = self.contract(id);
        let estimate = contract.estimate();
        if estimate.is_some_and(|contacts| contacts.saturating_add(*adds) < max) {
            *adds += 1;
            return Fit::Fits;
        }
        let fresh = contract.counted.is_some_and(|(_, at)| contract.full || now.mono < at.plus_ms(COUNT_FRESH_MS));
        if !fresh {
            self.contract_mut(id).needed = true;
            self.put_back(export, slot, sequence);
            return Fit::Uncounted;
        }
        if !std::mem::replace(&mut self.contract_mut(id).full, true) {
            let contacts = estimate.unwrap_or(0);
            self.emit(Event::ContractReached { connection: id, contacts, contacts_max: max });
        }
        if let Some(waiting) = self.take_waiting(export, slot) {
            self.put_without_room(export, slot, waiting);
        }
        Fit::Aside
    }

    /// Whether a change that is to wait for an import is put aside, because the account has no room for its contact. One that
    /// is in the queue already stays there: it may have been let go.
    pub(super) fn lacks_room(&self, export: ExportId, slot: ContactSlot, waiting: &Waiting) -> bool {
        let id = self.export(export).connection;
        let joins = waiting.operation == Some(Operation::Import) && waiting.place != Some(Place::Imports);
        joins && self.contract(id).full && self.contacts_max(id).is_some() && self.needs_room(id, export, slot)
    }

    /// Where it waits: for no call.
    pub(super) fn put_without_room(&mut self, export: ExportId, slot: ContactSlot, waiting: Box<Waiting>) {
        self.export_mut(export).without_room += 1;
        self.put_aside(export, slot, waiting, Place::WithoutRoom);
    }

    /// Whether a contact may be imported into a staging list as far as the contract goes: one that may be none of the
    /// account's any more leaves its list another way where there might be no room for it.
    pub(super) fn may_join_account(&self, export: ExportId, slot: ContactSlot) -> bool {
        let id = self.export(export).connection;
        let Some(max) = self.contacts_max(id) else { return true };
        let waiting = self.export(export).removals.unfound.live as u64;
        let room = self.contract(id).estimate().is_none_or(|contacts| contacts.saturating_add(waiting) < max);
        room || !self.joins_account(id, export, slot)
    }

    /// Whether a round that has not left would take an account above its contract.
    pub(super) fn passes_contract(&self, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number).filter(|batch| batch.adds > 0) else { return false };
        let estimate = self.contract(batch.connection).estimate();
        self.contacts_max(batch.connection).zip(estimate).is_some_and(|(max, contacts)| contacts > max)
    }

    /// A batch was begun, by this term or the one before.
    pub(super) fn adds_begin(&mut self, batch: &mut Batch) {
        let imports = batch.sends() == Operation::Import || batch.may_import_still();
        if self.contacts_max(batch.connection).is_none() || !imports {
            return;
        }
        let joins = |row: &&super::activity::BatchRow| self.joins_account(batch.connection, batch.export, row.slot);
        batch.adds = if batch.restored { batch.rows.len() } else { batch.rows.iter().filter(joins).count() } as u64;
        self.contract_mut(batch.connection).open += batch.adds;
    }

    /// It is over. Where it was not done, an earlier step or attempt may still have made contacts.
    pub(super) fn adds_end(&mut self, now: Now, batch: &Batch, not_done: bool) {
        if batch.adds > 0 && !(not_done && batch.search.is_none() && batch.round.is_none()) {
            let (id, lag_ms) = (batch.connection, self.catalog.timing.index_lag_ms);
            let vendor_now = self.vendor_now(self.catalog.connection(id).application, now);
            let contract = self.contract_mut(id);
            contract.ends(now.mono, batch.adds);
            contract.forget_until(before(vendor_now, lag_ms));
            *contract.by_minute.entry(vendor_now.0.div_euclid(MINUTE_MS)).or_default() += batch.adds;
            self.connection_due(id);
        }
    }

    /// It was given up, and may run at any time.
    pub(super) fn adds_given_up(&mut self, batch: &Batch) {
        if batch.adds > 0 {
            let members = &self.export(batch.export).members;
            let hashes: Vec<u64> = batch.rows.iter().map(|row| text_hash(&members.contact(row.slot).address)).collect();
            self.contract_mut(batch.connection).given_up.extend(hashes);
        }
    }

    /// Counts the contacts of each connection where that is needed.
    pub(super) fn count_contacts(&mut self, now: Now) {
        for id in self.connection_ids() {
            if self.contacts_max(id).is_none() {
                continue;
            }
            let contract = self.contract(id);
            let again_at = contract.counted.filter(|_| contract.full).map(|(_, at)| at.plus_ms(COUNT_AGAIN_MS));
            match again_at.filter(|_| self.waits_for_room(id)) {
                Some(at) if at > now.mono => self.wake_at(at),
                Some(_) => self.contract_mut(id).needed = true,
                None => {}
            }
            if !self.contract(id).needed || self.contract(id).under_way {
                continue;
            }
            let Some(permit) = self.permit(now, id, LANE_CALLS) else { continue };
            let contract = self.contract_mut(id);
            (contract.needed, contract.under_way) = (false, true);
            self.call(now, id, permit, Request::ContactCounts, Purpose::CountContacts(id));
        }
    }

    /// Whether adds of a connection wait for room, and nobody but the contract keeps them.
    fn waits_for_room(&self, id: ConnectionId) -> bool {
        let waits = |export: &ExportId| self.export(*export).connection == id && self.export(*export).without_room > 0;
        self.export_ids().filter(waits).any(|export| self.operator_hold(export).is_none())
    }

    /// They were counted, or not.
    pub(super) fn on_contacts_counted(&mut self, now: Now, id: ConnectionId, asked_at: Mono, outcome: &Outcome) {
        self.contract_mut(id).under_way = false;
        let Outcome::Answered(Answer::ContactCounts(counts)) = outcome else {
            self.contract_mut(id).needed = true;
            return;
        };
        let first = self.contract(id).counted.is_none();
        // What ended so shortly before may not be in the vendor's index yet.
        let lag_ms = self.catalog.timing.index_lag_ms;
        let vendor_now = self.vendor_now(self.catalog.connection(id).application, now);
        let given_up = self.contacts_given_up(id);
        let contract = self.contract_mut(id);
        // Whoever asked meanwhile has the answer.
        contract.needed = false;
        contract.counted = Some((counts.active(), asked_at));
        contract.given_up = given_up;
        contract.ended.retain(|(at, _)| at.plus_ms(lag_ms) > asked_at);
        contract.forget_until(before(vendor_now, lag_ms.saturating_add(now.mono.since_ms(asked_at))));
        if first {
            // Nothing was begun in this term before: they are of earlier ones, or of batches that these began.
            let recent: u64 = contract.by_minute.values().sum();
            contract.ended = VecDeque::from([(asked_at, recent)]);
        }
        self.let_in(id);
    }

    /// As many of the adds that wait as there is room for now go on, the oldest first, and those whose contact the account
    /// has got meanwhile.
    fn let_in(&mut self, id: ConnectionId) {
        let contract = self.contract(id);
        let (true, Some(estimate), Some(max)) = (contract.full, contract.estimate(), self.contacts_max(id)) else { return };
        let mut aside: Vec<(u64, ExportId, ContactSlot)> = Vec::new();
        for export in self.export_ids().filter(|export| self.export(*export).connection == id) {
            let waiting = self.export(export).members.contacts().filter_map(|(slot, contact)| {
                let waiting = contact.waiting.as_ref().filter(|waiting| waiting.place == Some(Place::WithoutRoom))?;
                Some((waiting.sequence, export, slot))
            });
            aside.extend(waiting);
        }
        aside.sort_unstable();
        let mut room = max.saturating_sub(estimate);
        // Several lists may want one contact.
        let mut joining: BTreeSet<u64> = BTreeSet::new();
        let (goes, stays): (Vec<_>, Vec<_>) = aside.into_iter().partition(|(_, export, slot)| {
            let hash = text_hash(&self.export(*export).members.contact(*slot).address);
            if joining.contains(&hash) || !self.needs_room(id, *export, *slot) {
                return true;
            }
            let fits = room > 0;
            if fits {
                room -= 1;
                joining.insert(hash);
            }
            fits
        });
        self.contract_mut(id).full = !stays.is_empty();
        for (_, export, slot) in goes {
            if let Some(mut waiting) = self.take_waiting(export, slot) {
                waiting.place = Some(Place::Imports);
                self.put_waiting(export, slot, waiting);
            }
        }
    }

    /// Why an export's adds wait, where the contract is the reason.
    pub(super) fn contract_hold(&self, export: ExportId) -> Option<HoldReason> {
        (self.export(export).without_room > 0).then_some(HoldReason::ContactsMax)
    }

    /// The same with its figures.
    pub(super) fn contract_reached(&self, export: ExportId) -> Option<ContractReached> {
        let state = self.export(export);
        let contacts_max = self.contacts_max(state.connection).filter(|_| state.without_room > 0)?;
        let contacts = self.contract(state.connection).estimate()?;
        Some(ContractReached { adds: state.without_room, contacts, contacts_max })
    }

    /// The most contacts that an account may have, where they are counted.
    pub(super) fn contacts_at_most(&self, id: ConnectionId) -> Option<u64> {
        self.contacts_max(id).and_then(|_| self.contract(id).estimate())
    }

    /// Whether adds wait that a later count may let in: there is room, or the last one may not have shown all of ours, or
    /// showed some twice.
    pub(super) fn is_to_be_counted(&self) -> bool {
        self.connection_ids().any(|id| {
            let contract = self.contract(id);
            let has_room = contract.estimate().zip(self.contacts_max(id)).is_some_and(|(contacts, max)| contacts < max);
            contract.full && (has_room || contract.open > 0 || !contract.ended.is_empty()) && self.waits_for_room(id)
        })
    }
}
