//! Removals need contact ids, and the vendor takes no addresses: look each address up, or page through the list once,
//! whichever costs fewer calls. (Staging lists are a third way; the strategy's place is [`RemovalStrategy`].)

use crate::model::{
    ContactId, Text,
    batch::Operation,
    call::{Contact, ContactStatus, Cursor, Page},
    catalog::{ExportId, RemovalStrategy},
    time::Now,
};

use super::{
    Engine, Event,
    limits::{CONTACT_IDS_MAX, PAGE_CONTACTS, REMOVAL_IDS_MAX},
    membership::{ContactSlot, Known},
};

/// How far the search for contact ids has come.
#[derive(Debug)]
pub(super) enum Finding {
    /// Nothing is looked for.
    Idle,
    /// The list is paged through; removals up to this sequence are decided by it.
    Scanning { cursor: Option<Cursor>, upto: u64, under_way: bool, seen: u64 },
    /// Addresses are looked up one by one.
    LookingUp { queue: Vec<(ContactSlot, u64)>, under_way: Option<(ContactSlot, u64)> },
}

impl Engine {
    /// Chooses the cheapest allowed way to find the ids of all removals that wait without one.
    pub(super) fn begin_finding(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let missing: Vec<(ContactSlot, u64)> = state
            .removals
            .iter()
            .filter(|(slot, sequence)| {
                self.is_live(export, *slot, *sequence, Operation::Remove) && !state.ids.contains_key(&slot.0)
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        let contacts = missing.len() as u64;
        let removals = contacts.div_ceil(REMOVAL_IDS_MAX as u64);
        let members = state.members.on_list().max(contacts);
        let allowed = &self.catalog.export(export).removal_strategies;
        let mut costs: Vec<(u64, RemovalStrategy)> = allowed
            .iter()
            .filter_map(|strategy| match strategy {
                RemovalStrategy::LookUp => Some((contacts + removals, RemovalStrategy::LookUp)),
                RemovalStrategy::Scan => Some((members.div_ceil(PAGE_CONTACTS) + removals, RemovalStrategy::Scan)),
                RemovalStrategy::StagingList => None,
            })
            .collect();
        costs.sort_by_key(|(calls, _)| *calls);
        let (calls, strategy) = costs.first().copied().unwrap_or((contacts + removals, RemovalStrategy::LookUp));
        let calls_other = costs.get(1).map(|(calls, _)| *calls);
        self.emit(Event::RemovalPlanned { export, strategy, contacts, calls, calls_other });
        let upto = self.sequence;
        self.export_mut(export).finding = match strategy {
            RemovalStrategy::LookUp => Finding::LookingUp { queue: missing.into_iter().rev().collect(), under_way: None },
            RemovalStrategy::Scan | RemovalStrategy::StagingList => {
                Finding::Scanning { cursor: None, upto, under_way: false, seen: 0 }
            }
        };
        self.wake_at(now.mono);
    }

    /// A page of the list.
    pub(super) fn on_page(&mut self, now: Now, export: ExportId, page: Page<Contact>) {
        for contact in &page.items {
            self.keep_id(export, &contact.address, contact.contact_id);
        }
        let Finding::Scanning { cursor, upto, under_way, seen } = &mut self.export_mut(export).finding else { return };
        *under_way = false;
        *seen += page.items.len() as u64;
        if page.next.is_some() {
            *cursor = page.next;
            return;
        }
        let upto = *upto;
        self.export_mut(export).finding = Finding::Idle;
        let absent: Vec<ContactSlot> = {
            let state = self.export(export);
            let waiting = state.removals.iter().filter(|(slot, sequence)| {
                *sequence <= upto && !state.ids.contains_key(&slot.0) && self.is_live(export, *slot, *sequence, Operation::Remove)
            });
            waiting.map(|(slot, _)| slot).collect()
        };
        for slot in absent {
            self.on_absent(now, export, slot);
        }
        self.cut_removals(now, export);
    }

    /// One address was looked up.
    pub(super) fn on_looked_up(&mut self, now: Now, export: ExportId, slot: ContactSlot, sequence: u64, page: &Page<Contact>) {
        if let Finding::LookingUp { under_way, .. } = &mut self.export_mut(export).finding {
            *under_way = None;
        }
        if self.is_live(export, slot, sequence, Operation::Remove) {
            let list = self.export(export).list;
            let found = page.items.iter().find(|contact| {
                contact.status != ContactStatus::Deleted && list.is_some_and(|list| contact.lists.contains(&list))
            });
            match found {
                Some(contact) => self.keep_id(export, &contact.address, contact.contact_id),
                None => self.on_absent(now, export, slot),
            }
        }
        self.end_looking_up(now, export);
    }

    /// Ends a round of look-ups when none is left.
    pub(super) fn end_looking_up(&mut self, now: Now, export: ExportId) {
        if let Finding::LookingUp { queue, under_way: None } = &self.export(export).finding
            && queue.is_empty()
        {
            self.export_mut(export).finding = Finding::Idle;
            self.cut_removals(now, export);
        }
    }

    fn keep_id(&mut self, export: ExportId, address: &Text, id: ContactId) {
        let state = self.export_mut(export);
        if let Some(slot) = state.members.find_contact(address) {
            let needed =
                state.members.contact(slot).waiting.as_ref().is_some_and(|waiting| waiting.operation == Some(Operation::Remove));
            if needed || state.ids.len() < CONTACT_IDS_MAX {
                state.ids.insert(slot.0, id);
            }
        }
    }

    /// The vendor does not show the contact on the list. That settles a removal only when our last add of it is old
    /// enough to have reached the vendor's index.
    fn on_absent(&mut self, now: Now, export: ExportId, slot: ContactSlot) {
        let index_lag_ms = self.catalog.timing.index_lag_ms;
        let added_at = match self.export(export).members.contact(slot).known {
            Known::On { at, .. } => at,
            Known::Unknown { since } => since,
            Known::Off => crate::model::time::UnixMillis(0),
        };
        let age_ms = now.wall.since_ms(added_at);
        if age_ms >= index_lag_ms {
            self.export_mut(export).members.set_known(slot, Known::Off);
            let owner = self.export(export).members.contact(slot).owner;
            self.due(export, owner);
            self.decide(now, export, slot);
        } else if let Some(mut waiting) = self.take_waiting(export, slot) {
            // Looked for again once the index must know it.
            waiting.queued_at = now.mono.plus_ms(index_lag_ms - age_ms);
            self.put_waiting(export, slot, waiting);
        }
    }

    /// A contact slot is used for another address from now on, or its id was used.
    pub(super) fn forget_ids_of_forgotten(&mut self, export: ExportId) {
        let state = &mut self.exports[usize::from(export.0)];
        let members = &state.members;
        if state.ids.len() >= CONTACT_IDS_MAX {
            state.ids.retain(|slot, _| members.contact_if(ContactSlot(*slot)).is_some_and(|contact| contact.waiting.is_some()));
        }
    }
}
