//! DECISIONS: what to send, when, and what to make of the answers. Touches nothing: no clock, no socket, no thread,
//! no randomness but a seed, no log line.
//!
//! The contract:
//!
//! 1. One mutation, then drain: after `handle_input` or `handle_timeout`, call `poll_output` until it returns `None`
//!    before the next mutation.
//! 2. Handlers cannot fail. A broken assumption panics: restarting from the last commit is always safe.
//! 3. Every effect has an id and every answer names it; an unknown id is an [`Event`], never a panic.
//!
//! May know: `model`, `governor`, `serde` for the snapshot.

pub mod event;
pub mod input;
pub mod output;
pub mod promise;
pub mod snapshot;

pub use event::Event;
pub use input::Input;
pub use output::Output;
pub use promise::Promise;
pub use snapshot::Snapshot;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{
    catalog::Catalog,
    position::NextOffset,
    state::{Header, StateChange},
    time::{Mono, Now},
};

/// One shard's decisions. (Being built: the signatures are final.)
#[derive(Debug)]
pub struct Engine {
    outputs: VecDeque<Output>,
}

/// What a term begins from, beside the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beginning {
    /// For each partition of the source, what Kafka says of it.
    pub partitions: Vec<PartitionBeginning>,
    /// When the producers of earlier terms were fenced (`init_transactions` returned).
    pub fenced_at: Mono,
}

/// What Kafka says of one source partition when a term begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionBeginning {
    /// The committed offset; without one, the offset that `source.start` resolves to, and `committed` is false.
    pub start: NextOffset,
    /// Whether `start` was committed.
    pub committed: bool,
    /// The log's first offset.
    pub log_start: i64,
    /// The log's end (read_committed).
    pub log_end: i64,
}

impl Engine {
    /// An engine without state. Restore first, then begin.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, seed: u64) -> Self {
        let _ = (catalog, seed);
        Self { outputs: VecDeque::new() }
    }

    /// Takes one record of the state topic, oldest first; `value: None` forgets the key.
    pub fn restore(&mut self, change: StateChange) {
        let _ = change;
    }

    /// The header restored last, for the driver's own checks.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        None
    }

    /// Begins the term. The partitions to read and where, or why nothing moves (also in the snapshot): then the
    /// engine stays without outputs but events, and the driver serves `/health` until it is stopped.
    ///
    /// # Errors
    /// The hold of the whole shard.
    pub fn begin(&mut self, now: Now, beginning: &Beginning) -> Result<Vec<NextOffset>, event::HoldReason> {
        let _ = now;
        Ok(beginning.partitions.iter().map(|partition| partition.start).collect())
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        let _ = (now, input);
    }

    /// Time passed: call it at or after `poll_timeout`.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// The next effect or fact; `None` when there is none until the next mutation.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    /// A view of everything.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let _ = now;
        Snapshot::default()
    }
}
