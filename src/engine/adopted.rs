//! `existing_members: adopt`: whoever was on a list before is ours, as if an import of ours had put them there.
//!
//! An address that no profile wants gets a member of its own, which owns what was applied of it; so it is removed, restored
//! and handed over to a profile that comes to want it as any other address is. What was read is adopted in parts, as the
//! transactions have room for the records; until all of it is, nothing is sent.
//!
//! Removals of such an export wait, in each term, until everything was read that the source had when the term began: whoever
//! a segment wants must be known before the others leave.

use crate::model::{
    ContactId, Text,
    catalog::ExportId,
    hash::text_hash,
    state::{ADOPTED_PREFIX, ROW_ADOPTED},
    time::Now,
};

use super::{
    Engine, Event,
    limits::DIRTY_MEMBERS_MAX,
    membership::{Known, MemberId, Membership},
};

/// Whether a member was made for an address that its list had before.
pub(super) fn is_adopted(members: &Membership, id: MemberId) -> bool {
    members.member_if(id).is_some_and(|member| member.profile.starts_with(ADOPTED_PREFIX))
}

impl Engine {
    /// Whether an export that runs has still to find out whom it adopts.
    pub(super) fn has_to_adopt(&self, id: ExportId) -> bool {
        let state = self.export(id);
        let adopts = self.catalog.export(id).adopts_existing && !state.existing.is_read();
        adopts && state.routed && state.moving.is_none() && self.operator_hold(id).is_none()
    }

    /// Whether removals of an export wait until all that the source had is known.
    pub(super) fn waits_to_adopt(&self, id: ExportId) -> bool {
        self.catalog.export(id).adopts_existing && !self.ends.is_empty()
    }

    /// Goes on with what was read of the members from before, and lets removals go once the source was read.
    pub(super) fn adopt_existing(&mut self, now: Now) {
        if !self.ends.is_empty() {
            let acks = &self.acks;
            self.ends.retain(|partition, end| acks.reader(*partition).is_none_or(|reader| reader < *end));
            if self.ends.is_empty() {
                for id in self.export_ids() {
                    if self.catalog.export(id).adopts_existing {
                        self.hold_back_anew(id);
                    }
                }
            }
        }
        for id in self.export_ids() {
            while self.export(id).existing.adopts().is_some() && self.journal.due() < DIRTY_MEMBERS_MAX {
                match self.export_mut(id).existing.next_to_adopt() {
                    Some((address, contact_id)) => self.adopt_one(now, id, &address, contact_id),
                    None => self.end_adopting(id),
                }
            }
        }
    }

    fn end_adopting(&mut self, id: ExportId) {
        let state = self.export_mut(id);
        let Some(contacts) = state.existing.end_adopting() else { return };
        state.record_due = true;
        self.journal.moved = true;
        self.emit(Event::ExistingMembersAdopted { export: id, contacts });
    }

    fn adopt_one(&mut self, now: Now, id: ExportId, address: &Text, contact_id: ContactId) {
        let at = self.vendor_now(self.export(id).application, now);
        let members = &mut self.export_mut(id).members;
        let known = members.find_contact(address).map(|slot| (slot, members.contact(slot)));
        let known =
            known.map(|(slot, contact)| (slot, contact.owner, contact.known != Known::Off || contact.in_flight.is_some()));
        let slot = match known {
            // It is ours already.
            Some((_, _, true)) => return,
            Some((slot, owner, false)) if members.member_if(owner).is_some_and(|member| member.contact == Some(slot)) => slot,
            Some(_) | None => {
                let profile = compact_str::format_compact!("{ADOPTED_PREFIX}{:016x}", text_hash(address));
                let member = members.find_or_insert(&profile);
                members.member_mut(member).changed_at = now.wall;
                let slot = members.find_or_insert_contact(address, member);
                members.contact_mut(slot).owner = member;
                if !members.member(member).former.contains(&slot) {
                    members.member_mut(member).former.push(slot);
                }
                slot
            }
        };
        members.set_known(slot, Known::On { row_hash: ROW_ADOPTED, at });
        members.keep_id(slot, contact_id, false);
        let owner = members.contact(slot).owner;
        self.due(id, owner);
        self.decide(now, id, slot);
    }
}
