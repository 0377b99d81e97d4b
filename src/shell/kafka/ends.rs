//! Where the partitions of the source end: asked now and then by a client of its own, so that neither reading nor the
//! engine waits for the answer.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc as stops},
    time::Duration,
};

use rdkafka::consumer::Consumer as _;

use crate::model::position::{NextOffset, PartitionId};

use super::{
    client::{Consuming, StageContext},
    fault::KafkaFault,
    settings::KafkaSettings,
    status::KafkaStatus,
};

const EVERY: Duration = Duration::from_secs(5);
const ASK: Duration = Duration::from_secs(5);

/// Looks at the source's ends until it is dropped.
#[derive(Debug)]
pub struct SourceEnds {
    known: Arc<Mutex<Vec<NextOffset>>>,
    _stop: stops::Sender<()>,
}

impl SourceEnds {
    /// Starts looking at these partitions.
    ///
    /// # Errors
    /// The client or its thread cannot be made.
    pub fn start(
        settings: &Arc<KafkaSettings>,
        shard: u32,
        partitions: Vec<PartitionId>,
        status: &KafkaStatus,
    ) -> Result<Self, KafkaFault> {
        let consumer: Consuming<StageContext> =
            Consuming::new(&settings.inspector(), &format!("the ends of the source for shard {shard}"), status)?;
        let (known, topic) = (Arc::<Mutex<Vec<NextOffset>>>::default(), settings.source_topic.clone());
        let (stop, stopped) = stops::channel::<()>();
        let shared = Arc::clone(&known);
        let look = move || {
            loop {
                let ends = partitions.iter().filter_map(|partition| {
                    let (_, offset) = consumer.fetch_watermarks(&topic, partition.0, ASK).ok()?;
                    Some(NextOffset { partition: *partition, offset })
                });
                let ends: Vec<NextOffset> = ends.collect();
                if !ends.is_empty() {
                    consumer.context().reached();
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = ends;
                }
                // Errors of the client are told where it is polled.
                drop(consumer.poll(Duration::ZERO));
                if stopped.recv_timeout(EVERY) != Err(stops::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("kafka-ends-{shard}"))
            .spawn(look)
            .map_err(|error| KafkaFault::thread("looking at the ends of the source", &error))?;
        Ok(Self { known, _stop: stop })
    }

    /// The ends, as last seen.
    #[must_use]
    pub fn known(&self) -> Vec<NextOffset> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
