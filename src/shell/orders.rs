//! Orders of an operator, on their way from the admin port to the term of the shard that they concern.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use crate::model::{
    Text,
    control::{ControlAction, ControlOutcome},
};

/// Orders that may wait for one term.
const ORDERS_MAX: usize = 16;

/// One order, and where its answer goes.
#[derive(Debug)]
pub(super) struct ControlRequest {
    /// The export's name.
    pub(super) export: Text,
    /// What is ordered.
    pub(super) action: ControlAction,
    /// Dropped without an answer where the term ends before there is one.
    pub(super) answer: oneshot::Sender<ControlOutcome>,
}

/// The terms that take orders, by their shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders(Arc<Mutex<BTreeMap<u32, mpsc::Sender<ControlRequest>>>>);

impl Orders {
    /// A term takes orders from here on.
    pub(super) fn open(&self, shard: u32) -> mpsc::Receiver<ControlRequest> {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        self.lock().insert(shard, sender);
        receiver
    }

    /// It takes none any more.
    pub(super) fn close(&self, shard: u32) {
        self.lock().remove(&shard);
    }

    /// Whether a term of the shard takes orders here.
    pub(super) fn are_taken(&self, shard: u32) -> bool {
        self.lock().contains_key(&shard)
    }

    /// Passes an order on and waits for what became of it; `None` where the term ended before it told.
    pub(super) async fn order(&self, shard: u32, export: Text, action: ControlAction) -> Option<ControlOutcome> {
        let sender = self.lock().get(&shard).cloned()?;
        let (answer, answered) = oneshot::channel();
        sender.send(ControlRequest { export, action, answer }).await.ok()?;
        answered.await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, mpsc::Sender<ControlRequest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
