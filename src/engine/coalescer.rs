//! What is to be sent: at most one change for each contact, the newest wins.
//!
//! A change that overtakes another carries the other's records with it: they settle together. Two that cancel each
//! other settle at once.

use std::collections::VecDeque;

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
    /// The records that settle with it.
    pub tokens: Tokens,
    /// The members whose facts they changed: their records are written when they settle.
    pub touched: SmallVec<[MemberId; 1]>,
    /// Its place in the queue; an entry of the queue with another number is stale.
    pub sequence: u64,
    /// Bytes that it is accounted with.
    pub bytes: usize,
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
}

impl Queue {
    /// Appends a change.
    pub fn push(&mut self, slot: ContactSlot, sequence: u64, queued_at: Mono, bytes: usize) {
        self.entries.push_back((slot, sequence, queued_at));
        self.live += 1;
        self.bytes += bytes;
    }

    /// A change in it was cancelled, or moved elsewhere.
    pub fn dropped(&mut self, bytes: usize) {
        self.live -= 1;
        self.bytes -= bytes;
        if self.live == 0 {
            self.entries.clear();
        }
    }

    /// The next entry, stale or not.
    pub fn pop(&mut self) -> Option<(ContactSlot, u64)> {
        self.entries.pop_front().map(|(slot, sequence, _)| (slot, sequence))
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
