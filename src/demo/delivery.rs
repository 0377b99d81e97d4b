//! What became of records that were handed to the producer.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    error::{KafkaError, KafkaResult},
    message::DeliveryResult,
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

/// A producer whose deliveries are counted.
pub type Producer = ThreadedProducer<Deliveries>;

/// What was written, and the first failure.
#[derive(Debug, Clone)]
pub struct Deliveries(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    written: AtomicU64,
    next: Vec<AtomicI64>,
    failed: Mutex<Option<String>>,
}

impl Deliveries {
    /// Nothing written yet.
    #[must_use]
    pub fn new(partitions: usize) -> Self {
        let next = (0..partitions).map(|_| AtomicI64::new(0)).collect();
        Self(Arc::new(Counts { written: AtomicU64::new(0), next, failed: Mutex::default() }))
    }

    /// Records that the broker has confirmed.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Acquire)
    }

    /// The offsets behind the last confirmed record of each partition.
    #[must_use]
    pub fn ends(&self) -> Vec<i64> {
        self.0.next.iter().map(|next| next.load(Ordering::Acquire)).collect()
    }

    /// Why a record was not written, the first time that happened.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let partition = usize::try_from(message.partition()).ok();
                if let Some(next) = partition.and_then(|partition| self.0.next.get(partition)) {
                    next.fetch_max(message.offset() + 1, Ordering::AcqRel);
                }
                self.0.written.fetch_add(1, Ordering::AcqRel);
            }
            Err((error, _)) => {
                let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// An idempotent producer: each record once, and in order.
///
/// # Errors
/// librdkafka's, for an option that it refuses.
pub fn producer(brokers: &str, deliveries: &Deliveries) -> KafkaResult<Producer> {
    ClientConfig::new()
        .set("client.id", "listkeeper-producer")
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        // Where Java's producers would put a profile, so that both may write to one topic.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("batch.size", "524288")
        .set("batch.num.messages", "20000")
        .set("queue.buffering.max.kbytes", "32768")
        .set("message.timeout.ms", "60000")
        .create_with_context(deliveries.clone())
}

/// Hands a record over; false when the producer's queue is full, and it is to be tried again.
///
/// # Errors
/// librdkafka's, when it will never take the record.
pub fn send(producer: &Producer, topic: &str, partition: Option<i32>, key: &str, value: &[u8]) -> KafkaResult<bool> {
    let record = BaseRecord::to(topic).key(key).payload(value);
    let record = match partition {
        Some(partition) => record.partition(partition),
        None => record,
    };
    match producer.send(record) {
        Ok(()) => Ok(true),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
        Err((error, _)) => Err(error),
    }
}
