//! The account's contacts and lists, in little memory: 24 bytes a contact beside its address, and 8 in the index.
//!
//! The model runs in one process with what is measured: a million contacts are to cost neither its memory nor its time. Addresses lie one
//! behind the other, and the index keeps their hashes, so that it grows without a look at them.

use std::collections::BTreeMap;

use hashbrown::{HashTable, hash_table::Entry};
use uuid::Uuid;

use super::{
    ids::{IdKind, Ids},
    members::Members,
};
use crate::model::{Text, call::ContactStatus, hash::text_hash};

/// Lists that one contact may be on.
pub(super) const LISTS_PER_CONTACT_MAX: u8 = 50;
/// Lists that an account may have.
pub(super) const LISTS_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct Contact {
    /// Hash of what the last import brought beside the address.
    pub(super) fields: u64,
    pub(super) created_s: u32,
    pub(super) updated_s: u32,
    /// Where in the addresses its own begins, and how long it is.
    address_at: u32,
    address_len: u8,
    pub(super) status: ContactStatus,
    pub(super) lists: u8,
}

/// A contact in the index.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    hash: u32,
    number: u32,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) name: Text,
    pub(super) description: Option<Text>,
    pub(super) favorite: bool,
    pub(super) created_s: u32,
    pub(super) members: Members,
    /// Whatever names it is told that there is none.
    pub(super) deleted: bool,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) ids: Ids,
    pub(super) contacts: Vec<Contact>,
    pub(super) lists: Vec<List>,
    addresses: String,
    /// When the contacts that opted out, or were deleted, did: few, so not in each.
    opted_out_s: BTreeMap<u32, u32>,
    index: HashTable<Indexed>,
    /// Memberships, contact and list, that are not shown before a time.
    unindexed: BTreeMap<(u32, u32), u32>,
}

/// Half of an address's hash, which is enough to tell a million apart.
const fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The place of half a hash in the index: a bijection that spreads its bits again.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What became of one membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    Done,
    TooManyLists,
}

impl Account {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            contacts: Vec::new(),
            lists: Vec::new(),
            addresses: String::new(),
            opted_out_s: BTreeMap::new(),
            index: HashTable::new(),
            unindexed: BTreeMap::new(),
        }
    }

    pub(super) fn contact_id(&self, number: u32) -> Uuid {
        self.ids.id(IdKind::Contact, number)
    }

    pub(super) fn list_id(&self, number: u32) -> Uuid {
        self.ids.id(IdKind::List, number)
    }

    pub(super) fn contact_number(&self, id: Uuid) -> Option<u32> {
        self.ids.number(IdKind::Contact, id).filter(|&number| (number as usize) < self.contacts.len())
    }

    pub(super) fn list_number(&self, id: Uuid) -> Option<u32> {
        let there = |number: &u32| self.lists.get(*number as usize).is_some_and(|list| !list.deleted);
        self.ids.number(IdKind::List, id).filter(there)
    }

    pub(super) fn contact(&self, number: u32) -> Option<&Contact> {
        self.contacts.get(number as usize)
    }

    /// The address of a contact; none for a number that is no contact's.
    pub(super) fn address(&self, number: u32) -> &str {
        self.contact(number).map_or("", |contact| address_of(&self.addresses, contact))
    }

    pub(super) fn find(&self, address: &str) -> Option<u32> {
        let hash = half(text_hash(address));
        let same = |entry: &Indexed| entry.hash == hash && self.address(entry.number) == address;
        self.index.find(spread(hash), same).map(|entry| entry.number)
    }

    /// The contact of an address; a new one is active and on no list. None where the address, or all of them, are too long to be kept.
    pub(super) fn find_or_create(&mut self, address: &str, now_s: u32) -> Option<u32> {
        let Self { contacts, addresses, index, .. } = self;
        let hash = half(text_hash(address));
        let same = |entry: &Indexed| {
            entry.hash == hash
                && contacts.get(entry.number as usize).is_some_and(|contact| address_of(addresses, contact) == address)
        };
        match index.entry(spread(hash), same, |entry| spread(entry.hash)) {
            Entry::Occupied(entry) => Some(entry.get().number),
            Entry::Vacant(entry) => {
                let number = u32::try_from(contacts.len()).ok()?;
                let address_at = u32::try_from(addresses.len()).ok()?;
                let address_len = u8::try_from(address.len()).ok()?;
                entry.insert(Indexed { hash, number });
                addresses.push_str(address);
                contacts.push(Contact {
                    fields: 0,
                    created_s: now_s,
                    updated_s: now_s,
                    address_at,
                    address_len,
                    status: ContactStatus::Active,
                    lists: 0,
                });
                Some(number)
            }
        }
    }

    pub(super) fn create_list(&mut self, name: &str, now_s: u32) -> u32 {
        let number = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        let name = Text::new(name);
        self.lists.push(List {
            name,
            description: None,
            favorite: false,
            created_s: now_s,
            members: Members::default(),
            deleted: false,
        });
        number
    }

    pub(super) fn find_list(&self, name: &str) -> Option<u32> {
        self.lists.iter().position(|list| !list.deleted && list.name == name).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn join(&mut self, contact: u32, list: u32) -> Joined {
        let (Some(entry), Some(list)) = (self.contacts.get_mut(contact as usize), self.lists.get_mut(list as usize)) else {
            return Joined::Done;
        };
        // Undocumented: an import that was queued before its list was deleted changes its contacts alone.
        if list.deleted {
            return Joined::Done;
        }
        if !list.members.contains(contact) {
            if entry.lists >= LISTS_PER_CONTACT_MAX {
                return Joined::TooManyLists;
            }
            list.members.insert(contact);
            entry.lists += 1;
        }
        Joined::Done
    }

    /// Deletes a list: its contacts stay contacts. How many they were.
    pub(super) fn delete_list(&mut self, list: u32, now_s: u32) -> u64 {
        let members: Vec<u32> = self.members(list).collect();
        for contact in &members {
            self.leave(*contact, list, now_s);
        }
        if let Some(list) = self.lists.get_mut(list as usize) {
            list.deleted = true;
        }
        members.len() as u64
    }

    /// The lists that are there.
    pub(super) fn lists_there(&self) -> impl Iterator<Item = (u32, &List)> {
        (0..).zip(&self.lists).filter(|(_, list)| !list.deleted)
    }

    /// True when the contact was on the list.
    pub(super) fn leave(&mut self, contact: u32, list: u32, now_s: u32) -> bool {
        let (Some(entry), Some(list)) = (self.contacts.get_mut(contact as usize), self.lists.get_mut(list as usize)) else {
            return false;
        };
        let left = list.members.remove(contact);
        if left {
            entry.lists = entry.lists.saturating_sub(1);
            entry.updated_s = now_s;
        }
        left
    }

    /// Takes a contact off all lists.
    pub(super) fn leave_all(&mut self, contact: u32, now_s: u32) {
        for list in 0..self.lists.len() {
            self.leave(contact, u32::try_from(list).unwrap_or(u32::MAX), now_s);
        }
    }

    /// Whoever is deleted leaves all lists.
    pub(super) fn set_status(&mut self, contact: u32, status: ContactStatus, now_s: u32) {
        if status == ContactStatus::Deleted {
            self.leave_all(contact, now_s);
        }
        if let Some(entry) = self.contacts.get_mut(contact as usize) {
            entry.status = status;
            entry.updated_s = now_s;
            match status {
                ContactStatus::Active => self.opted_out_s.remove(&contact),
                ContactStatus::Unsubscribed | ContactStatus::Deleted => self.opted_out_s.insert(contact, now_s),
            };
        }
    }

    /// When a contact opted out or was deleted.
    pub(super) fn opted_out_s(&self, contact: u32) -> Option<u32> {
        self.opted_out_s.get(&contact).copied()
    }

    /// A fresh membership that no listing shows before `shown_s`.
    pub(super) fn hide(&mut self, contact: u32, list: u32, shown_s: u32) {
        self.unindexed.insert((contact, list), shown_s);
    }

    /// Whether a membership is not shown yet.
    pub(super) fn hides(&self, contact: u32, list: u32, now_s: u32) -> bool {
        !self.unindexed.is_empty() && self.unindexed.get(&(contact, list)).is_some_and(|shown_s| now_s < *shown_s)
    }

    /// Whether some fresh membership of a contact is not shown yet.
    pub(super) fn is_unindexed(&self, contact: u32, now_s: u32) -> bool {
        self.unindexed.range((contact, 0)..=(contact, u32::MAX)).any(|(_, shown_s)| now_s < *shown_s)
    }

    pub(super) fn lists_of(&self, contact: u32, now_s: u32) -> impl Iterator<Item = Uuid> + '_ {
        let shown = move |number: u32| !self.hides(contact, number, now_s);
        let on = (0..).zip(&self.lists).filter(move |(number, list)| list.members.contains(contact) && shown(*number));
        on.map(|(number, _)| self.list_id(number))
    }

    pub(super) fn members(&self, list: u32) -> impl Iterator<Item = u32> + '_ {
        self.lists.get(list as usize).into_iter().flat_map(|list| list.members.from(0))
    }
}

fn address_of<'a>(addresses: &'a str, contact: &Contact) -> &'a str {
    let at = contact.address_at as usize;
    addresses.get(at..at + usize::from(contact.address_len)).unwrap_or_default()
}

/// List ids of a request: 1 to 50, all of them lists of this account.
pub(super) fn list_numbers(account: &Account, ids: &[&str]) -> Result<Vec<u32>, super::answer::Answer> {
    use super::answer::Answer;
    if ids.is_empty() || ids.len() > 50 {
        return Err(Answer::invalid("list_ids must have 1 to 50 values"));
    }
    ids.iter()
        .map(|text| {
            let id = text.parse::<Uuid>().map_err(|_| Answer::invalid("list_ids is in an invalid format."))?;
            account.list_number(id).ok_or_else(|| Answer::invalid("list_id not found"))
        })
        .collect()
}
