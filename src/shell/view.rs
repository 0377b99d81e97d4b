//! What the shards show of themselves: written by the drivers, read by the admin port.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{engine::Snapshot, model::position::NextOffset};

/// How far a shard's term has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The state is being read.
    Beginning,
    /// At work.
    Running,
    /// Nothing moves until an operator acts; the snapshot says why.
    Held,
    /// Finishing what can be finished.
    Draining,
}

/// One owned shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardView {
    /// Its number.
    pub shard: u32,
    /// How far its term has come.
    pub phase: Phase,
    /// Why the term before this one ended, if it failed.
    pub problem: Option<String>,
    /// What the engine knows of itself.
    pub snapshot: Snapshot,
    /// The source offsets that Kafka has confirmed as committed in this term.
    pub committed: Vec<NextOffset>,
    /// Where the partitions of the source end, as far as it was asked.
    pub ends: Vec<NextOffset>,
}

impl ShardView {
    /// A shard whose term begins.
    #[must_use]
    pub fn beginning(shard: u32) -> Self {
        Self {
            shard,
            phase: Phase::Beginning,
            problem: None,
            snapshot: Snapshot::default(),
            committed: Vec::new(),
            ends: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    joined: bool,
    waits: Option<String>,
    shards: BTreeMap<u32, ShardView>,
}

/// The shared copy of all of it.
#[derive(Debug, Clone, Default)]
pub struct Views(Arc<Mutex<Inner>>);

impl Views {
    /// Every owned shard, in order.
    #[must_use]
    pub fn all(&self) -> Vec<ShardView> {
        self.lock().shards.values().cloned().collect()
    }

    /// Whether this replica is a member of the group, as owner or as standby.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.lock().joined
    }

    /// What the stage waits for before it can join the group.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.lock().waits.clone()
    }

    pub(super) fn joined(&self) {
        self.lock().joined = true;
    }

    /// True when that is news.
    pub(super) fn waits(&self, problem: Option<String>) -> bool {
        let mut inner = self.lock();
        let news = inner.waits != problem;
        inner.waits = problem;
        news
    }

    /// A term begins. Why the one before failed, or what holds the shard, is shown until this one is at work.
    pub(super) fn begins(&self, shard: u32) {
        self.lock().shards.entry(shard).or_insert_with(|| ShardView::beginning(shard));
    }

    pub(super) fn set(&self, view: ShardView) {
        self.lock().shards.insert(view.shard, view);
    }

    pub(super) fn forget(&self, shard: u32) {
        self.lock().shards.remove(&shard);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
