//! Who is wanted on an export's list because of which segments, and what the vendor confirmed.
//!
//! Two tables for each export: *members* (profiles, with their segments as facts) and *contacts* (addresses, with
//! what is known of them at the vendor). A member points at the contact it wants; profiles that share an address share
//! its contact, which stays wanted until the last of them has left.

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

use crate::model::{
    ContactId, Text,
    position::{PartitionId, Position},
    state::Refused,
    time::UnixMillis,
};

use super::{coalescer::Waiting, limits::CONTACT_IDS_MAX};

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

/// A profile in an export.
#[derive(Debug, Clone)]
pub struct Member {
    /// The profile's id.
    pub profile: Text,
    /// Bits of the export's segments that it is in.
    pub segments: u64,
    /// The contact that it wants on the list while `segments` is not 0.
    pub contact: Option<ContactSlot>,
    /// Contacts that it wanted before and that may still be on the list.
    pub former: SmallVec<[ContactSlot; 1]>,
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
}

/// An address in an export.
#[derive(Debug, Clone)]
pub struct Contact {
    /// The address, normalised.
    pub address: Text,
    /// The member whose record carries what was applied.
    pub owner: MemberId,
    /// Members that want it on the list now.
    pub wanted_by: SmallVec<[MemberId; 2]>,
    /// What is known of it at the vendor.
    pub known: Known,
    /// The open batch that it is in, and its row there.
    pub in_flight: Option<(u64, u32)>,
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

/// Slots that are used again.
#[derive(Debug)]
struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, item: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.items[slot as usize] = Some(item);
            return slot;
        }
        self.items.push(Some(item));
        super::limits::count(self.items.len() - 1)
    }

    fn remove(&mut self, slot: u32) -> Option<T> {
        let item = self.items.get_mut(slot as usize)?.take();
        if item.is_some() {
            self.free.push(slot);
        }
        item
    }

    fn get(&self, slot: u32) -> Option<&T> {
        self.items.get(slot as usize)?.as_ref()
    }

    fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }
}

/// Members and contacts of one export.
#[derive(Debug)]
pub struct Membership {
    seed: u64,
    members: Slab<Member>,
    contacts: Slab<Contact>,
    by_profile: HashTable<u32>,
    by_address: HashTable<u32>,
    /// Contacts that are known to be on the list.
    on_list: u64,
    /// The vendor's ids of contacts, by slot, as far as they were read. Looked up, never iterated.
    ids: HashMap<u32, ContactId, std::hash::BuildHasherDefault<Xxh3Default>>,
}

fn hash(seed: u64, text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), seed)
}

impl Membership {
    /// Empty tables. The seed keeps hostile ids from meeting in one bucket.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            members: Slab::new(),
            contacts: Slab::new(),
            by_profile: HashTable::new(),
            by_address: HashTable::new(),
            on_list: 0,
            ids: HashMap::default(),
        }
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
            former: SmallVec::new(),
            position: Position { partition: PartitionId(-1), offset: -1 },
            changed_at: UnixMillis(0),
            refused: None,
            recorded: false,
            dirty: false,
            erased: false,
        });
        let (seed, members) = (self.seed, &self.members);
        self.by_profile
            .insert_unique(hash(seed, profile), slot, |slot| members.get(*slot).map_or(0, |member| hash(seed, &member.profile)));
        MemberId(slot)
    }

    /// A member by its slot; a slot that is free panics: nothing keeps the number of a member that is gone.
    #[must_use]
    pub fn member(&self, id: MemberId) -> &Member {
        self.members.items[id.0 as usize].as_ref().unwrap_or_else(|| unreachable!("member {} is gone", id.0))
    }

    /// The same, to change it.
    pub fn member_mut(&mut self, id: MemberId) -> &mut Member {
        self.members.items[id.0 as usize].as_mut().unwrap_or_else(|| unreachable!("member {} is gone", id.0))
    }

    /// The member in a slot, if one is there.
    #[must_use]
    pub fn member_if(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.0)
    }

    /// Forgets a member that has no contacts.
    pub fn forget_member(&mut self, id: MemberId) {
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
            wanted_by: SmallVec::new(),
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
        self.contacts.items[slot.0 as usize].as_ref().unwrap_or_else(|| unreachable!("contact {} is gone", slot.0))
    }

    /// The same, to change it. What is known changes through [`Self::set_known`].
    pub fn contact_mut(&mut self, slot: ContactSlot) -> &mut Contact {
        self.contacts.items[slot.0 as usize].as_mut().unwrap_or_else(|| unreachable!("contact {} is gone", slot.0))
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
        contact.known = known;
        self.on_list = self.on_list + u64::from(is) - u64::from(was);
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

    /// Points a member at another contact (or none). The contact it leaves stays with it while it may be on the list;
    /// it goes over to another member that still wants it. Returns the members whose records change by that.
    pub fn point(&mut self, id: MemberId, to: Option<ContactSlot>) -> SmallVec<[MemberId; 2]> {
        let from = self.member(id).contact;
        let mut heirs = SmallVec::new();
        if let Some(from) = from {
            self.contact_mut(from).wanted_by.retain(|member| *member != id);
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
        let member = self.member_mut(id);
        member.contact = to;
        member.former.retain(|slot| Some(*slot) != to);
        let wants = member.segments != 0;
        if let Some(to) = to {
            let contact = self.contact_mut(to);
            let abandoned = contact.wanted_by.is_empty() && contact.owner != id;
            let old_owner = contact.owner;
            if wants && !contact.wanted_by.contains(&id) {
                contact.wanted_by.push(id);
            }
            if abandoned {
                // Somebody else's leftover is wanted again by this member: it carries what was applied from now on.
                contact.owner = id;
                if let Some(former) = self.members.items[old_owner.0 as usize].as_mut() {
                    former.former.retain(|slot| *slot != to);
                    if former.contact == Some(to) {
                        former.contact = None;
                    }
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
            && contact.known == Known::Off
            && contact.in_flight.is_none()
            && contact.waiting.is_none();
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
        if let Some(member) = self.members.items.get_mut(owner.0 as usize).and_then(Option::as_mut) {
            member.former.retain(|other| *other != slot);
            if member.contact == Some(slot) {
                member.contact = None;
            }
        }
        true
    }

    /// All members, in the order of their slots.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        let slots = self.members.items.iter().enumerate();
        slots.filter_map(|(slot, member)| Some((MemberId(super::limits::count(slot)), member.as_ref()?)))
    }

    /// All contacts, in the order of their slots.
    pub fn contacts(&self) -> impl Iterator<Item = (ContactSlot, &Contact)> {
        let slots = self.contacts.items.iter().enumerate();
        slots.filter_map(|(slot, contact)| Some((ContactSlot(super::limits::count(slot)), contact.as_ref()?)))
    }
}
