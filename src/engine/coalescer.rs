//! What is to be sent: at most one change for each contact, the newest wins.
//!
//! A change that overtakes another carries the other's records with it: they settle together. Two that cancel each
//! other settle at once.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::model::{
    batch::Operation,
    row::Row,
    time::{Mono, UnixMillis},
};

use super::ack::Token;
use super::membership::{ContactSlot, MemberId};

/// Records that settle together.
pub type Tokens = SmallVec<[Token; 2]>;

/// A change of one contact that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What is to be done; `None` while the contact is in an open batch, because its outcome decides.
    pub operation: Option<Operation>,
    /// The row to send, if the contact is to be on the list.
    pub row: Row,
    /// Kafka timestamp of the oldest record in it.
    pub since: UnixMillis,
    /// When it began to wait.
    pub queued_at: Mono,
    /// A removal that the vendor's index may not know yet: it is not looked for before this instant.
    pub not_before: Option<Mono>,
    /// Where it waits; none while its operation is not known.
    pub place: Option<Place>,
    /// The records that settle with it; none once it is parked.
    pub tokens: Tokens,
    /// When it is parked, in whole seconds; of a change without records it means nothing.
    pub parks_at: Mono,
    /// The members whose facts they changed: their records are written when they settle.
    pub touched: SmallVec<[MemberId; 1]>,
    /// Its place in the queue; an entry of the queue with another number is stale.
    pub sequence: u64,
    /// Bytes that it is accounted with.
    pub bytes: usize,
    /// A removal whose address the vendor did not import into a staging list.
    pub unstaged: bool,
    /// A removal that waits and is one of who was erased.
    pub erased: bool,
}

impl Waiting {
    /// A change that no record is in yet, and that waits nowhere.
    #[must_use]
    pub fn new(row: Row, since: UnixMillis, queued_at: Mono) -> Self {
        Self {
            operation: None,
            row,
            since,
            queued_at,
            not_before: None,
            place: None,
            tokens: Tokens::new(),
            parks_at: Mono(0),
            touched: SmallVec::new(),
            sequence: 0,
            bytes: 0,
            unstaged: false,
            erased: false,
        }
    }
}

/// Where a change waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// For the next import.
    Imports,
    /// For its contact id to be found.
    Unfound,
    /// For the next removal: its contact id is known.
    Found,
    /// To be looked up: it is to be deleted.
    Erased,
    /// For the vendor's index to know the contact.
    Later,
    /// For the contact to be active again: it is suppressed.
    Suppressed,
    /// For another row: a search for refused rows was spent on this one.
    SearchSpent,
    /// For the oldest send of its address to be a day old: it flaps.
    Flapping,
    /// For its export to be configured again: nothing is added to the list of a removed one.
    Kept,
    /// For the operator: it is a removal that may not go now.
    HeldBack,
    /// For the account to have room for one more contact.
    WithoutRoom,
}

/// Removals that wait: those with a contact id, those without, and those that are not looked for yet.
#[derive(Debug, Default)]
pub struct Removals {
    /// Without a contact id.
    pub unfound: Queue,
    /// With one.
    pub found: Queue,
    /// Contacts that are to be deleted, without an id: each is looked up.
    pub erased: Queue,
    /// Not to be looked for before their time, by it and by their sequence.
    later: BTreeMap<(Mono, u64), ContactSlot>,
    /// Those among all of these whose contacts were erased.
    pub not_braked: usize,
}

impl Removals {
    /// Removals that wait, wherever.
    #[must_use]
    pub fn live(&self) -> usize {
        self.unfound.live + self.found.live + self.erased.live + self.later.len()
    }

    /// Puts one aside until `at`.
    pub fn push_later(&mut self, slot: ContactSlot, sequence: u64, at: Mono) {
        self.later.insert((at, sequence), slot);
    }

    /// Takes one back that was put aside.
    pub fn drop_later(&mut self, sequence: u64, at: Mono) {
        self.later.remove(&(at, sequence));
    }

    /// The first that was put aside, and until when.
    #[must_use]
    pub fn first_later(&self) -> Option<(Mono, ContactSlot)> {
        self.later.first_key_value().map(|((at, _), slot)| (*at, *slot))
    }
}

/// A queue of contacts in the order in which their changes began to wait. Entries are dropped late: a contact whose
/// change has another sequence by now is passed over.
#[derive(Debug, Default)]
pub struct Queue {
    entries: VecDeque<(ContactSlot, u64, Mono)>,
    /// Changes that really wait.
    pub live: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Sum of the instants at which they began to wait, in milliseconds.
    queued_at_ms: u128,
}

impl Queue {
    /// Appends a change.
    pub fn push(&mut self, slot: ContactSlot, sequence: u64, queued_at: Mono, bytes: usize) {
        self.entries.push_back((slot, sequence, queued_at));
        self.live += 1;
        self.bytes += bytes;
        self.queued_at_ms += u128::from(queued_at.0);
    }

    /// How long the changes have waited, added up, in milliseconds.
    #[must_use]
    pub fn waited_ms(&self, now: Mono) -> u128 {
        (u128::from(now.0) * self.live as u128).saturating_sub(self.queued_at_ms)
    }

    /// A change in it was cancelled, or moved elsewhere.
    pub fn dropped(&mut self, bytes: usize, queued_at: Mono) {
        self.live -= 1;
        self.bytes -= bytes;
        self.queued_at_ms -= u128::from(queued_at.0);
        if self.live == 0 {
            self.entries.clear();
        }
    }

    /// The next entry, stale or not.
    pub fn pop(&mut self) -> Option<(ContactSlot, u64)> {
        self.entries.pop_front().map(|(slot, sequence, _)| (slot, sequence))
    }

    /// The next entry whose sequence is not above `upto`, stale or not.
    pub fn pop_upto(&mut self, upto: u64) -> Option<(ContactSlot, u64)> {
        self.entries.front().is_some_and(|(_, sequence, _)| *sequence <= upto).then(|| self.pop()).flatten()
    }

    /// Puts the entry of a change that still waits back to where it was popped from.
    pub fn put_back(&mut self, slot: ContactSlot, sequence: u64, queued_at: Mono) {
        self.entries.push_front((slot, sequence, queued_at));
    }

    /// Drops stale entries at the front and, when they outnumber the live, everywhere.
    pub fn tidy(&mut self, is_live: impl Fn(ContactSlot, u64) -> bool) {
        while self.entries.front().is_some_and(|(slot, sequence, _)| !is_live(*slot, *sequence)) {
            self.entries.pop_front();
        }
        if self.entries.len() > 1_024 && self.entries.len() / 2 > self.live {
            self.entries.retain(|(slot, sequence, _)| is_live(*slot, *sequence));
        }
    }

    /// When the oldest entry began to wait; call [`Self::tidy`] first.
    #[must_use]
    pub fn oldest(&self) -> Option<Mono> {
        self.entries.front().map(|(_, _, queued_at)| *queued_at)
    }

    /// The entries, oldest first, stale ones among them.
    pub fn iter(&self) -> impl Iterator<Item = (ContactSlot, u64)> + '_ {
        self.entries.iter().map(|(slot, sequence, _)| (*slot, *sequence))
    }
}
