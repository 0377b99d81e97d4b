//! Who is wanted on an export's list because of which segments, and what the vendor confirmed.
//!
//! Two tables for each export: *members* (profiles, with their segments as facts) and *contacts* (addresses, with
//! what is known of them at the vendor). A member points at the contact it wants; profiles that share an address share
//! its contact, which stays wanted until the last of them has left.

use std::{collections::BTreeMap, num::NonZeroU64};

use hashbrown::{HashMap, HashSet, HashTable};
use smallvec::SmallVec;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

use crate::model::{
    ContactId, Text,
    catalog::SEGMENTS_PER_EXPORT_MAX,
    position::{PartitionId, Position},
    state::{ADOPTED_PREFIX, ROW_ADOPTED, Refused},
    time::UnixMillis,
};

use super::{
    coalescer::Waiting,
    few::Few,
    flapping::WasSent,
    limits::CONTACT_IDS_MAX,
    planted::{Bug, planted},
};

/// A member's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// A contact's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContactSlot(pub u32);

/// What is known of an address on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Not put there by us, or removed since.
    Off,
    /// Put there by a completed import.
    On {
        /// Hash of the row that was sent last.
        row_hash: u64,
        /// When the activity completed.
        at: UnixMillis,
    },
    /// Something that we may have started may have put it there, or taken it away.
    Unknown {
        /// When the last activity that may have touched it ended, as far as we know.
        since: UnixMillis,
    },
}

impl Known {
    /// When the contact was sent last, or may have been.
    const fn sent_at(self) -> Option<UnixMillis> {
        match self {
            Self::Off | Self::On { row_hash: ROW_ADOPTED, .. } => None,
            Self::On { at, .. } | Self::Unknown { since: at } => Some(at),
        }
    }
}

/// A profile in an export.
#[derive(Debug, Clone)]
pub struct Member {
    /// The profile's id.
    pub profile: Text,
    /// Bits of the export's segments that it is in, those that are not routed any more among them.
    pub segments: u64,
    /// The contact that it wants on the list while it is in a segment that is configured.
    pub contact: Option<ContactSlot>,
    /// Contacts that it wanted before and that may still be on the list.
    pub former: Few<ContactSlot>,
    /// The newest event in it.
    pub position: Position,
    /// Kafka timestamp of that event.
    pub changed_at: UnixMillis,
    /// The row that is not sent again.
    pub refused: Option<Box<Refused>>,
    /// The state topic holds a record of it.
    pub recorded: bool,
    /// Its record is due.
    pub dirty: bool,
    /// It was erased; what it left is still to be removed.
    pub erased: bool,
    /// Events below the watermark have told of it, because its segments are read again: the next term does not read them.
    pub told_below: bool,
}

/// The open batch that a contact is in, and its row there, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight(NonZeroU64);

impl InFlight {
    /// Row `row` (below 65,536: the vendor's limit is lower) of the batch of this number.
    #[must_use]
    pub fn new(batch: u64, row: u32) -> Self {
        assert!(row < 1 << 16 && batch < 1 << 47, "a batch has fewer rows, and a term fewer batches");
        Self(NonZeroU64::MIN.saturating_add(batch << 16 | u64::from(row)))
    }

    /// The batch's number.
    #[must_use]
    pub const fn batch(self) -> u64 {
        (self.0.get() - 1) >> 16
    }

    /// The row, from 0.
    #[must_use]
    pub fn row(self) -> u32 {
        u32::try_from((self.0.get() - 1) & 0xFFFF).unwrap_or_default()
    }
}

/// An address in an export.
#[derive(Debug, Clone)]
pub struct Contact {
    /// The address, normalised.
    pub address: Text,
    /// The member whose record carries what was applied.
    pub owner: MemberId,
    /// Members that want it on the list now.
    pub wanted_by: Few<MemberId>,
    /// Members whose address it is, whether or not they want it on the list.
    pub pointers: u32,
    /// What is known of it at the vendor.
    pub known: Known,
    /// The open batch that it is in, and its row there.
    pub in_flight: Option<InFlight>,
    /// What is to be sent of it next.
    pub waiting: Option<Box<Waiting>>,
}

impl Contact {
    /// Whether it belongs on the list.
    #[must_use]
    pub fn wanted(&self) -> bool {
        !self.wanted_by.is_empty()
    }
}

/// Items of one chunk of a [`Slab`].
const CHUNK: usize = 1_024;

/// Slots that are used again. In chunks, because one long vector would be copied, and twice as large meanwhile, each
/// time it grows.
#[derive(Debug)]
struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    const fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, item: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            *self.place(slot) = Some(item);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else { unreachable!("one was pushed") };
        chunk.push(Some(item));
        super::limits::count(full + chunk.len() - 1)
    }

    fn place(&mut self, slot: u32) -> &mut Option<T> {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn remove(&mut self, slot: u32) -> Option<T> {
        let item = self.get_mut(slot).is_some().then(|| self.place(slot).take()).flatten();
        if item.is_some() {
            self.free.push(slot);
        }
        item
    }

    fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len) - self.free.len()
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten()).filter_map(|(slot, item)| Some((slot, item.as_ref()?)))
    }
}

/// Members and contacts of one export.
#[derive(Debug)]
pub struct Membership {
    seed: u64,
    /// The names of the segments' bits: those of the configuration first, then those that the state still knows.
    segments: Vec<Text>,
    /// Bits of the segments of the configuration.
    active: u64,
    members: Slab<Member>,
    contacts: Slab<Contact>,
    by_profile: HashTable<u32>,
    by_address: HashTable<u32>,
    /// Contacts that are known to be on the list.
    on_list: u64,
    /// Contacts of which nobody knows whether they are.
    unknown: u64,
    /// The vendor's ids of contacts, by slot, as far as they were read. Looked up, never iterated.
    ids: HashMap<u32, ContactId, std::hash::BuildHasherDefault<Xxh3Default>>,
    /// Contacts (by slot) that were on the list and have left it, where they are kept until their profile is erased.
    left: Option<HashSet<u32, std::hash::BuildHasherDefault<Xxh3Default>>>,
    /// Members (by slot) that were fed from further partitions: their newest events there that may be read again.
    fed_further: BTreeMap<u32, SmallVec<[Position; 1]>>,
    /// Contacts that are off the list since [`Self::take_was_sent`] was called last, and had been sent.
    was_sent: Vec<WasSent>,
}

fn hash(seed: u64, text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), seed)
}

impl Membership {
    /// Empty tables for these segments. The seed keeps hostile ids from meeting in one bucket.
    #[must_use]
    pub fn new(seed: u64, segments: &[Text]) -> Self {
        let active = (0..segments.len()).fold(0, |bits, bit| bits | 1_u64 << bit);
        Self {
            seed,
            segments: segments.to_vec(),
            active,
            members: Slab::new(),
            contacts: Slab::new(),
            by_profile: HashTable::new(),
            by_address: HashTable::new(),
            on_list: 0,
            unknown: 0,
            ids: HashMap::default(),
            left: None,
            fed_further: BTreeMap::new(),
            was_sent: Vec::new(),
        }
    }

    /// Keeps contacts that have left until their profile is erased.
    pub fn keep_all_left(&mut self) {
        self.left.get_or_insert_default();
    }

    /// Whether contacts that have left are kept.
    #[must_use]
    pub const fn keeps_left(&self) -> bool {
        self.left.is_some()
    }

    /// Whether a contact is kept that has left.
    #[must_use]
    pub fn has_left(&self, slot: ContactSlot) -> bool {
        self.left.as_ref().is_some_and(|left| left.contains(&slot.0))
    }

    /// Keeps a contact that has left, where such are kept. One that nobody's profile ever had is nobody's to erase.
    pub fn keep_left(&mut self, slot: ContactSlot) {
        let owner = self.contacts.get(slot.0).and_then(|contact| self.members.get(contact.owner.0));
        if owner.is_some_and(|owner| owner.profile.starts_with(ADOPTED_PREFIX)) {
            return;
        }
        if let Some(left) = &mut self.left {
            left.insert(slot.0);
        }
    }

    /// Keeps it no longer.
    pub fn forget_left(&mut self, slot: ContactSlot) {
        if let Some(left) = &mut self.left {
            left.remove(&slot.0);
        }
    }

    /// The bit of a segment that the state knows, a new one if the configuration has it no more. `None` when there are
    /// more than bits: what is known of it is dropped.
    pub fn bit(&mut self, segment: &Text) -> Option<u64> {
        let known = self.segments.iter().position(|known| known == segment);
        let place = known.or_else(|| {
            (self.segments.len() < SEGMENTS_PER_EXPORT_MAX).then(|| {
                self.segments.push(segment.clone());
                self.segments.len() - 1
            })
        })?;
        Some(1 << place)
    }

    /// The names of the segments that a member is in, sorted.
    #[must_use]
    pub fn segments_of(&self, member: &Member) -> Vec<Text> {
        let named = self.segments.iter().enumerate().filter(|(bit, _)| member.segments & (1 << bit) != 0);
        let mut names: Vec<Text> = named.map(|(_, segment)| segment.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Whether a member of these segments belongs on the list.
    #[must_use]
    pub const fn wants(&self, segments: u64) -> bool {
        segments & self.active != 0
    }

    /// Whoever is in any segment belongs on the list.
    pub const fn want_all(&mut self) {
        self.active = u64::MAX;
    }

    /// Profiles that have a record or a change.
    #[must_use]
    pub fn profiles(&self) -> usize {
        self.members.len()
    }

    /// Contacts of ours that are on the list, as confirmed.
    #[must_use]
    pub fn on_list(&self) -> u64 {
        self.on_list
    }

    /// Contacts that may be on the list because of us.
    #[must_use]
    pub fn maybe_on_list(&self) -> u64 {
        self.on_list + self.unknown
    }

    /// The member of a profile.
    #[must_use]
    pub fn find(&self, profile: &str) -> Option<MemberId> {
        let found = self
            .by_profile
            .find(hash(self.seed, profile), |slot| self.members.get(*slot).is_some_and(|member| member.profile == profile));
        found.map(|slot| MemberId(*slot))
    }

    /// The member of a profile, made if there is none.
    pub fn find_or_insert(&mut self, profile: &Text) -> MemberId {
        if let Some(id) = self.find(profile) {
            return id;
        }
        let slot = self.members.insert(Member {
            profile: profile.clone(),
            segments: 0,
            contact: None,
            former: Few::default(),
            position: Position { partition: PartitionId(-1), offset: -1 },
            changed_at: UnixMillis(0),
            refused: None,
            recorded: false,
            dirty: false,
            erased: false,
            told_below: false,
        });
        let (seed, members) = (self.seed, &self.members);
        self.by_profile
            .insert_unique(hash(seed, profile), slot, |slot| members.get(*slot).map_or(0, |member| hash(seed, &member.profile)));
        MemberId(slot)
    }

    /// A member by its slot; a slot that is free panics: nothing keeps the number of a member that is gone.
    #[must_use]
    pub fn member(&self, id: MemberId) -> &Member {
        self.members.get(id.0).unwrap_or_else(|| unreachable!("member {} is gone", id.0))
    }

    /// The same, to change it.
    pub fn member_mut(&mut self, id: MemberId) -> &mut Member {
        self.members.get_mut(id.0).unwrap_or_else(|| unreachable!("member {} is gone", id.0))
    }

    /// The member in a slot, if one is there.
    #[must_use]
    pub fn member_if(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.0)
    }

    /// The newest events in a member: the newest of all first, then those of further partitions.
    pub fn positions(&self, id: MemberId) -> impl Iterator<Item = Position> {
        std::iter::once(self.member(id).position).chain(self.fed_further.get(&id.0).into_iter().flatten().copied())
    }

    /// An event told something of a member that nothing in it covers. `is_before` says which of the events in it the order
    /// of partitions puts before this one: these need not be kept.
    pub fn told_at(&mut self, id: MemberId, position: Position, at: UnixMillis, is_before: impl Fn(Position) -> bool) {
        let member = self.member_mut(id);
        let newest = std::mem::replace(&mut member.position, position);
        member.changed_at = at;
        if newest.partition != position.partition && newest.offset >= 0 && !is_before(newest) {
            self.fed_further.entry(id.0).or_default().push(newest);
        }
        if let Some(further) = self.fed_further.get_mut(&id.0) {
            further.retain(|known| !is_before(*known));
            if further.is_empty() {
                self.fed_further.remove(&id.0);
            }
        }
    }

    /// Restores the events in a member, in the order of [`Self::positions`].
    pub fn set_positions(&mut self, id: MemberId, positions: &[Position]) {
        if let [newest, further @ ..] = positions {
            self.member_mut(id).position = *newest;
            if !further.is_empty() {
                self.fed_further.insert(id.0, SmallVec::from_slice(further));
            }
        }
    }

    /// Forgets events of further partitions that are settled: they are not read again.
    pub fn forget_settled(&mut self, is_settled: impl Fn(Position) -> bool) {
        self.fed_further.retain(|_, further| {
            further.retain(|position| !is_settled(*position));
            !further.is_empty()
        });
    }

    /// Forgets a member that has no contacts.
    pub fn forget_member(&mut self, id: MemberId) {
        self.fed_further.remove(&id.0);
        if let Some(member) = self.members.remove(id.0)
            && let Ok(entry) = self.by_profile.find_entry(hash(self.seed, &member.profile), |slot| *slot == id.0)
        {
            entry.remove();
        }
    }

    /// The contact of an address.
    #[must_use]
    pub fn find_contact(&self, address: &str) -> Option<ContactSlot> {
        let found = self
            .by_address
            .find(hash(self.seed, address), |slot| self.contacts.get(*slot).is_some_and(|contact| contact.address == address));
        found.map(|slot| ContactSlot(*slot))
    }

    /// The contact of an address, made for `owner` if there is none.
    pub fn find_or_insert_contact(&mut self, address: &Text, owner: MemberId) -> ContactSlot {
        if let Some(slot) = self.find_contact(address) {
            return slot;
        }
        let slot = self.contacts.insert(Contact {
            address: address.clone(),
            owner,
            wanted_by: Few::default(),
            pointers: 0,
            known: Known::Off,
            in_flight: None,
            waiting: None,
        });
        let (seed, contacts) = (self.seed, &self.contacts);
        self.by_address.insert_unique(hash(seed, address), slot, |slot| {
            contacts.get(*slot).map_or(0, |contact| hash(seed, &contact.address))
        });
        ContactSlot(slot)
    }

    /// A contact by its slot.
    #[must_use]
    pub fn contact(&self, slot: ContactSlot) -> &Contact {
        self.contacts.get(slot.0).unwrap_or_else(|| unreachable!("contact {} is gone", slot.0))
    }

    /// The same, to change it. What is known changes through [`Self::set_known`].
    pub fn contact_mut(&mut self, slot: ContactSlot) -> &mut Contact {
        self.contacts.get_mut(slot.0).unwrap_or_else(|| unreachable!("contact {} is gone", slot.0))
    }

    /// The contact in a slot, if one is there.
    #[must_use]
    pub fn contact_if(&self, slot: ContactSlot) -> Option<&Contact> {
        self.contacts.get(slot.0)
    }

    /// Sets what is known of a contact at the vendor.
    pub fn set_known(&mut self, slot: ContactSlot, known: Known) {
        let contact = self.contact_mut(slot);
        let was = matches!(contact.known, Known::On { .. });
        let is = matches!(known, Known::On { .. });
        let [was_unknown, is_unknown] = [contact.known, known].map(|known| matches!(known, Known::Unknown { .. }));
        let leaves = contact.known != Known::Off && known == Known::Off;
        let sent_at = contact.known.sent_at();
        contact.known = known;
        if leaves {
            if let Some(at) = sent_at {
                let was_sent = WasSent::new(contact.address.clone(), contact.owner, at);
                self.was_sent.push(was_sent);
            }
            self.keep_left(slot);
        } else if known != Known::Off {
            self.forget_left(slot);
        }
        self.unknown = self.unknown + u64::from(is_unknown) - u64::from(was_unknown);
        self.on_list = self.on_list + u64::from(is) - u64::from(was);
    }

    /// When a contact that is, or may be, on the list was sent last.
    #[must_use]
    pub fn sent_at(&self, slot: ContactSlot) -> Option<UnixMillis> {
        self.contact(slot).known.sent_at()
    }

    /// Takes the contacts that are off the list since this was called last, and had been sent.
    pub(super) fn take_was_sent(&mut self) -> Vec<WasSent> {
        std::mem::take(&mut self.was_sent)
    }

    /// Forgets them: what the state tells is no leaving.
    pub fn forget_was_sent(&mut self) {
        self.was_sent.clear();
    }

    /// Whether the change of this contact with this sequence still waits.
    #[must_use]
    pub fn waits(&self, slot: ContactSlot, sequence: u64) -> bool {
        let waiting = self.contact_if(slot).and_then(|contact| contact.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.sequence == sequence)
    }

    /// The vendor's id of a contact, if it was read.
    #[must_use]
    pub fn id(&self, slot: ContactSlot) -> Option<ContactId> {
        self.ids.get(&slot.0).copied()
    }

    /// Keeps the vendor's id of a contact: one that is `needed` always, any other while there is room.
    pub fn keep_id(&mut self, slot: ContactSlot, id: ContactId, needed: bool) {
        if needed || self.ids.len() < CONTACT_IDS_MAX {
            self.ids.insert(slot.0, id);
        }
    }

    /// Takes the vendor's id of a contact out, to use it.
    pub fn take_id(&mut self, slot: ContactSlot) -> Option<ContactId> {
        self.ids.remove(&slot.0)
    }

    /// Says which contact's address is a member's.
    pub fn set_contact(&mut self, id: MemberId, to: Option<ContactSlot>) {
        let from = std::mem::replace(&mut self.member_mut(id).contact, to);
        if let Some(from) = from {
            self.contact_mut(from).pointers -= 1;
        }
        if let Some(to) = to {
            self.contact_mut(to).pointers += 1;
        }
    }

    /// Points a member at another contact (or none). The contact it leaves stays with it while it may be on the list;
    /// it goes over to another member that still wants it. Returns the members whose records change by that.
    pub fn point(&mut self, id: MemberId, to: Option<ContactSlot>) -> SmallVec<[MemberId; 2]> {
        let from = self.member(id).contact;
        let mut heirs = SmallVec::new();
        if let Some(from) = from {
            let alone = planted(Bug::SharedAddressLeaves) && to.is_none();
            self.contact_mut(from).wanted_by.retain(|member| *member != id && !alone);
            if Some(from) != to {
                let contact = self.contact_mut(from);
                if contact.owner == id {
                    if let Some(next) = contact.wanted_by.first().copied() {
                        contact.owner = next;
                        heirs.push(next);
                    } else {
                        let member = self.member_mut(id);
                        if !member.former.contains(&from) {
                            member.former.push(from);
                        }
                    }
                }
            }
        }
        self.set_contact(id, to);
        let member = self.member_mut(id);
        member.former.retain(|slot| Some(*slot) != to);
        let segments = member.segments;
        let wants = self.wants(segments);
        if let Some(to) = to {
            let contact = self.contact_mut(to);
            let abandoned = wants && contact.wanted_by.is_empty() && contact.owner != id;
            let old_owner = contact.owner;
            if wants && !contact.wanted_by.contains(&id) {
                contact.wanted_by.push(id);
            }
            if abandoned {
                // Somebody else's leftover is wanted again by this member: it carries what was applied from now on.
                contact.owner = id;
                if let Some(former) = self.members.get_mut(old_owner.0) {
                    former.former.retain(|slot| *slot != to);
                    heirs.push(old_owner);
                }
            }
        }
        heirs
    }

    /// Forgets a contact about which nothing is known, wanted or under way.
    pub fn forget_contact_if_idle(&mut self, slot: ContactSlot) -> bool {
        let Some(contact) = self.contacts.get(slot.0) else { return false };
        let idle = contact.wanted_by.is_empty()
            && contact.pointers == 0
            && contact.known == Known::Off
            && contact.in_flight.is_none()
            && contact.waiting.is_none()
            && !self.has_left(slot);
        if !idle {
            return false;
        }
        let owner = contact.owner;
        // The slot will be another address's: nothing of this one may stay with it.
        self.ids.remove(&slot.0);
        if let Some(contact) = self.contacts.remove(slot.0)
            && let Ok(entry) = self.by_address.find_entry(hash(self.seed, &contact.address), |other| *other == slot.0)
        {
            entry.remove();
        }
        if let Some(member) = self.members.get_mut(owner.0) {
            member.former.retain(|other| *other != slot);
            member.erased &= !member.former.is_empty() || member.contact.is_none();
        }
        true
    }

    /// All members, in the order of their slots.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.members.iter().map(|(slot, member)| (MemberId(slot), member))
    }

    /// All contacts, in the order of their slots.
    pub fn contacts(&self) -> impl Iterator<Item = (ContactSlot, &Contact)> {
        self.contacts.iter().map(|(slot, contact)| (ContactSlot(slot), contact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_batch_is_read_back() {
        for (batch, row) in [(0, 0), (7, 39_998), (1 << 40, 65_535)] {
            let place = InFlight::new(batch, row);
            assert_eq!((place.batch(), place.row()), (batch, row));
        }
    }

    #[test]
    fn slots_are_used_again_and_seen_in_order() {
        let mut slab = Slab::new();
        for item in 0..3_000_u32 {
            assert_eq!(slab.insert(item), item);
        }
        assert_eq!((slab.remove(1_500), slab.remove(1_500), slab.remove(9_999)), (Some(1_500), None, None));
        assert_eq!(slab.len(), 2_999);
        assert_eq!(slab.insert(7), 1_500);
        assert_eq!((slab.get(1_500), slab.len(), slab.iter().count()), (Some(&7), 3_000, 3_000));
        assert!(slab.iter().map(|(slot, _)| slot).eq(0..3_000));
    }

    /// A million of each are kept: what makes them larger should be noticed.
    #[test]
    fn members_and_contacts_stay_small() {
        assert!(size_of::<Option<Member>>() <= 96, "{}", size_of::<Option<Member>>());
        assert!(size_of::<Option<Contact>>() <= 88, "{}", size_of::<Option<Contact>>());
    }
}
