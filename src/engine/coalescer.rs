//! What is to be sent: at most one change for each contact, the newest wins.
//!
//! A change that overtakes another carries the other's records with it: they settle together. Two that cancel each
//! other settle at once.

use std::collections::BTreeMap;

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
    /// Which change it is: each that begins to wait has a higher one.
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

/// A queue of contacts: whose change has waited the longest comes first.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<(Mono, u64), ContactSlot>,
    /// Changes that wait, those among them whose entry was popped and that are not sent yet.
    pub live: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Sum of the instants at which they began to wait, in milliseconds.
    queued_at_ms: u128,
}

impl Queue {
    /// A change begins to wait in it.
    pub fn push(&mut self, slot: ContactSlot, waiting: &Waiting) {
        self.put_back(slot, waiting);
        self.live += 1;
        self.bytes += waiting.bytes;
        self.queued_at_ms += u128::from(waiting.queued_at.0);
    }

    /// How long the changes have waited, added up, in milliseconds.
    #[must_use]
    pub fn waited_ms(&self, now: Mono) -> u128 {
        (u128::from(now.0) * self.live as u128).saturating_sub(self.queued_at_ms)
    }

    /// A change in it was cancelled, moved elsewhere, or is sent.
    pub fn dropped(&mut self, waiting: &Waiting) {
        self.entries.remove(&(waiting.queued_at, waiting.sequence));
        self.live -= 1;
        self.bytes -= waiting.bytes;
        self.queued_at_ms -= u128::from(waiting.queued_at.0);
    }

    /// The next entry.
    pub fn pop(&mut self) -> Option<(ContactSlot, u64)> {
        self.entries.pop_first().map(|((_, sequence), slot)| (slot, sequence))
    }

    /// The next entry whose sequence is not above `upto`.
    pub fn pop_upto(&mut self, upto: u64) -> Option<(ContactSlot, u64)> {
        let key = self.entries.keys().copied().find(|(_, sequence)| *sequence <= upto)?;
        self.entries.remove(&key).map(|slot| (slot, key.1))
    }

    /// All entries whose sequence is not above `upto`.
    pub fn take_upto(&mut self, upto: u64) -> Vec<ContactSlot> {
        let mut taken = Vec::new();
        self.entries.retain(|(_, sequence), slot| {
            let stays = *sequence > upto;
            if !stays {
                taken.push(*slot);
            }
            stays
        });
        taken
    }

    /// Puts the entry of a change that still waits back to where it was popped from.
    pub fn put_back(&mut self, slot: ContactSlot, waiting: &Waiting) {
        self.entries.insert((waiting.queued_at, waiting.sequence), slot);
    }

    /// When the oldest entry began to wait.
    #[must_use]
    pub fn oldest(&self) -> Option<Mono> {
        self.entries.first_key_value().map(|((queued_at, _), _)| *queued_at)
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (ContactSlot, u64)> + '_ {
        self.entries.iter().map(|((_, sequence), slot)| (*slot, *sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::{ContactSlot, Queue, Row, UnixMillis, Waiting};
    use crate::model::time::Mono;

    fn waiting(sequence: u64, queued_at_ms: u64) -> Waiting {
        Waiting { sequence, bytes: 10, ..Waiting::new(Row::default(), UnixMillis(0), Mono(queued_at_ms)) }
    }

    #[test]
    fn who_has_waited_longest_is_first_however_late_they_came_back() {
        let mut queue = Queue::default();
        let [newer, older] = [waiting(1, 9_000), waiting(2, 4_000)];
        queue.push(ContactSlot(1), &newer);
        queue.push(ContactSlot(2), &older);
        assert_eq!((queue.oldest(), queue.waited_ms(Mono(10_000))), (Some(Mono(4_000)), 7_000));
        assert_eq!(queue.pop_upto(1), Some((ContactSlot(1), 1)), "only who had come by then");
        queue.put_back(ContactSlot(1), &newer);
        assert_eq!(queue.take_upto(1), [ContactSlot(1)]);
        queue.put_back(ContactSlot(1), &newer);
        assert_eq!(queue.pop(), Some((ContactSlot(2), 2)));
        queue.dropped(&older);
        queue.dropped(&newer);
        assert_eq!((queue.live, queue.bytes, queue.pop(), queue.oldest()), (0, 0, None, None));
    }
}
