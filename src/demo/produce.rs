//! The workload into a real topic, for whoever wants to see the stage with a Kafka of their own.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    producer::Producer as _,
    types::RDKafkaErrorCode,
};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;

use crate::{
    codec::{SchemaId, writer::SEGMENT_MEMBERSHIP_CHANGED},
    shell::{clock, schema_registry::SchemaRegistry},
};

use super::{
    delivery::{self, Deliveries},
    render::{Encoding, Renderer},
    workload::{PROFILES_MIN, Plan, SEGMENTS_MAX, Segments, Step, Workload},
};

/// How long brokers may take to say what a topic is like.
const METADATA: Duration = Duration::from_secs(10);
/// How long the last records may take.
const FLUSH: Duration = Duration::from_secs(70);
/// How often records are handed over, and how many at most at once.
const TICK: Duration = Duration::from_millis(5);
const RECORDS_PER_TICK: u64 = 20_000;
/// Profiles have numbers of seven digits.
const PROFILES_MAX: u32 = 9_999_999;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ProduceOptions {
    /// Brokers to begin with, as host:port, with commas between them.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The registry that the schema is registered at; JSON is written without one.
    pub registry: Option<Url>,
    /// Distinct profiles.
    pub profiles: u32,
    /// Segments that they enter.
    pub segments: u8,
    /// Events a second; as fast as the brokers take them when absent.
    pub rate: Option<u32>,
    /// Decides the events.
    pub seed: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Produced {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: usize,
    /// Records that the brokers have confirmed.
    pub events: u64,
    /// Distinct profiles.
    pub profiles: u32,
    /// Segments.
    pub segments: u8,
    /// The seed.
    pub seed: u64,
    /// `avro` or `json`.
    pub encoding: &'static str,
    /// The schema's id in the registry.
    pub schema_id: Option<u32>,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// From the first record to the last confirmation.
    pub seconds: f64,
    /// Events a second.
    pub events_per_second: f64,
    /// False when it was interrupted before its end.
    pub complete: bool,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceFault {
    /// An argument.
    #[error("{0}")]
    Usage(String),
    /// Brokers or registry.
    #[error("{0}")]
    Unavailable(String),
}

impl ProduceOptions {
    fn plan(&self) -> Result<Plan, ProduceFault> {
        if !(PROFILES_MIN..=PROFILES_MAX).contains(&self.profiles) {
            return Err(ProduceFault::Usage(format!("--profiles must be from {PROFILES_MIN} to {PROFILES_MAX}")));
        }
        if !(1..=SEGMENTS_MAX).contains(&self.segments) {
            return Err(ProduceFault::Usage(format!("--segments must be from 1 to {SEGMENTS_MAX}")));
        }
        if self.rate == Some(0) {
            return Err(ProduceFault::Usage("--rate must be at least 1: leave it out for as fast as it goes".to_owned()));
        }
        let leavers = self.profiles / 40;
        Ok(Plan { profiles: self.profiles, leavers, seed: self.seed, segments: Segments::numbered(self.segments) })
    }
}

/// Produces the whole workload, or what was written of it when `interrupted` resolves.
///
/// # Errors
/// [`ProduceFault`].
pub async fn produce(options: &ProduceOptions, interrupted: impl Future<Output = ()>) -> Result<Produced, ProduceFault> {
    let plan = options.plan()?;
    let partitions = partitions(options)?;
    let schema_id = match &options.registry {
        Some(url) => Some(register(url, &options.topic).await?),
        None => None,
    };
    let encoding = schema_id.map_or(Encoding::Json, |id| Encoding::Avro(Some(id)));
    let deliveries = Deliveries::new(0);
    let producer = delivery::producer(&options.brokers, &deliveries).map_err(|error| unavailable(options, &error))?;
    let mut renderer = Renderer::new(plan.seed, plan.segments.names.clone(), encoding, clock::wall());
    // Milestones are the demo's: it knows what the stage has committed. Here exits follow when everything else is written.
    let mut records = Workload::new(plan).filter_map(|step| match step {
        Step::Record(record) => Some(record),
        Step::Milestone | Step::Await(_) => None,
    });
    let began = clock::mono();
    let (mut sent, mut bytes, mut held, mut complete) = (0_u64, 0_u64, None, false);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interrupted = std::pin::pin!(interrupted);
    'all: loop {
        tokio::select! {
            biased;
            () = &mut interrupted => break,
            _ = ticks.tick() => {}
        }
        if let Some(failure) = deliveries.failure() {
            return Err(not_written(options, &failure));
        }
        let due = due(options.rate, clock::mono().since_ms(began));
        for _ in 0..due.saturating_sub(sent).min(RECORDS_PER_TICK) {
            let Some(record) = held.take().or_else(|| records.next()) else {
                complete = true;
                break 'all;
            };
            renderer.render(&record);
            let (key, value) = (&renderer.key, &renderer.value);
            if !delivery::send(&producer, &options.topic, None, key, value).map_err(|error| unavailable(options, &error))? {
                held = Some(record);
                break;
            }
            sent += 1;
            bytes += (key.len() + value.len()) as u64;
        }
    }
    producer.flush(FLUSH).map_err(|error| unavailable(options, &error))?;
    if let Some(failure) = deliveries.failure() {
        return Err(not_written(options, &failure));
    }
    let seconds = Duration::from_millis(clock::mono().since_ms(began).max(1)).as_secs_f64();
    let events = deliveries.written();
    Ok(Produced {
        topic: options.topic.clone(),
        partitions,
        events,
        profiles: options.profiles,
        segments: options.segments,
        seed: options.seed,
        encoding: if schema_id.is_some() { "avro" } else { "json" },
        schema_id: schema_id.map(|id| id.0),
        bytes,
        seconds,
        events_per_second: events as f64 / seconds,
        complete,
    })
}

/// How many records should have been handed over by now.
fn due(rate: Option<u32>, elapsed_ms: u64) -> u64 {
    rate.map_or(u64::MAX, |rate| u64::from(rate).saturating_mul(elapsed_ms) / 1_000)
}

/// How many partitions the topic has. Asked as a consumer, because a producer's question would make a topic.
fn partitions(options: &ProduceOptions) -> Result<usize, ProduceFault> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("client.id", "listkeeper-producer")
        .set("bootstrap.servers", &options.brokers)
        .set("allow.auto.create.topics", "false")
        .create()
        .map_err(|error| unavailable(options, &error))?;
    let metadata = consumer.fetch_metadata(Some(&options.topic), METADATA).map_err(|error| unavailable(options, &error))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
    let missing = || {
        let topic = &options.topic;
        let message = format!("the topic {topic} does not exist: create it first, for instance with kafka-topics.sh --create");
        ProduceFault::Unavailable(message)
    };
    let topic = topic.ok_or_else(missing)?;
    match topic.error().map(RDKafkaErrorCode::from) {
        None if topic.partitions().is_empty() => Err(missing()),
        None => Ok(topic.partitions().len()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(missing()),
        Some(error) => Err(ProduceFault::Unavailable(format!("the topic {}: {error}", options.topic))),
    }
}

fn unavailable(options: &ProduceOptions, error: &KafkaError) -> ProduceFault {
    let reason = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure) => "does not answer".to_owned(),
        _ => format!("refuses: {error}"),
    };
    ProduceFault::Unavailable(format!(
        "Kafka at {} {reason}; check --brokers, and that they are reached from here",
        options.brokers
    ))
}

fn not_written(options: &ProduceOptions, failure: &str) -> ProduceFault {
    ProduceFault::Unavailable(format!(
        "a record was not written to {}: {failure}; what was written before is there",
        options.topic
    ))
}

async fn register(url: &Url, topic: &str) -> Result<SchemaId, ProduceFault> {
    let registry = SchemaRegistry::new(url.clone(), None, None).map_err(|error| ProduceFault::Unavailable(error.to_string()))?;
    let subject = format!("{topic}-value");
    registry.register(&subject, SEGMENT_MEMBERSHIP_CHANGED).await.map_err(|reason| {
        ProduceFault::Unavailable(format!("the schema registry did not take the schema as {subject}: {reason}; check --registry"))
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::{Message as _, mocking::MockCluster};

    use super::*;
    use crate::{
        codec::{Decoded, EventDecoder, EventFormat, FieldPaths},
        model::event::RecordContent,
    };

    fn options(brokers: String, topic: &str) -> ProduceOptions {
        ProduceOptions { brokers, topic: topic.to_owned(), registry: None, profiles: 400, segments: 3, rate: None, seed: 9 }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn what_was_written_is_in_the_topic_and_can_be_read() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic("changes", 3, 1).expect("a topic");
        let options = options(cluster.bootstrap_servers(), "changes");
        let produced = runtime().block_on(produce(&options, std::future::pending())).expect("written");
        assert_eq!(produced.events, Workload::len_of(&options.plan().expect("a plan")));
        assert_eq!((produced.partitions, produced.encoding, produced.complete), (3, "json", true));

        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &options.brokers).set("group.id", "g").create().expect("a consumer");
        let mut assignment = rdkafka::TopicPartitionList::new();
        for partition in 0..3 {
            assignment.add_partition_offset("changes", partition, rdkafka::Offset::Beginning).expect("an offset");
        }
        consumer.assign(&assignment).expect("assigned");
        let mut decoder = EventDecoder::new(FieldPaths::default(), EventFormat::Json).expect("a decoder");
        let (mut events, mut undecodable) = (0, 0);
        let mut partitions = std::collections::BTreeMap::new();
        while events + undecodable < produced.events {
            let message = consumer.poll(Duration::from_secs(20)).expect("in time").expect("a message");
            let key = message.key().expect("a key").to_vec();
            assert_eq!(*partitions.entry(key).or_insert(message.partition()), message.partition(), "one key, one partition");
            match decoder.decode(message.key(), message.payload().or(Some(&[]))) {
                Ok(Decoded::Content(RecordContent::Event(_))) => events += 1,
                Err(_) => undecodable += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(undecodable, 4);
    }

    #[test]
    fn what_cannot_be_done_is_said_with_its_remedy() {
        let cluster = MockCluster::new(1).expect("a cluster");
        let mut options = options(cluster.bootstrap_servers(), "changes");
        options.segments = 0;
        let fault = |options: &ProduceOptions| runtime().block_on(produce(options, std::future::pending())).expect_err("a fault");
        assert!(matches!(fault(&options), ProduceFault::Usage(text) if text.starts_with("--segments")));
        options.segments = 1;
        options.registry = Url::parse("http://127.0.0.1:1").ok();
        cluster.create_topic("changes", 1, 1).expect("a topic");
        let _tls = rustls::crypto::ring::default_provider().install_default();
        assert!(matches!(fault(&options), ProduceFault::Unavailable(text) if text.contains("--registry")));
    }

    #[test]
    fn a_rate_is_kept_from_the_first_millisecond_on() {
        assert_eq!(due(Some(500), 0), 0);
        assert_eq!(due(Some(500), 10), 5);
        assert_eq!(due(Some(500), 60_000), 30_000);
        assert_eq!(due(None, 0), u64::MAX);
    }
}
