//! How Kafka and the registry are, for `/health`: written by the clients' threads, read by the admin port.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

/// What is known of the surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct KafkaView {
    /// For each client that reaches no broker: what it says.
    pub brokers_down: BTreeMap<String, String>,
    /// Settings of topics that could not be looked at, or are not as they should be, with what that means.
    pub remarks: Vec<String>,
    /// Why events wait for a writer's schema; `None` when none does.
    pub registry_down: Option<String>,
}

/// The shared copy.
#[derive(Debug, Clone)]
pub struct KafkaStatus {
    view: Arc<Mutex<KafkaView>>,
    changed: watch::Sender<u64>,
}

impl Default for KafkaStatus {
    fn default() -> Self {
        Self { view: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl KafkaStatus {
    /// What is known now.
    #[must_use]
    pub fn view(&self) -> KafkaView {
        self.lock().clone()
    }

    /// Tells of changes; the number counts them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether any client reaches no broker.
    #[must_use]
    pub fn is_down(&self) -> bool {
        !self.lock().brokers_down.is_empty()
    }

    /// A client reaches no broker. True when that is news.
    pub(super) fn down(&self, role: &str, detail: String) -> bool {
        let news = self.lock().brokers_down.insert(role.to_owned(), detail).is_none();
        self.tell(news)
    }

    /// A client reaches a broker, or is gone. True when that is news.
    pub(super) fn up(&self, role: &str) -> bool {
        let news = self.lock().brokers_down.remove(role).is_some();
        self.tell(news)
    }

    /// Something to know about a topic.
    pub(super) fn remark(&self, text: String) {
        let mut view = self.lock();
        let news = !view.remarks.contains(&text);
        if news {
            view.remarks.push(text);
        }
        drop(view);
        self.tell(news);
    }

    /// Whether the registry answers.
    pub(crate) fn registry(&self, down: Option<String>) {
        let mut view = self.lock();
        let news = view.registry_down != down;
        view.registry_down = down;
        drop(view);
        self.tell(news);
    }

    fn tell(&self, news: bool) -> bool {
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
        news
    }

    fn lock(&self) -> MutexGuard<'_, KafkaView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
