//! Everything that the engine asks of the world.

use crate::model::{
    call::{CallKind, Request},
    catalog::ConnectionId,
    control::ControlOutcome,
    dead_letter::DeadLetter,
    position::{NextOffset, PartitionId},
    state::StateChange,
    time::Mono,
};

use super::{event::Event, reason::PauseReason};

/// A call's number, unique within a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A commit's number, unique within a term; commits are confirmed in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// A token look's number, unique within a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefreshId(pub u64);

/// An order's number, which whoever passes it on chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// An effect to perform, or a fact to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a request to the vendor; answer with [`super::Input::CallEnded`].
    Call(Call),
    /// Read the token store, and refresh if it is due; answer with [`super::Input::TokenRead`].
    ReadToken(ReadToken),
    /// One Kafka transaction; answer with [`super::Input::Committed`].
    Commit(Commit),
    /// Stop reading these partitions (all of them are named, with the reason) until [`Output::Resume`].
    Pause {
        /// Which.
        partitions: Vec<PartitionId>,
        /// Why.
        reason: PauseReason,
    },
    /// Read on.
    Resume {
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// A fact that an operator may want to know.
    Event(Event),
    /// What became of an order of [`super::Input::Control`]: one that changed something is in the state by now.
    Controlled {
        /// Which one.
        order: OrderId,
        /// What became of it. After [`ControlOutcome::BeginsAnew`] the term is to be ended in order, and the next one begun.
        outcome: ControlOutcome,
    },
    /// The drain is over: everything that can be finished is, and committed. Leave the group.
    Drained,
}

/// A request to the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names the answer.
    pub call: CallId,
    /// Whose token goes with it.
    pub connection: ConnectionId,
    /// What is asked.
    pub request: Request,
    /// No byte may leave after this instant: the lease that the last confirmed transaction gives (looked at again
    /// where the first byte is written).
    pub not_after: Mono,
    /// How long the request may take once it is sent.
    pub deadline_ms: u64,
}

impl Call {
    /// What the call is for.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        self.request.kind()
    }
}

/// A look for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadToken {
    /// Names the answer.
    pub refresh: RefreshId,
    /// Whose token.
    pub connection: ConnectionId,
    /// True when the vendor rejected the token that the store held when it was last read: a stored newer one is
    /// taken, else it is refreshed although it is not due.
    pub rejected: bool,
    /// Whether the token endpoint may be asked (a call and a slot are reserved for it), or only the store.
    pub may_refresh: bool,
    /// No request may leave after this instant.
    pub not_after: Mono,
    /// How long the request may take once it is sent.
    pub deadline_ms: u64,
}

/// One Kafka transaction: all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Names the answer.
    pub commit: CommitId,
    /// Changes of the state, the header last.
    pub changes: Vec<StateChange>,
    /// Dead letters.
    pub letters: Vec<DeadLetter>,
    /// The watermarks of all partitions.
    pub offsets: Vec<NextOffset>,
}
