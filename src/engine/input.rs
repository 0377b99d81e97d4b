//! Everything that happens to the engine.

use crate::model::{
    call::Outcome,
    catalog::{ConnectionId, ExportId},
    control::ControlAction,
    event::SourceRecord,
    position::NextOffset,
    time::{Mono, UnixMillis},
};

use super::output::{CallId, CommitId, OrderId, RefreshId};

/// Something that happened. Handlers cannot fail: a failure is an input too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Records of the source, each partition's in the order of their offsets.
    Records(Vec<SourceRecord>),
    /// Where the reader stands after the records handed on so far, past gaps and transaction markers.
    ReaderAt(Vec<NextOffset>),
    /// Partitions that the source has gained, and that hold something. The reader holds them paused until
    /// [`super::Output::Resume`] names them.
    PartitionsAdded {
        /// Where each of them begins.
        added: Vec<NextOffset>,
        /// The ends of all, as of now: also what a transaction under way has written counts.
        ends: Vec<NextOffset>,
    },
    /// Kafka confirmed a transaction. (One that it did not confirm ends the term: the engine is dropped.)
    Committed {
        /// Which one.
        commit: CommitId,
        /// When the transaction began, on our clock: the lease to send counts from here.
        began: Mono,
    },
    /// What became of a call.
    CallEnded {
        /// Which one.
        call: CallId,
        /// What became of it.
        outcome: Outcome,
        /// The `Date` of the vendor's answer, where there was one.
        vendor_time: Option<UnixMillis>,
    },
    /// What became of looking for a token.
    TokenRead {
        /// Which look.
        refresh: RefreshId,
        /// The connection.
        connection: ConnectionId,
        /// What was found.
        token: TokenOutcome,
    },
    /// The operator orders something of an export.
    Control {
        /// Names the answer.
        order: OrderId,
        /// Which export.
        export: ExportId,
        /// What.
        action: ControlAction,
    },
    /// The process is asked to stop: send nothing that cannot finish by the deadline, then finish.
    Drain {
        /// When to be finished at the latest.
        deadline: Mono,
    },
}

/// What became of looking for a token: read from its store, refreshed if it was due or rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOutcome {
    /// There is a token.
    Valid {
        /// When it should be refreshed: 80 % of its life; `None` for a fixed one.
        refresh_at: Option<UnixMillis>,
        /// When it ends; `None` if unknown.
        expires_at: Option<UnixMillis>,
    },
    /// No token has been stored yet: somebody has to sign in.
    Missing,
    /// The token endpoint said `invalid_grant`, or a fixed token was rejected: somebody has to sign in again.
    Dead,
    /// The stored token is of another application.
    OtherApplication,
    /// Store or endpoint cannot be reached now.
    Unavailable {
        /// Whether a request was made of the token endpoint.
        requested: bool,
    },
}
