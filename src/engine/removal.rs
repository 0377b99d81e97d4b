//! Removals need contact ids or a list, and the vendor takes no addresses: look each address up, page through the list
//! once, or import the addresses into a staging list (`rounds`), whichever costs the fewest calls. A removal whose contact
//! id is known already goes by itself.

use crate::model::{
    ContactId, Text,
    batch::Operation,
    call::{Contact, ContactStatus, Cursor, Page},
    catalog::{ExportId, RemovalStrategy},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    limits::{PAGE_CONTACTS, REMOVAL_IDS_MAX},
    membership::{ContactSlot, Known},
    planted::{Bug, planted},
};

/// How far the search for contact ids has come.
#[derive(Debug)]
pub(super) enum Finding {
    /// Nothing is looked for.
    Idle,
    /// The list is paged through; removals up to this sequence are decided by it.
    Scanning {
        cursor: Option<Cursor>,
        upto: u64,
        under_way: bool,
        seen: u64,
        /// When its first page was asked for.
        began: Mono,
    },
    /// Addresses are looked up one by one, up to this sequence.
    LookingUp { upto: u64, under_way: bool },
    /// Rounds are cut of the removals up to this sequence, as staging lists become free.
    Staging { upto: u64 },
}

/// What the ways of a set of removals depend on.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Contacts that are to leave, and members that the list has.
    contacts: u64,
    members: u64,
    /// Contacts of one round.
    round_rows_max: u64,
    /// Calls beside those of the rounds: suppressed contacts to be read, lists to be made or counted, a poll between the two
    /// activities of those that go together.
    beside_rounds: u64,
}

/// What each way costs in calls, beside the polls that all of them need. A round is an import and a removal.
fn costs(load: Load) -> [(RemovalStrategy, u64); 3] {
    let removals = load.contacts.div_ceil(REMOVAL_IDS_MAX as u64);
    let rounds = load.contacts.div_ceil(load.round_rows_max.max(1));
    [
        (RemovalStrategy::LookUp, load.contacts + removals),
        (RemovalStrategy::Scan, load.members.div_ceil(PAGE_CONTACTS) + removals),
        (RemovalStrategy::StagingList, 2 * rounds + load.beside_rounds),
    ]
}

impl Engine {
    /// Chooses the cheapest allowed way for all removals that wait without a contact id.
    pub(super) fn begin_finding(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let contacts = state.removals.unfound.live as u64;
        if contacts == 0 {
            return;
        }
        let stages = self.allows_staging(export) && self.some_may_be_staged(export);
        match self.staging_paused_until(now, export).filter(|_| stages) {
            None => self.choose(now, export, stages, self.sequence, contacts),
            // Rounds that fail, or have no list, are no reason to do what the operator has not allowed.
            Some(until) if self.catalog.export(export).removal_strategies.len() == 1 => self.wake_at(until),
            Some(_) => self.choose(now, export, false, self.sequence, contacts),
        }
    }

    /// The same for those up to a sequence, none of which may go by a staging list: by looks where no other way is allowed,
    /// because an erasure, say, must not wait for ever.
    pub(super) fn find_unstaged(&mut self, now: Now, export: ExportId, upto: u64, contacts: u64) {
        self.choose(now, export, false, upto, contacts);
    }

    /// What each way costs that so many contacts may leave by now, the cheapest first.
    pub(super) fn ways(&self, now: Now, export: ExportId, stages: bool, contacts: u64) -> Vec<(RemovalStrategy, u64)> {
        let state = self.export(export);
        let round_rows_max = state.rounds.rows_max() as u64;
        let reads = u64::from(self.reads_before_staging(now, export));
        let lists = self.staging(state.connection).calls_for(contacts.div_ceil(round_rows_max));
        let members = state.members.on_list().max(contacts).max(state.members_shown);
        let polls = u64::from(!state.goes_ahead);
        let load = Load { contacts, members, round_rows_max, beside_rounds: reads + lists + polls };
        let allowed = &self.catalog.export(export).removal_strategies;
        let may = |strategy: RemovalStrategy| match strategy {
            RemovalStrategy::StagingList => stages && allowed.contains(&strategy),
            RemovalStrategy::LookUp | RemovalStrategy::Scan => allowed.contains(&strategy),
        };
        let [look_up, scan, staging] = costs(load);
        let mut ways: Vec<(RemovalStrategy, u64)> =
            [look_up, scan, staging].into_iter().filter(|(strategy, _)| may(*strategy)).collect();
        ways.sort_by_key(|(_, calls)| *calls);
        if ways.is_empty() { vec![look_up] } else { ways }
    }

    fn choose(&mut self, now: Now, export: ExportId, stages: bool, upto: u64, contacts: u64) {
        let ways = self.ways(now, export, stages, contacts);
        let Some((strategy, calls)) = ways.first().copied() else { return };
        let other = ways.get(1).copied();
        self.emit(Event::RemovalPlanned { export, strategy, contacts, calls, other });
        self.export_mut(export).finding = match strategy {
            RemovalStrategy::LookUp => Finding::LookingUp { upto, under_way: false },
            RemovalStrategy::Scan => Finding::Scanning { cursor: None, upto, under_way: false, seen: 0, began: now.mono },
            RemovalStrategy::StagingList => Finding::Staging { upto },
        };
        if let Finding::Staging { .. } = self.export(export).finding {
            self.cut_rounds(now, export);
        }
        self.wake_at(now.mono);
    }

    /// Calls that it takes to remove whoever of an export waits for it, in the cheapest way.
    pub(super) fn removal_calls(&self, now: Now, export: ExportId) -> f64 {
        self.removal_calls_by(export, self.cheapest(now, export, self.stages(now, export)))
    }

    /// The same for what must be left to begin: look-ups go as far as the day's calls do, and on with the next day's.
    pub(super) fn removal_calls_to_begin(&self, now: Now, export: ExportId) -> f64 {
        match self.cheapest(now, export, self.stages(now, export)) {
            Some((RemovalStrategy::LookUp, _)) => 1.0,
            way => self.removal_calls_by(export, way),
        }
    }

    fn removal_calls_by(&self, export: ExportId, way: Option<(RemovalStrategy, u64)>) -> f64 {
        let found = self.export(export).removals.found.live.div_ceil(REMOVAL_IDS_MAX);
        way.map_or(found.max(1) as f64, |(_, calls)| calls as f64 + found as f64)
    }

    /// Calls that one flush of many removals of an export adds, with the poll between its two activities where there is one; `None` when each
    /// of them costs calls of its own.
    pub(super) fn removal_calls_usual(&self, now: Now, export: ExportId) -> Option<f64> {
        let allowed = &self.catalog.export(export).removal_strategies;
        let reads = f64::from(u8::from(self.reads_before_staging(now, export)));
        let polls = f64::from(u8::from(!self.export(export).goes_ahead));
        allowed.contains(&RemovalStrategy::StagingList).then_some(2.0 + polls + reads)
    }

    /// Whether each address of an export that waits to be removed would be looked up, however long it waits for others.
    pub(super) fn looks_up_each(&self, now: Now, export: ExportId) -> bool {
        self.removal_calls_usual(now, export).is_none()
            && matches!(self.cheapest(now, export, false), Some((RemovalStrategy::LookUp, _)))
    }

    /// The cheapest way for the removals of an export that wait without an id; `None` when there are none.
    fn cheapest(&self, now: Now, export: ExportId, stages: bool) -> Option<(RemovalStrategy, u64)> {
        let contacts = self.export(export).removals.unfound.live as u64;
        if contacts == 0 { None } else { self.ways(now, export, stages, contacts).first().copied() }
    }

    /// Whether removals fill a staging list.
    pub(super) fn fills_a_round(&self, now: Now, export: ExportId) -> bool {
        let state = self.export(export);
        state.removals.unfound.live >= state.rounds.rows_max() && self.stages(now, export)
    }

    /// Calls that are still needed by removals which were decided to go by staging lists and are in no round yet.
    pub(super) fn staging_calls_left(&self, export: ExportId) -> u32 {
        let state = self.export(export);
        let Finding::Staging { .. } = state.finding else { return 0 };
        let rounds = state.removals.unfound.live.div_ceil(state.rounds.rows_max()) as u64;
        // Import, removal and a list: the lists that are free now may be others' as well.
        u32::try_from(3 * rounds).unwrap_or(u32::MAX)
    }

    /// Whether the operator allows staging lists for an export, and its account lets them be used.
    fn allows_staging(&self, export: ExportId) -> bool {
        let allowed = &self.catalog.export(export).removal_strategies;
        allowed.contains(&RemovalStrategy::StagingList) && !self.suppression_is_full(export)
    }

    /// Until when no round of an export is begun, if that lies ahead.
    pub(super) fn staging_paused_until(&self, now: Now, export: ExportId) -> Option<Mono> {
        let state = self.export(export);
        state.rounds.paused_until(now).or(self.staging(state.connection).blocked_until(now))
    }

    /// Whether staging lists may be used for an export now.
    fn stages(&self, now: Now, export: ExportId) -> bool {
        self.allows_staging(export) && self.staging_paused_until(now, export).is_none()
    }

    /// A page of the list.
    pub(super) fn on_page(&mut self, now: Now, export: ExportId, page: Page<Contact>) {
        for contact in &page.items {
            self.keep_id(export, &contact.address, contact.contact_id);
        }
        let Finding::Scanning { cursor, upto, under_way, seen, began } = &mut self.export_mut(export).finding else { return };
        *under_way = false;
        *seen += page.items.len() as u64;
        if page.next.is_some() {
            *cursor = page.next;
            return;
        }
        let (upto, seen, began) = (*upto, *seen, *began);
        let state = self.export_mut(export);
        state.finding = Finding::Idle;
        state.members_shown = seen;
        // Whoever was not on any page, and waited before the first of them, is not on the list.
        for slot in self.export_mut(export).removals.unfound.take_upto(upto) {
            self.on_absent(now, began, export, slot);
        }
        self.cut_removals(now, export);
    }

    /// One address was looked up, with a call of `asked_at`.
    pub(super) fn on_looked_up(
        &mut self,
        now: Now,
        asked_at: Mono,
        export: ExportId,
        (slot, sequence): (ContactSlot, u64),
        page: &Page<Contact>,
    ) {
        if let Finding::LookingUp { under_way, .. } = &mut self.export_mut(export).finding {
            *under_way = false;
        }
        if self.export(export).members.waits(slot, sequence) {
            let list = self.export(export).list;
            let found = page.items.iter().find(|contact| {
                contact.status != ContactStatus::Deleted && list.is_some_and(|list| contact.lists.contains(&list))
            });
            match found {
                Some(contact) => self.keep_id_of(export, slot, contact.contact_id),
                None => self.on_absent(now, asked_at, export, slot),
            }
        }
    }

    /// The next address of a round to look up.
    pub(super) fn next_look_up(&mut self, export: ExportId) -> Option<(ContactSlot, u64)> {
        let state = self.export_mut(export);
        let Finding::LookingUp { upto, under_way: false } = state.finding else { return None };
        state.removals.unfound.pop_upto(upto)
    }

    /// Ends a round of look-ups: none is left.
    pub(super) fn end_looking_up(&mut self, now: Now, export: ExportId) {
        self.export_mut(export).finding = Finding::Idle;
        self.cut_removals(now, export);
        // It may have been the last that a move waited for.
        self.wake_at(now.mono);
    }

    fn keep_id(&mut self, export: ExportId, address: &Text, id: ContactId) {
        if let Some(slot) = self.export(export).members.find_contact(address) {
            self.keep_id_of(export, slot, id);
        }
    }

    /// A removal that waited for its contact's id waits for the next batch.
    pub(super) fn keep_id_of(&mut self, export: ExportId, slot: ContactSlot, id: ContactId) {
        let members = &mut self.export_mut(export).members;
        let needed = members.contact(slot).waiting.as_ref().is_some_and(|waiting| waiting.operation == Some(Operation::Remove));
        members.keep_id(slot, id, needed);
        if needed && let Some(waiting) = self.take_waiting(export, slot) {
            self.put_waiting(export, slot, waiting);
        }
    }

    /// The vendor did not show the contact on the list when it was asked. That settles a removal only when our last add of
    /// it was old enough then to have reached the vendor's index; the answer itself may have been read much later.
    pub(super) fn on_absent(&mut self, now: Now, asked_at: Mono, export: ExportId, slot: ContactSlot) {
        let index_lag_ms = self.catalog.timing.index_lag_ms;
        let state = self.export(export);
        let contact = state.members.contact(slot);
        let added_at = match contact.known {
            Known::On { at, .. } => at,
            Known::Unknown { since } => since,
            // One that has left is not known to be gone from the account: it was added before its newest event.
            Known::Off => state.members.member_if(contact.owner).map_or(UnixMillis(0), |owner| owner.changed_at),
        };
        let age_ms = self.vendor_now(self.export(export).application, now).since_ms(added_at);
        let age_ms = age_ms.saturating_sub(now.mono.since_ms(asked_at));
        if age_ms >= index_lag_ms || planted(Bug::IndexLagForgotten) {
            let deletes = self.deletes(export, slot);
            let members = &mut self.export_mut(export).members;
            members.set_known(slot, Known::Off);
            if deletes {
                members.forget_left(slot);
            }
            let owner = self.export(export).members.contact(slot).owner;
            self.due(export, owner);
            self.decide(now, export, slot);
        } else if let Some(mut waiting) = self.take_waiting(export, slot) {
            // Looked for again once the index must know it.
            waiting.not_before = Some(now.mono.plus_ms(index_lag_ms - age_ms));
            self.put_waiting(export, slot, waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(contacts: u64, members: u64, beside_rounds: u64) -> [u64; 3] {
        costs(Load { contacts, members, round_rows_max: 39_999, beside_rounds }).map(|(_, calls)| calls)
    }

    #[test]
    fn each_way_costs_what_its_calls_are() {
        assert_eq!(calls(1, 2_000_000, 1), [2, 4_001, 3]);
        assert_eq!(calls(3, 100, 0), [4, 2, 2]);
        assert_eq!(calls(1_000, 2_000_000, 3), [1_002, 4_002, 5]);
        assert_eq!(calls(1_000_000, 2_000_000, 28), [1_002_000, 6_000, 80]);
    }
}
