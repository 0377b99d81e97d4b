//! Records → membership → what is to be sent.

use smallvec::SmallVec;

use crate::model::{
    Text,
    address::{self, AddressFault},
    batch::Operation,
    catalog::{Export, ExportId, NoAddress, OnExit},
    dead_letter::{DeadLetter, LetterOriginal, LetterReason, RefusedBy},
    event::{ChangeKind, RecordContent, SegmentEvent, SourceRecord},
    position::{NextOffset, Position},
    row::Row,
    time::{Now, UnixMillis},
};

use super::{
    Engine, Event,
    ack::Token,
    backfill::Telling,
    coalescer::{Place, Tokens, Waiting},
    event::RecordCounts,
    limits::{CUSTOM_CHARACTERS_MAX, NAME_CHARACTERS_MAX},
    membership::{ContactSlot, Known, MemberId},
    planted::{Bug, planted},
    router::Route,
    search::RefusedReason,
};

/// One record on its way through the exports.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    now: Now,
    /// What the change waits for it with; none for a record below the watermark, which is settled.
    token: Option<Token>,
    position: Position,
    timestamp: UnixMillis,
}

impl Engine {
    /// Takes records in the order of their offsets.
    pub(super) fn route(&mut self, now: Now, records: Vec<SourceRecord>) {
        for record in records {
            assert!(!self.order.waits(record.position.partition), "a partition that waits is not read");
            let token = self.acks.deliver(record.position, record.timestamp, record.hash);
            if token.is_none() && !self.is_read_again(record.position) {
                self.counts.replayed += 1;
                continue;
            }
            let arrival = Arrival { now, token, position: record.position, timestamp: record.timestamp };
            match record.content {
                RecordContent::Event(event) => self.route_event(arrival, &event),
                RecordContent::Erasure { profile_id } => self.erase(arrival, &profile_id),
                // Its letter was written when it was read first.
                RecordContent::Undecodable(_) if self.leaves_undecodable || token.is_none() => {}
                RecordContent::Undecodable(undecodable) => {
                    self.counts.undecodable[RecordCounts::fault_slot(undecodable.kind)] += 1;
                    self.letter(DeadLetter {
                        position: record.position,
                        refused_by: None,
                        reason: LetterReason::Decode(undecodable.kind),
                        detail: undecodable.detail,
                        original: LetterOriginal::Carried(undecodable.original),
                    });
                }
            }
            if let Some(token) = token {
                self.release(token);
            }
            if self.reads_again() {
                self.read_up_to(NextOffset { partition: record.position.partition, offset: record.position.offset + 1 });
            }
        }
        let counts = std::mem::take(&mut self.counts);
        self.emit(Event::RecordsRouted(counts));
        for id in self.export_ids() {
            let contacts = std::mem::take(&mut self.export_mut(id).cancelled);
            if contacts > 0 {
                self.emit(Event::Cancelled { export: id, contacts });
            }
        }
    }

    /// One change less needs this record.
    pub(super) fn release(&mut self, token: Token) {
        if self.acks.settle(token) {
            self.journal.moved = true;
        }
    }

    fn route_event(&mut self, arrival: Arrival, event: &SegmentEvent) {
        if arrival.token.is_some() {
            self.counts.events[RecordCounts::event_slot(event.change)] += 1;
        } else {
            self.counts.read_again += 1;
        }
        let routes: SmallVec<[Route; 4]> = match (&event.segment_id, &self.router) {
            (Some(segment), Some(router)) => SmallVec::from_slice(router.routes(segment)),
            (None, Some(_)) => self.export_ids().map(|export| Route { export, bit: 0 }).collect(),
            (_, None) => SmallVec::new(),
        };
        if routes.is_empty() && arrival.token.is_some() {
            self.counts.filtered += 1;
        }
        for route in routes {
            if self.export(route.export).routed {
                self.apply(arrival, event, route);
            }
        }
    }

    /// What one event means for one export.
    fn apply(&mut self, arrival: Arrival, event: &SegmentEvent, route: Route) {
        let catalog = std::sync::Arc::clone(&self.catalog);
        let export = catalog.export(route.export);
        let members = &self.export(route.export).members;
        let found = members.find(&event.profile_id);
        let segments = found.map_or(0, |id| members.member(id).segments);
        let after = match event.change {
            ChangeKind::Entered => segments | route.bit,
            ChangeKind::Exited if planted(Bug::UnionByLastEvent) => 0,
            ChangeKind::Exited => segments & !route.bit,
            ChangeKind::Updated => segments,
        };
        match self.telling(arrival.position, arrival.token.is_none(), route.export, route.bit, found) {
            Telling::Covered => {
                self.counts.replayed += u32::from(arrival.token.is_some());
                return;
            }
            Telling::Facts => {
                if let Some(id) = found {
                    self.told_of_segments(arrival, route.export, id, after);
                }
                return;
            }
            Telling::Everything => {}
        }
        if found.is_none() && event.change != ChangeKind::Entered {
            self.counts.unchanged += 1;
            return;
        }
        let value = |field: crate::model::catalog::FieldId| event.values.get(usize::from(field.0)).and_then(Option::as_deref);
        // On an exit the address matters only to those segments that remain.
        let raw = value(export.mapping.email).filter(|text| !text.trim().is_empty());
        let address = match (raw, after) {
            (_, 0) => Ok(None),
            (None, _) => Ok(None),
            (Some(raw), _) => address::normalise(raw).map(Some),
        };
        let address = match (address, event.change) {
            (Ok(None), ChangeKind::Entered | ChangeKind::Updated) if after != 0 => {
                self.counts.without_address += 1;
                if export.no_address == NoAddress::DeadLetter {
                    self.refuse_event(arrival, route.export, LetterReason::NoAddress, "the profile has no address");
                    return;
                }
                None
            }
            (Ok(address), _) => address,
            (Err(_), ChangeKind::Exited) => None,
            (Err(fault), ChangeKind::Entered | ChangeKind::Updated) => {
                self.counts.invalid_address += 1;
                self.refuse_event(arrival, route.export, LetterReason::InvalidAddress, explain(fault));
                return;
            }
        };
        let state = &mut self.exports[usize::from(route.export.0)];
        let members = &mut state.members;
        let id = members.find_or_insert(&event.profile_id);
        // Its record is beyond this event already: after the hand-over nothing would tell it again.
        let covered = self.order.covers(members, id, arrival.position);
        if !covered {
            let is_before = |known| self.order.is_at_or_before(known, arrival.position);
            members.told_at(id, arrival.position, arrival.timestamp, is_before);
        }
        let member = members.member_mut(id);
        member.told_below |= arrival.token.is_none();
        let facts_changed = member.segments != after || !member.recorded || after == 0;
        member.segments = after;
        let old = member.contact;
        let keeps_address = event.change == ChangeKind::Exited && address.is_none();
        let new = match (after, &address) {
            (0, _) => None,
            (_, None) if keeps_address => old,
            (_, None) => None,
            (_, Some(address)) => Some(members.find_or_insert_contact(address, id)),
        };
        let row = (new.is_some() && !keeps_address).then(|| row_of(export, event));
        self.move_member(arrival, route.export, id, old, new, row, facts_changed);
        if event.change == ChangeKind::Entered {
            // Whoever enters again after an erasure is a new profile, once what the erased one left is gone, or its own.
            let member = self.export_mut(route.export).members.member_mut(id);
            member.erased &= !member.former.is_empty();
        }
        if covered {
            self.due(route.export, id);
        }
    }

    fn erase(&mut self, arrival: Arrival, profile: &Text) {
        self.erasures += 1;
        if arrival.token.is_some() {
            self.counts.erasures += 1;
        } else {
            self.counts.read_again += 1;
        }
        let mut erased: SmallVec<[_; 4]> = SmallVec::new();
        for export in self.export_ids() {
            let again = self.erased_again(export, arrival.token.is_none());
            let members = &mut self.exports[usize::from(export.0)].members;
            let Some(id) = members.find(profile) else { continue };
            if self.order.covers(members, id, arrival.position) {
                let member = members.member_mut(id);
                let after = member.segments & !again;
                // What is read again may have told that it entered, and exited: it leaves all the same as one who was erased.
                let erased_again = again != 0 && after == 0;
                member.erased |= erased_again;
                let former = member.former.clone();
                self.told_of_segments(arrival, export, id, after);
                for slot in former.iter().copied().filter(|_| erased_again) {
                    self.reconsider(arrival, export, slot, id, None);
                }
                continue;
            }
            let is_before = |known| self.order.is_at_or_before(known, arrival.position);
            members.told_at(id, arrival.position, arrival.timestamp, is_before);
            let member = members.member_mut(id);
            member.segments = 0;
            member.erased = true;
            let (old, former) = (member.contact, member.former.clone());
            // It is wanted by this profile nowhere, before it is asked whether another wants it.
            for heir in members.point(id, None) {
                self.due(export, heir);
            }
            self.forget_sends_of(export, id);
            erased.push((export, id, old, former));
        }
        for (export, id, old, former) in erased {
            self.move_member(arrival, export, id, old, None, None, true);
            for slot in former.iter().copied() {
                self.reconsider(arrival, export, slot, id, None);
            }
        }
    }

    /// An event that a member's record covers says which segments it is in, and nothing else.
    fn told_of_segments(&mut self, arrival: Arrival, export: ExportId, id: MemberId, after: u64) {
        let member = self.export_mut(export).members.member_mut(id);
        if member.segments == after {
            return;
        }
        member.segments = after;
        let old = member.contact;
        let new = old.filter(|_| after != 0);
        self.move_member(arrival, export, id, old, new, None, true);
        // Although the event may wait for the vendor: its record is beyond it, and is not told again after the hand-over.
        self.due(export, id);
    }

    /// Points a member at its contact and finds out what that means for the one it had and the one it has.
    #[expect(clippy::too_many_arguments, reason = "one step of one event, called from two places")]
    fn move_member(
        &mut self,
        arrival: Arrival,
        export: ExportId,
        id: MemberId,
        old: Option<ContactSlot>,
        new: Option<ContactSlot>,
        row: Option<Row>,
        facts_changed: bool,
    ) {
        let alike = match (new, &row) {
            (Some(slot), Some(row)) => self.is_refused_row(export, id, slot, row),
            (_, None) | (None, _) => false,
        };
        let member = self.export_mut(export).members.member_mut(id);
        // A row that may be on the list is wanted there still, until it leaves.
        let spent = member.refused.as_deref().is_some_and(|refused| RefusedReason::SearchSpent.is_why(refused));
        let refused = alike && !spent;
        // What was refused is the wish of before: this one is sent.
        if (row.is_some() && !alike) || (spent && new.is_none()) {
            member.refused = None;
        }
        let heirs = self.export_mut(export).members.point(id, new);
        for heir in heirs {
            // Two records say who carries what was applied: in one transaction, or neither does after a crash.
            self.due(export, heir);
            self.due(export, id);
        }
        let mut attached = false;
        if let Some(new) = new {
            if refused {
                self.export_mut(export).members.contact_mut(new).wanted_by.retain(|member| *member != id);
            }
            attached |= self.reconsider(arrival, export, new, id, row.filter(|_| !refused));
        }
        if let Some(old) = old
            && Some(old) != new
        {
            attached |= self.reconsider(arrival, export, old, id, None);
        }
        if !attached {
            if facts_changed || old != new {
                self.due(export, id);
            } else {
                self.counts.unchanged += 1;
            }
        }
    }

    /// Whether a member's record says of this very row that it is not sent again.
    fn is_refused_row(&self, export: ExportId, id: MemberId, slot: ContactSlot, row: &Row) -> bool {
        let members = &self.export(export).members;
        let hash = crate::model::hash::text_hash(&members.contact(slot).address) ^ row.hash();
        members.member(id).refused.as_ref().is_some_and(|refused| refused.row_hash == hash)
    }

    /// Finds out what is to be sent of a contact after an event. True when the event has to wait for it.
    fn reconsider(&mut self, arrival: Arrival, export: ExportId, slot: ContactSlot, member: MemberId, row: Option<Row>) -> bool {
        let Some(contact) = self.export(export).members.contact_if(slot) else { return false };
        let in_flight = contact.in_flight.is_some();
        let row = row.or_else(|| match (&contact.waiting, contact.in_flight) {
            (Some(waiting), _) => Some(waiting.row.clone()),
            // What is being sent is the newest that is known: an exit of one of two must not send less.
            (None, Some(place)) => self.batches.get(&place.batch()).and_then(|batch| batch.row(place.row())),
            (None, None) => None,
        });
        let operation = self.next_operation(export, slot, row.as_ref());
        if operation.is_none() && !in_flight {
            let kept = self.is_kept(export, slot);
            if !kept {
                self.cancel(export, slot);
                self.forget_idle(export, slot);
            }
            if !kept || row.is_none() || self.export(export).removed {
                return false;
            }
        }
        // What is read again is as old as the wish for it.
        let since = if arrival.token.is_some() { arrival.timestamp } else { arrival.now.wall };
        let mut waiting =
            self.take_waiting(export, slot).unwrap_or_else(|| Box::new(Waiting::new(Row::default(), since, arrival.now.mono)));
        if let Some(row) = row {
            waiting.row = row;
        }
        if let Some(token) = arrival.token {
            self.acks.hold(token);
            if waiting.tokens.is_empty() {
                let at = self.park_after(arrival.now);
                waiting.parks_at = self.park_at(at, export, slot);
            }
            waiting.tokens.push(token);
        }
        if waiting.sequence == 0 {
            let direction = usize::from(operation == Some(Operation::Remove));
            self.export_mut(export).arrivals[direction].arrive(arrival.now.mono);
        }
        if !waiting.touched.contains(&member) {
            waiting.touched.push(member);
        }
        waiting.operation = if in_flight { None } else { operation };
        let touched = waiting.touched.clone();
        self.put_waiting(export, slot, waiting);
        if arrival.token.is_none() {
            // Its event is settled: the row is in the state from the next transaction on.
            self.settle_with_sharers(export, slot, Tokens::new(), &touched);
        }
        true
    }

    /// What is to be sent of a contact. One that was on the list before stays there and is ours no longer, and one that was
    /// deleted or has unsubscribed is off it: neither costs a call.
    pub(super) fn next_operation(&mut self, export: ExportId, slot: ContactSlot, row: Option<&Row>) -> Option<Operation> {
        let operation = self.operation_for(export, slot, row);
        let state = self.export(export);
        let contact = state.members.contact(slot);
        let joins = contact.wanted() && state.moving.is_none();
        if joins || contact.known == Known::Off || contact.in_flight.is_some() || self.deletes(export, slot) {
            return operation;
        }
        let stays = state.existing.protects(&contact.address) || self.is_anothers(export, slot);
        if !stays && (operation != Some(Operation::Remove) || !self.left_by_itself(export, slot)) {
            return operation;
        }
        let owner = contact.owner;
        self.export_mut(export).members.set_known(slot, Known::Off);
        self.due(export, owner);
        None
    }

    /// What the difference between wanted and known asks for.
    fn operation_for(&self, export: ExportId, slot: ContactSlot, row: Option<&Row>) -> Option<Operation> {
        let members = &self.export(export).members;
        let contact = members.contact(slot);
        match (contact.wanted(), contact.known) {
            (_, Known::On { .. } | Known::Unknown { .. }) if self.export(export).moving.is_some() => Some(Operation::Remove),
            (true, _) if self.is_kept(export, slot) => None,
            (true, Known::On { row_hash, .. }) => row.filter(|row| row.hash() != row_hash).map(|_| Operation::Import),
            (true, Known::Off | Known::Unknown { .. }) => Some(Operation::Import),
            (false, Known::Off) => (members.has_left(slot) && self.deletes(export, slot)).then_some(Operation::Remove),
            (false, _) if planted(Bug::ReplacedAddressStays) && members.member(contact.owner).contact.is_some() => None,
            (false, Known::On { .. } | Known::Unknown { .. }) => {
                let keeps = self.catalog.export(export).on_exit == OnExit::Keep && !self.is_erased(export, slot);
                (!keeps).then_some(Operation::Remove)
            }
        }
    }

    /// Takes what waits for a contact out of its queue.
    pub(super) fn take_waiting(&mut self, export: ExportId, slot: ContactSlot) -> Option<Box<Waiting>> {
        let state = self.export_mut(export);
        let mut waiting = state.members.contact_mut(slot).waiting.take()?;
        state.removals.not_braked -= usize::from(std::mem::take(&mut waiting.erased));
        match waiting.place {
            Some(Place::Imports) => state.imports.dropped(&waiting),
            Some(Place::Unfound) => state.removals.unfound.dropped(&waiting),
            Some(Place::Found) => state.removals.found.dropped(&waiting),
            Some(Place::Erased) => state.removals.erased.dropped(&waiting),
            Some(Place::Later) => state.removals.drop_later(waiting.sequence, waiting.not_before.unwrap_or_default()),
            Some(Place::Suppressed) => {
                state.suppressed.dropped();
                return Some(waiting);
            }
            Some(Place::SearchSpent) => {
                state.search_spent -= 1;
                return Some(waiting);
            }
            Some(Place::Flapping) => {
                state.flapping.live -= 1;
                return Some(waiting);
            }
            Some(Place::Kept) => return Some(waiting),
            Some(Place::HeldBack) => {
                state.held_back -= 1;
                return Some(waiting);
            }
            Some(Place::WithoutRoom) => {
                state.without_room -= 1;
                return Some(waiting);
            }
            None => {}
        }
        self.journal.waiting_bytes -= waiting.bytes;
        self.journal.waiting -= 1;
        Some(waiting)
    }

    /// Lets a change wait for its contact, in the queue that its operation names.
    pub(super) fn put_waiting(&mut self, export: ExportId, slot: ContactSlot, mut waiting: Box<Waiting>) {
        self.sequence += 1;
        waiting.sequence = self.sequence;
        if waiting.operation == Some(Operation::Import)
            && let Some(shown_at) = self.suppressed_at(export, slot)
        {
            self.put_suppressed(export, slot, waiting, shown_at);
            return;
        }
        if waiting.operation == Some(Operation::Import) && self.is_unfound(export, slot, &waiting.row) {
            self.put_unfound(export, slot, waiting);
            return;
        }
        if waiting.operation == Some(Operation::Import) && self.flaps(export, slot) {
            self.put_flapping(export, slot, waiting);
            return;
        }
        if self.lacks_room(export, slot, &waiting) {
            self.put_without_room(export, slot, waiting);
            return;
        }
        if waiting.operation == Some(Operation::Remove) && self.holds_back(export, slot) {
            self.put_held_back(export, slot, waiting);
            return;
        }
        let deletes = waiting.operation == Some(Operation::Remove) && self.deletes(export, slot);
        let state = &mut self.exports[usize::from(export.0)];
        if state.removed && waiting.operation.is_none() {
            waiting.place = Some(Place::Kept);
            state.members.contact_mut(slot).waiting = Some(waiting);
            return;
        }
        waiting.bytes = waiting.row.size_bytes_max(&state.members.contact(slot).address);
        if waiting.operation != Some(Operation::Remove) {
            waiting.not_before = None;
        }
        waiting.place = match (waiting.operation, waiting.not_before) {
            (None, _) => None,
            (Some(Operation::Import), _) => Some(Place::Imports),
            (Some(Operation::Remove), _) if state.members.id(slot).is_some() => Some(Place::Found),
            (Some(Operation::Remove), Some(_)) => Some(Place::Later),
            (Some(Operation::Remove), None) if deletes => Some(Place::Erased),
            (Some(Operation::Remove), None) => Some(Place::Unfound),
        };
        waiting.erased = self.counts_as_erased(export, slot, waiting.place);
        let state = &mut self.exports[usize::from(export.0)];
        state.removals.not_braked += usize::from(waiting.erased);
        match waiting.place {
            Some(Place::Imports) => state.imports.push(slot, &waiting),
            Some(Place::Unfound) => state.removals.unfound.push(slot, &waiting),
            Some(Place::Found) => state.removals.found.push(slot, &waiting),
            Some(Place::Erased) => state.removals.erased.push(slot, &waiting),
            Some(Place::Later) => state.removals.push_later(slot, waiting.sequence, waiting.not_before.unwrap_or_default()),
            Some(
                Place::Suppressed | Place::SearchSpent | Place::Flapping | Place::Kept | Place::HeldBack | Place::WithoutRoom,
            )
            | None => {}
        }
        self.journal.waiting_bytes += waiting.bytes;
        self.journal.waiting += 1;
        state.members.contact_mut(slot).waiting = Some(waiting);
    }

    /// Puts the entry of a change back into the queue that it was popped from, if that change waits still.
    pub(super) fn put_back(&mut self, export: ExportId, slot: ContactSlot, sequence: u64) {
        let state = self.export_mut(export);
        let waiting = state.members.contact_if(slot).and_then(|contact| contact.waiting.as_ref());
        let Some(waiting) = waiting.filter(|waiting| waiting.sequence == sequence) else { return };
        match waiting.place {
            Some(Place::Imports) => state.imports.put_back(slot, waiting),
            Some(Place::Unfound) => state.removals.unfound.put_back(slot, waiting),
            Some(Place::Found) => state.removals.found.put_back(slot, waiting),
            Some(Place::Erased) => state.removals.erased.put_back(slot, waiting),
            Some(
                Place::Later
                | Place::Suppressed
                | Place::SearchSpent
                | Place::Flapping
                | Place::Kept
                | Place::HeldBack
                | Place::WithoutRoom,
            )
            | None => {}
        }
    }

    /// An add of a suppressed contact is kept, because it is wanted.
    fn put_suppressed(&mut self, export: ExportId, slot: ContactSlot, waiting: Box<Waiting>, shown_at: UnixMillis) {
        let again = waiting.place == Some(Place::Suppressed) && waiting.tokens.is_empty();
        let state = self.export_mut(export);
        state.suppressed.push(slot, waiting.sequence, shown_at);
        state.suppressed.untold += u32::from(!again);
        self.put_aside(export, slot, waiting, Place::Suppressed);
    }

    /// A change that waits for no call is parked at once.
    pub(super) fn put_aside(&mut self, export: ExportId, slot: ContactSlot, mut waiting: Box<Waiting>, place: Place) {
        waiting.place = Some(place);
        waiting.not_before = None;
        if !waiting.tokens.is_empty() {
            waiting.parks_at = self.park_at(waiting.queued_at, export, slot);
        }
        self.export_mut(export).members.contact_mut(slot).waiting = Some(waiting);
    }

    /// Nothing is to be sent of a contact any more: what waited is settled.
    fn cancel(&mut self, export: ExportId, slot: ContactSlot) {
        if let Some(waiting) = self.take_waiting(export, slot) {
            self.export_mut(export).cancelled += 1;
            self.settle_unsent(export, slot, *waiting);
        }
    }

    /// A change is not sent after all: the records of all that share the contact say so, or one of them would have the
    /// row sent after a restart.
    fn settle_unsent(&mut self, export: ExportId, slot: ContactSlot, waiting: Waiting) {
        self.settle_with_sharers(export, slot, waiting.tokens, &waiting.touched);
    }

    /// Records settle, and those of all that share the contact are written with the same row.
    pub(super) fn settle_with_sharers(&mut self, export: ExportId, slot: ContactSlot, tokens: Tokens, touched: &[MemberId]) {
        let wanted_by = self.export(export).members.contact(slot).wanted_by.clone();
        if wanted_by.len() > 1 {
            for member in wanted_by.iter().copied() {
                self.due(export, member);
            }
        }
        self.settle_tokens(export, tokens, touched);
    }

    /// Records settle, and what they changed is due to be written in the same transaction.
    pub(super) fn settle_tokens(&mut self, export: ExportId, tokens: Tokens, touched: &[MemberId]) {
        for member in touched {
            self.due(export, *member);
        }
        for token in tokens {
            self.release(token);
        }
    }

    /// After an activity, or a restore: decides anew what is to be sent of a contact.
    pub(super) fn decide(&mut self, now: Now, export: ExportId, slot: ContactSlot) {
        let Some(contact) = self.export(export).members.contact_if(slot) else { return };
        if contact.in_flight.is_some() {
            return;
        }
        let Some(mut waiting) = self.take_waiting(export, slot) else {
            if self.next_operation(export, slot, None).is_some() {
                self.put_waiting_new(now, export, slot, Row::default());
            } else {
                self.forget_idle(export, slot);
            }
            return;
        };
        waiting.operation = self.next_operation(export, slot, Some(&waiting.row));
        if waiting.operation.is_some() || self.is_kept(export, slot) {
            self.put_waiting(export, slot, waiting);
        } else {
            self.settle_unsent(export, slot, *waiting);
            self.forget_idle(export, slot);
        }
    }

    /// Lets a change wait that no record of this term asked for: one that the state tells of.
    pub(super) fn put_waiting_new(&mut self, now: Now, export: ExportId, slot: ContactSlot, row: Row) {
        let operation = self.next_operation(export, slot, Some(&row));
        let contact = self.export(export).members.contact(slot);
        let owner = contact.owner;
        let operation = if contact.in_flight.is_some() { None } else { operation };
        let since = self.export(export).members.member_if(owner).map_or(now.wall, |member| member.changed_at);
        let mut waiting = Box::new(Waiting::new(row, since, now.mono));
        waiting.operation = operation;
        waiting.touched.push(owner);
        self.put_waiting(export, slot, waiting);
    }

    fn refuse_event(&mut self, arrival: Arrival, export: ExportId, reason: LetterReason, detail: &'static str) {
        if planted(Bug::LetterForgotten) {
            return;
        }
        let refused_by = self.refused_by(export);
        self.letter(DeadLetter {
            position: arrival.position,
            refused_by: Some(refused_by),
            reason,
            detail: Text::const_new(if planted(Bug::AddressInLetter) { "qzcanary1@example.com" } else { detail }),
            original: LetterOriginal::InSource,
        });
    }

    pub(super) fn refused_by(&self, export: ExportId) -> RefusedBy {
        let application = self.catalog.application(self.export(export).application).name.clone();
        RefusedBy { application, export: self.catalog.export(export).name.clone() }
    }
}

/// The row that an event gives for an export.
fn row_of(export: &Export, event: &SegmentEvent) -> Row {
    let value = |field: crate::model::catalog::FieldId| event.values.get(usize::from(field.0)).cloned().flatten();
    // Longer texts would be cut on their way out; waiting with them would let one record hold megabytes.
    let text = |field, characters_max| value(field).map(|text| shortened(text, characters_max));
    let name = |field: Option<crate::model::catalog::FieldId>| field.and_then(|field| text(field, NAME_CHARACTERS_MAX));
    Row {
        first_name: name(export.mapping.first_name),
        last_name: name(export.mapping.last_name),
        custom: export.mapping.custom.iter().map(|(_, field)| text(*field, CUSTOM_CHARACTERS_MAX)).collect(),
    }
}

fn shortened(text: Text, characters_max: usize) -> Text {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => Text::new(&text[..end]),
        None => text,
    }
}

const fn explain(fault: AddressFault) -> &'static str {
    match fault {
        AddressFault::Empty => "the address is empty",
        AddressFault::TooLong => "the address is longer than 80 bytes",
        AddressFault::Incomplete => "the address has no complete domain",
        AddressFault::Character => "the address holds a character that the vendor refuses",
        AddressFault::Domain => "the address's domain has no ASCII form",
    }
}
