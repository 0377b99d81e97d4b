//! Contacts that flap: an address that was sent five times in an account within 24 hours waits until the oldest of these is
//! a day old. Exits and erasures wait for nothing here.
//!
//! Why: more than five attempts to subscribe or update one address in 24 hours may have the vendor flag it as abuse, and
//! then its row is refused as invalid for two days. So the newest row waits, parked, and goes by itself; what it overtook
//! is never sent, and no state of a profile is older than a day on its list.
//!
//! Sends are counted by address over all exports of an account, from the end of their activity by the vendor's clock: until
//! then the contact is fenced. Only an address that is sent *again* within a day costs anything: before, what is known of
//! the contact tells. One that left its list a while after its only send is remembered in memory alone; from the second
//! send on, the times are part of a member's record, which outlives the member's leaving for as long.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::model::{
    Text,
    catalog::{ConnectionId, ExportId},
    hash::text_hash,
    state::Sent,
    time::{Now, UnixMillis},
};

use super::{
    Engine, Event, FenceHasher,
    coalescer::{Place, Waiting},
    limits::{SENDS_MAX, SENDS_WINDOW_MS, SENT_ONCE_MAX},
    membership::{ContactSlot, MemberId},
    planted::{Bug, planted},
};

/// A contact that is off its list, and had been sent.
#[derive(Debug)]
pub(super) struct WasSent {
    address: Text,
    owner: MemberId,
    at: UnixMillis,
}

impl WasSent {
    pub(super) const fn new(address: Text, owner: MemberId, at: UnixMillis) -> Self {
        Self { address, owner, at }
    }
}

/// The sends of one address within a day.
#[derive(Debug, Default)]
struct Sends {
    /// When, the oldest first, and for which export.
    at: SmallVec<[(UnixMillis, ExportId); 2]>,
    /// Whose record tells of them.
    keeper: Option<(ExportId, MemberId)>,
}

/// The addresses of one account that were sent again, or left, within a day of being sent.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    /// Looked up by the address's hash, never iterated.
    by_address: HashMap<u64, Sends, FenceHasher>,
    /// When the oldest send of each was.
    oldest: BTreeSet<(UnixMillis, u64)>,
    /// The addresses that a member's record tells of.
    kept_by: BTreeMap<(ExportId, MemberId), SmallVec<[u64; 1]>>,
    /// How many addresses some record tells of.
    kept: usize,
    /// The changes that wait, by address. Entries are dropped late.
    waiting: BTreeMap<u64, Vec<(u64, ExportId, ContactSlot)>>,
}

impl Flapping {
    /// One more send.
    fn add(&mut self, hash: u64, export: ExportId, at: UnixMillis) {
        let sends = self.by_address.entry(hash).or_default();
        if let Some((oldest, _)) = sends.at.first() {
            self.oldest.remove(&(*oldest, hash));
        }
        let place = sends.at.partition_point(|(before, _)| *before <= at);
        sends.at.insert(place, (at, export));
        if let Some((oldest, _)) = sends.at.first() {
            self.oldest.insert((*oldest, hash));
        }
    }

    /// Lets a member's record tell of an address.
    fn keep(&mut self, hash: u64, keeper: (ExportId, MemberId)) {
        if let Some(sends) = self.by_address.get_mut(&hash).filter(|sends| sends.keeper.is_none()) {
            sends.keeper = Some(keeper);
            self.kept += 1;
            self.kept_by.entry(keeper).or_default().push(hash);
        }
    }

    /// Its record tells of it no longer.
    fn let_go(&mut self, hash: u64) -> Option<(ExportId, MemberId)> {
        let keeper = self.by_address.get_mut(&hash)?.keeper.take()?;
        self.kept -= 1;
        if let Some(kept) = self.kept_by.get_mut(&keeper) {
            kept.retain(|kept| *kept != hash);
            if kept.is_empty() {
                self.kept_by.remove(&keeper);
            }
        }
        Some(keeper)
    }

    /// Forgets the oldest send of all that is older than a day: its address, and whose record tells of it no longer.
    fn expire(&mut self, vendor_now: UnixMillis) -> Option<(u64, Option<(ExportId, MemberId)>)> {
        let (oldest, hash) = *self.oldest.first()?;
        if oldest.plus_ms(SENDS_WINDOW_MS) > vendor_now {
            return None;
        }
        self.oldest.pop_first();
        let sends = self.by_address.get_mut(&hash)?;
        sends.at.remove(0);
        if let Some((oldest, _)) = sends.at.first() {
            self.oldest.insert((*oldest, hash));
        }
        let left = sends.at.len();
        let keeper = if left < 2 { self.let_go(hash) } else { None };
        if left == 0 {
            self.by_address.remove(&hash);
        }
        Some((hash, keeper))
    }

    fn is_full(&self, hash: u64) -> bool {
        self.by_address.get(&hash).is_some_and(|sends| sends.at.len() >= SENDS_MAX)
    }

    /// When the first of the changes that wait may go, by the vendor's clock, or earlier.
    fn first_goes_at(&self) -> Option<UnixMillis> {
        let (oldest, _) = self.oldest.first().filter(|_| !self.waiting.is_empty())?;
        Some(oldest.plus_ms(SENDS_WINDOW_MS))
    }
}

impl Engine {
    fn flapping_of(&mut self, export: ExportId) -> &mut Flapping {
        let connection = self.export(export).connection;
        &mut self.connection_mut(connection).flapping
    }

    /// When each export of an account sent an address last, as far as what is known of its contacts tells and the day is
    /// not over.
    fn sends_known(&self, connection: ConnectionId, address: &str, until: UnixMillis) -> SmallVec<[(ExportId, UnixMillis); 2]> {
        let sent = self.export_ids().filter(|id| self.export(*id).connection == connection).filter_map(|id| {
            let members = &self.export(id).members;
            Some((id, members.sent_at(members.find_contact(address)?)?.min(until)))
        });
        sent.filter(|(_, at)| at.plus_ms(SENDS_WINDOW_MS) > until).collect()
    }

    /// A contact was in an import that the vendor took, which ended at `at`. Call it before that is known of the contact.
    pub(super) fn note_sent(&mut self, export: ExportId, slot: ContactSlot, at: UnixMillis, in_search: bool) {
        let connection = self.export(export).connection;
        let members = &self.export(export).members;
        let hash = text_hash(&members.contact(slot).address);
        if !self.connections[usize::from(connection.0)].flapping.by_address.contains_key(&hash) {
            let again = members.sent_at(slot).is_some_and(|before| before.plus_ms(SENDS_WINDOW_MS) > at);
            if !again && !in_search {
                return;
            }
            let address = members.contact(slot).address.clone();
            for (export, at) in self.sends_known(connection, &address, at) {
                self.connection_mut(connection).flapping.add(hash, export, at);
            }
        }
        self.connection_mut(connection).flapping.add(hash, export, at);
        self.keep_sends(connection, hash, export, slot);
        if self.connections[usize::from(connection.0)].flapping.is_full(hash) {
            self.park_others(connection, export, slot);
        }
    }

    /// Sees to it that some member's record tells of an address that was sent more than once.
    fn keep_sends(&mut self, connection: ConnectionId, hash: u64, export: ExportId, slot: ContactSlot) {
        let members = &self.export(export).members;
        let owner = members.contact(slot).owner;
        let lives = members.member_if(owner).is_some_and(|member| !member.erased);
        let flapping = &mut self.connection_mut(connection).flapping;
        if flapping.by_address.get(&hash).is_none_or(|sends| sends.at.len() < 2) {
            return;
        }
        if lives {
            flapping.keep(hash, (export, owner));
        }
        if let Some((export, member)) = flapping.by_address.get(&hash).and_then(|sends| sends.keeper) {
            self.due(export, member);
        }
    }

    /// What other exports would send of an address waits from here on too.
    fn park_others(&mut self, connection: ConnectionId, export: ExportId, slot: ContactSlot) {
        let address = self.export(export).members.contact(slot).address.clone();
        for other in self.export_ids().filter(|other| *other != export) {
            let state = self.export(other);
            let Some(slot) = state.members.find_contact(&address).filter(|_| state.connection == connection) else { continue };
            let waits = state.members.contact(slot).waiting.as_ref().is_some_and(|waiting| waiting.place == Some(Place::Imports));
            if waits && let Some(waiting) = self.take_waiting(other, slot) {
                self.put_waiting(other, slot, waiting);
            }
        }
    }

    /// Whether an import of a contact has to wait. Where more than five exports share an account, each has its turn once a
    /// day whatever the others send, or the last of them would wait for days.
    pub(super) fn flaps(&self, export: ExportId, slot: ContactSlot) -> bool {
        let state = self.export(export);
        let flapping = &self.connections[usize::from(state.connection.0)].flapping;
        if flapping.by_address.is_empty() || planted(Bug::FlappingSent) {
            return false;
        }
        let hash = text_hash(&state.members.contact(slot).address);
        let Some(sends) = flapping.by_address.get(&hash).filter(|sends| sends.at.len() >= SENDS_MAX) else { return false };
        let exports = self.exports.iter().filter(|other| other.connection == state.connection).count();
        exports <= SENDS_MAX || sends.at.iter().any(|(_, by)| *by == export)
    }

    /// An import of a contact that flaps is parked, until the oldest send is a day old.
    pub(super) fn put_flapping(&mut self, export: ExportId, slot: ContactSlot, waiting: Box<Waiting>) {
        let again = waiting.place == Some(Place::Flapping) && waiting.tokens.is_empty();
        let sequence = waiting.sequence;
        let state = self.export_mut(export);
        state.flapping.live += 1;
        state.flapping.untold += u32::from(!again);
        let hash = text_hash(&state.members.contact(slot).address);
        let changes = self.flapping_of(export).waiting.entry(hash).or_default();
        changes.retain(|(_, of, at)| (*of, *at) != (export, slot));
        changes.push((sequence, export, slot));
        self.put_aside(export, slot, waiting, Place::Flapping);
    }

    /// Takes note of who left a list, forgets sends that are a day old, and lets go what waited for that.
    pub(super) fn pass_flapping(&mut self, now: Now) {
        for export in self.export_ids() {
            let left = self.export_mut(export).members.take_was_sent();
            if !left.is_empty() {
                self.remember_left(now, export, left);
            }
        }
        for id in self.connection_ids() {
            self.expire_sends(now, id);
        }
    }

    fn remember_left(&mut self, now: Now, export: ExportId, left: Vec<WasSent>) {
        let (connection, application) = (self.export(export).connection, self.export(export).application);
        let vendor_now = self.vendor_now(application, now);
        for WasSent { address, owner, at } in left {
            let hash = text_hash(&address);
            let flapping = &self.connections[usize::from(connection.0)].flapping;
            let full = flapping.by_address.len() - flapping.kept >= SENT_ONCE_MAX;
            if flapping.by_address.contains_key(&hash) || full || at.plus_ms(SENDS_WINDOW_MS) <= vendor_now {
                continue;
            }
            let others = self.sends_known(connection, &address, vendor_now);
            let lives = self.export(export).members.member_if(owner).is_some_and(|member| !member.erased);
            let flapping = &mut self.connection_mut(connection).flapping;
            flapping.add(hash, export, at.min(vendor_now));
            for (other, at) in others {
                flapping.add(hash, other, at);
            }
            if flapping.by_address.get(&hash).is_some_and(|sends| sends.at.len() > 1) && lives {
                flapping.keep(hash, (export, owner));
                self.due(export, owner);
            }
        }
    }

    fn expire_sends(&mut self, now: Now, id: ConnectionId) {
        let application = self.catalog.connection(id).application;
        if self.connections[usize::from(id.0)].flapping.oldest.is_empty() {
            return;
        }
        let vendor_time = self.applications.get(usize::from(application.0)).and_then(|key| key.quota.vendor_time(now.mono));
        let Some((vendor_now, _)) = vendor_time else {
            // The vendor's clock is not known, and nothing else may ask for it: the reading that comes before an import does.
            let flapping = &self.connections[usize::from(id.0)].flapping;
            if let Some(at) = flapping.first_goes_at() {
                let sends = self.export_ids().any(|export| {
                    let state = self.export(export);
                    state.connection == id && state.flapping.live > 0 && self.sends(export)
                });
                if at > now.wall {
                    self.wake_at(now.mono.plus_ms(at.since_ms(now.wall)));
                } else if sends {
                    self.connection_mut(id).suppression.need();
                }
            }
            return;
        };
        while let Some((hash, keeper)) = self.connection_mut(id).flapping.expire(vendor_now) {
            if let Some((export, member)) = keeper {
                self.due(export, member);
            }
            let flapping = &mut self.connection_mut(id).flapping;
            if flapping.is_full(hash) {
                continue;
            }
            let mut changes = flapping.waiting.remove(&hash).unwrap_or_default();
            changes.sort_unstable();
            for (sequence, export, slot) in changes {
                if !self.export(export).members.waits(slot, sequence) {
                    continue;
                }
                // It could not go before: its waiting makes no call worth more.
                if let Some(waiting) = &mut self.export_mut(export).members.contact_mut(slot).waiting {
                    waiting.queued_at = now.mono;
                }
                self.decide(now, export, slot);
            }
        }
        if let Some(at) = self.connections[usize::from(id.0)].flapping.first_goes_at() {
            self.wake_at(now.mono.plus_ms(at.since_ms(vendor_now).max(1_000)));
        }
    }

    /// A profile was erased: no record tells of its addresses any more.
    pub(super) fn forget_sends_of(&mut self, export: ExportId, member: MemberId) {
        let flapping = self.flapping_of(export);
        for hash in flapping.kept_by.remove(&(export, member)).unwrap_or_default() {
            if let Some(sends) = flapping.by_address.get_mut(&hash) {
                sends.keeper = None;
                flapping.kept -= 1;
            }
        }
    }

    /// Whether a member's record tells of sends, although nothing else of it may be left.
    pub(super) fn keeps_sends(&self, export: ExportId, member: MemberId) -> bool {
        let connection = self.export(export).connection;
        self.connections[usize::from(connection.0)].flapping.kept_by.contains_key(&(export, member))
    }

    /// The sends that a member's record tells of.
    pub(super) fn sent_of(&self, export: ExportId, member: MemberId) -> Vec<Sent> {
        let connection = self.export(export).connection;
        let flapping = &self.connections[usize::from(connection.0)].flapping;
        let kept = flapping.kept_by.get(&(export, member)).into_iter().flatten();
        let sent = kept.filter_map(|hash| {
            let sends = flapping.by_address.get(hash)?;
            Some(Sent { address_hash: *hash, at: sends.at.iter().map(|(at, _)| *at).collect() })
        });
        sent.collect()
    }

    /// Takes back what the records tell of sends, before it is decided what is to be sent.
    pub(super) fn restore_sends(&mut self) {
        for ((export, member), sent) in std::mem::take(&mut self.restored.sent) {
            for Sent { address_hash, at } in sent {
                let flapping = self.flapping_of(export);
                for at in at {
                    let known = flapping.by_address.get(&address_hash);
                    if known.is_none_or(|sends| sends.at.iter().all(|(known, _)| *known != at)) {
                        flapping.add(address_hash, export, at);
                    }
                }
                flapping.keep(address_hash, (export, member));
            }
        }
    }

    /// Tells of changes that were parked because their contact flaps.
    pub(super) fn tell_flapping(&mut self) {
        for export in self.export_ids() {
            let contacts = std::mem::take(&mut self.export_mut(export).flapping.untold);
            if contacts > 0 {
                self.emit(Event::Flapping { export, contacts });
            }
        }
    }
}

/// Changes of an export that wait because their contact flaps.
#[derive(Debug, Default)]
pub(super) struct FlappingChanges {
    /// How many.
    pub(super) live: usize,
    /// Parked since it was told last.
    pub(super) untold: u32,
}
