//! Where erasing a profile deletes its contact in the account (`on_erasure: delete_contact`): which contacts, found how,
//! and what follows.
//!
//! Why contacts that have left are remembered there: platforms tell of exits before they erase, and by then nothing else
//! would name the address. Why each is looked up: paging through a list shows only who is on it.

use crate::model::{
    Text,
    batch::Operation,
    call::{Answer, ContactStatus, Outcome, Request},
    catalog::{ConnectionId, ExportId, OnErasure},
    time::{Mono, Now},
    whole,
};

use super::{
    Engine, Event,
    calls::Purpose,
    limits::{ERASED_WAITS_MAX_MS, LANE_CALLS, count},
    membership::{Contact, ContactSlot, Known},
};

/// When a contact that is to be deleted is looked up: once it has waited for what a call is worth, or for hours.
fn look_up_erased_at(since: Mono, price_waiting_s: f64) -> Mono {
    since.plus_ms(whole(price_waiting_s * 1_000.0).min(ERASED_WAITS_MAX_MS))
}

impl Engine {
    /// Whether the profile that carries what was applied of a contact was erased.
    pub(super) fn is_erased(&self, id: ExportId, slot: ContactSlot) -> bool {
        let members = &self.export(id).members;
        members.member_if(members.contact(slot).owner).is_some_and(|member| member.erased)
    }

    /// Whether a contact is to be deleted: its profile was erased, and no other one wants its address on any list of the
    /// account.
    pub(super) fn deletes(&self, export: ExportId, slot: ContactSlot) -> bool {
        let state = self.export(export);
        if self.catalog.connection(state.connection).on_erasure != OnErasure::DeleteContact {
            return false;
        }
        self.is_erased(export, slot) && !self.is_wanted(state.connection, &state.members.contact(slot).address)
    }

    fn is_wanted(&self, connection: ConnectionId, address: &str) -> bool {
        let mut exports = self.exports.iter().filter(|export| export.connection == connection);
        exports.any(|export| {
            let slot = export.members.find_contact(address);
            slot.is_some_and(|slot| export.members.contact(slot).wanted())
        })
    }

    /// Whether a contact that was to be deleted is not to be touched at all, because somebody else has come to want its
    /// address meanwhile: it was on the list before, say.
    pub(super) fn stays_after_all(&mut self, now: Now, export: ExportId, slot: ContactSlot) -> bool {
        if !self.export(export).members.keeps_left() || self.next_operation(export, slot, None) == Some(Operation::Remove) {
            return false;
        }
        self.decide(now, export, slot);
        true
    }

    /// Forgets a contact of which nothing is left to do. One that has left is kept until its profile is erased; if somebody
    /// else wants its address then, it stays a contact.
    pub(super) fn forget_idle(&mut self, export: ExportId, slot: ContactSlot) {
        let members = &self.export(export).members;
        if members.has_left(slot) && !self.deletes(export, slot) {
            let Contact { owner, in_flight, .. } = *members.contact(slot);
            if in_flight.is_none() && members.member_if(owner).is_none_or(|owner| owner.erased) {
                self.export_mut(export).members.forget_left(slot);
                self.due(export, owner);
            }
        }
        self.export_mut(export).members.forget_contact_if_idle(slot);
    }

    /// Looks up the next contact that is to be deleted, once it has waited for what a call is worth.
    pub(super) fn look_up_erased(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        if state.erased_under_way || state.held.is_some() || !self.sends(export) {
            return;
        }
        let Some(oldest) = state.removals.erased.oldest() else { return };
        let (connection, application) = (state.connection, state.application);
        let due = look_up_erased_at(oldest, self.applications[usize::from(application.0)].price.waiting_seconds);
        if due > now.mono {
            self.wake_for_price(now, due);
            return;
        }
        let state = self.export_mut(export);
        let Some((slot, sequence)) = state.removals.erased.pop() else { return };
        let Some(permit) = self.permit(now, connection, LANE_CALLS) else {
            self.put_back(export, slot, sequence);
            return;
        };
        let state = self.export_mut(export);
        state.erased_under_way = true;
        let address = state.members.contact(slot).address.clone();
        self.call(now, connection, permit, Request::LookUp { address }, Purpose::LookUpErased(export, slot, sequence));
    }

    /// A contact that is to be deleted was looked up, with a call of `asked_at`.
    pub(super) fn on_looked_up_erased(
        &mut self,
        now: Now,
        asked_at: Mono,
        export: ExportId,
        (slot, sequence): (ContactSlot, u64),
        outcome: &Outcome,
    ) {
        let state = self.export_mut(export);
        state.erased_under_way = false;
        if !state.members.waits(slot, sequence) {
            return;
        }
        let Outcome::Answered(Answer::Contacts(page)) = outcome else {
            self.put_back(export, slot, sequence);
            return;
        };
        let address = state.members.contact(slot).address.clone();
        let known = page.items.iter().find(|contact| contact.address == address);
        match known {
            None => self.on_absent(now, asked_at, export, slot),
            Some(contact) if contact.status == ContactStatus::Deleted => {
                let connection = self.export(export).connection;
                self.are_deleted(now, connection, &[address]);
            }
            Some(contact) => self.keep_id_of(export, slot, contact.contact_id),
        }
    }

    /// A batch that deletes contacts has ended; `surely` when the vendor says that it did.
    pub(super) fn on_deletion_ended(
        &mut self,
        now: Now,
        export: ExportId,
        connection: ConnectionId,
        slots: &[ContactSlot],
        surely: bool,
    ) {
        let members = &self.export(export).members;
        let addresses: Vec<_> = slots.iter().map(|slot| members.contact(*slot).address.clone()).collect();
        if surely {
            self.emit(Event::ContactsDeleted { export, contacts: count(addresses.len()) });
            self.are_deleted(now, connection, &addresses);
        } else {
            self.connection_mut(connection).suppression.outdate();
        }
    }

    /// Contacts of an account were deleted: they are on no list, and no import may touch them.
    fn are_deleted(&mut self, now: Now, connection: ConnectionId, addresses: &[Text]) {
        let vendor_now = self.vendor_now(self.catalog.connection(connection).application, now);
        for address in addresses {
            self.connection_mut(connection).suppression.deleted(address, vendor_now);
            for id in self.export_ids() {
                if self.export(id).connection != connection {
                    continue;
                }
                let members = &mut self.export_mut(id).members;
                let Some(slot) = members.find_contact(address) else { continue };
                if members.contact(slot).in_flight.is_none() {
                    members.set_known(slot, Known::Off);
                    members.forget_left(slot);
                    let owner = members.contact(slot).owner;
                    self.due(id, owner);
                }
            }
            self.decide_everywhere(now, connection, address);
        }
        self.connection_due(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::look_up_erased_at;
    use crate::model::time::Mono;

    #[test]
    fn who_was_erased_waits_for_a_price_and_for_hours_at_most() {
        let due_s = |price_s| (look_up_erased_at(Mono(1_000), price_s).0 - 1_000) / 1_000;
        assert_eq!([0.0, 600.0, 370_000.0].map(due_s), [0, 600, 21_600]);
    }
}
