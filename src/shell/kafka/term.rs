//! How a term begins. The order is what makes it safe:
//!
//! 1. commit in the group: a member that expired is refused here, before it can fence the rightful owner;
//! 2. `init_transactions`: fences whoever had the shard, and aborts what it left open;
//! 3. the committed source offsets;
//! 4. wait until what is committed of the state reaches its uncommitted end, so that nothing is hidden behind a
//!    transaction that is being aborted;
//! 5. read the state to that end, by `position()`: the last offset may be a transaction marker, which is no record;
//! 6. where each partition of the source begins and ends, and whether the record settled last is still what it was.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, ConsumerGroupMetadata},
    error::KafkaError,
    producer::{Producer as _, ThreadedProducer},
};
use tokio::sync::mpsc;

use crate::{
    config::Start,
    engine::{Beginning, PartitionBeginning},
    model::{
        event::RawRecord,
        hash::record_hash,
        position::{NextOffset, PartitionId, Position},
        state::{Header, StateChange, StateKey, StateValue},
    },
    shell::clock,
};

use super::{
    client::{Consuming, StageContext, Stop},
    fault::KafkaFault,
    letters,
    ownership::Claim,
    settings::KafkaSettings,
    state_log::StateLog,
    status::KafkaStatus,
    topics,
};

const ASK: Duration = Duration::from_secs(10);
const FENCE: Duration = Duration::from_secs(10);
/// How long fencing, the wait for the end and each stall of reading may take before the term is given up.
const STALLED_MS: u64 = 60_000;
const STATE_BATCH: usize = 4096;
/// Bytes of records of one hand-over: those of open batches are large.
const STATE_BATCH_BYTES: usize = 1 << 20;
const STATE_BATCHES: usize = 4;

/// What a beginning term tells, in this order.
#[derive(Debug)]
pub enum TermEvent {
    /// Records of the state, oldest first.
    State(Vec<StateChange>),
    /// The state is complete.
    Begun(Box<Term>),
    /// The term did not begin.
    Failed(KafkaFault),
}

/// A term: the right to write for a shard, until somebody else begins one.
pub struct Term {
    /// The shard.
    pub shard: u32,
    /// What Kafka says, for the engine.
    pub beginning: Beginning,
    pub(super) settings: Arc<KafkaSettings>,
    pub(super) status: KafkaStatus,
    pub(super) producer: ThreadedProducer<StageContext>,
    pub(super) group: ConsumerGroupMetadata,
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Term").field("shard", &self.shard).field("beginning", &self.beginning).finish_non_exhaustive()
    }
}

/// A term that is beginning; dropping it gives it up.
#[derive(Debug)]
pub struct TermBeginning {
    stop: Stop,
}

impl Drop for TermBeginning {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Begins a term on a thread of its own. `address` is this replica's, for the standbys.
///
/// # Errors
/// The thread cannot be started.
pub fn begin_term(
    settings: &Arc<KafkaSettings>,
    shard: u32,
    claim: Claim,
    address: String,
    status: &KafkaStatus,
) -> Result<(TermBeginning, mpsc::Receiver<TermEvent>), KafkaFault> {
    let (events, receiver) = mpsc::channel(STATE_BATCHES);
    let stop = Stop::default();
    let begin =
        Begin { settings: Arc::clone(settings), shard, claim, address, status: status.clone(), events, stop: stop.clone() };
    std::thread::Builder::new()
        .name(format!("kafka-term-{shard}"))
        .spawn(move || begin.run())
        .map_err(|error| KafkaFault::thread("beginning a term", &error))?;
    Ok((TermBeginning { stop }, receiver))
}

struct Begin {
    settings: Arc<KafkaSettings>,
    shard: u32,
    claim: Claim,
    address: String,
    status: KafkaStatus,
    events: mpsc::Sender<TermEvent>,
    stop: Stop,
}

impl Begin {
    fn run(self) {
        let event = self.begin().map_or_else(TermEvent::Failed, |term| TermEvent::Begun(Box::new(term)));
        // Whoever began it may have gone.
        drop(self.events.blocking_send(event));
    }

    fn begin(&self) -> Result<Term, KafkaFault> {
        let (settings, role) = (&self.settings, format!("the term of shard {}", self.shard));
        self.claim.commit(self.shard, &self.address)?;
        self.stop.check()?;
        let context = StageContext::new(format!("the producer of shard {}", self.shard), self.status.clone());
        let producer: ThreadedProducer<StageContext> = settings
            .producer(self.shard)
            .create_with_context(context)
            .map_err(|error| KafkaFault::client("transactions", &error))?;
        self.fence(&producer)?;
        let fenced_at = clock::mono();
        let reader: Consuming<StageContext> = Consuming::new(&settings.reader(self.shard), &role, &self.status)?;
        let inspector: Consuming<StageContext> = Consuming::new(&settings.inspector(), &role, &self.status)?;
        let committed = self.committed(&reader, &inspector)?;
        let header = self.read_state(&reader, &inspector)?;
        let settled = self.settled(header.as_ref())?;
        let mut partitions = Vec::with_capacity(committed.len());
        for (partition, offset) in committed {
            self.stop.check()?;
            let ends_by = |client: &Consuming<StageContext>| {
                client
                    .fetch_watermarks(&settings.source_topic, partition.0, ASK)
                    .map_err(|error| KafkaFault::failed("asking for the ends of the source", &error))
            };
            let ((log_start, readable_end), (_, log_end)) = (ends_by(&reader)?, ends_by(&inspector)?);
            // `latest` leaves out what was there before the first term; what the source gained since is read from its start.
            let resolved = match (settings.start, &header) {
                (Start::Earliest, _) | (Start::Latest, Some(_)) => log_start,
                (Start::Latest, None) => readable_end,
            };
            let start = NextOffset { partition, offset: offset.unwrap_or(resolved) };
            let settled_hash = settled.get(&partition).copied();
            partitions.push(PartitionBeginning { start, committed: offset.is_some(), log_start, log_end, settled_hash });
        }
        let group = reader.group_metadata().ok_or_else(|| KafkaFault::Failed {
            doing: "beginning a term",
            detail: "the client has no metadata of its group".into(),
        })?;
        Ok(Term {
            shard: self.shard,
            beginning: Beginning { partitions, fenced_at },
            settings: Arc::clone(settings),
            status: self.status.clone(),
            producer,
            group,
        })
    }

    fn fence(&self, producer: &ThreadedProducer<StageContext>) -> Result<(), KafkaFault> {
        let began = clock::mono();
        loop {
            self.stop.check()?;
            let error = match producer.init_transactions(FENCE) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = matches!(&error, KafkaError::Transaction(inner) if inner.is_retriable());
            if !again || clock::mono().since_ms(began) > STALLED_MS {
                return Err(KafkaFault::failed("fencing the owner before (init_transactions)", &error));
            }
        }
    }

    /// For each partition of the source, in order, what is committed.
    fn committed(
        &self,
        reader: &Consuming<StageContext>,
        inspector: &Consuming<StageContext>,
    ) -> Result<Vec<(PartitionId, Option<i64>)>, KafkaFault> {
        let topic = &self.settings.source_topic;
        let count = topics::partition_count(inspector, topic, ASK)?.ok_or_else(|| KafkaFault::Topic {
            topic: topic.clone(),
            problem: "does not exist: create it, or correct `source.topic`".into(),
        })?;
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::new();
        (0..count).for_each(|partition| {
            list.add_partition(topic, partition);
        });
        let doing = "asking for the committed offsets";
        let list = reader.committed_offsets(list, ASK).map_err(|error| KafkaFault::failed(doing, &error))?;
        let mut committed = Vec::with_capacity(list.count());
        for entry in list.elements() {
            entry.error().map_err(|error| KafkaFault::failed(doing, &error))?;
            let offset = match entry.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => None,
            };
            committed.push((PartitionId(entry.partition()), offset));
        }
        committed.sort_unstable_by_key(|(partition, _)| *partition);
        Ok(committed)
    }

    /// Hashes of the records that the header names as the last settled, as far as the source still has them.
    fn settled(&self, header: Option<&Header>) -> Result<BTreeMap<PartitionId, u64>, KafkaFault> {
        let named = header.into_iter().flat_map(|header| &header.partitions);
        let positions = named.filter_map(|known| {
            known.last_settled.map(|settled| Position { partition: known.next.partition, offset: settled.offset })
        });
        let found = letters::records(&self.settings, self.shard, &self.status, positions)?;
        let hash = |record: RawRecord| record_hash(record.key.as_deref(), record.value.as_deref());
        Ok(found.into_iter().filter_map(|(position, record)| Some((position.partition, hash(record?)))).collect())
    }

    /// Reads the state and hands it on; gives the newest header.
    fn read_state(
        &self,
        reader: &Consuming<StageContext>,
        inspector: &Consuming<StageContext>,
    ) -> Result<Option<Header>, KafkaFault> {
        let log = StateLog { topic: &self.settings.state_topic, shard: self.shard, reader, inspector, stop: &self.stop };
        let end = log.settled_end()?;
        let (mut header, mut batch, mut bytes) = (None, Vec::with_capacity(STATE_BATCH), 0);
        log.read(end, |change, size_bytes| {
            if let (StateKey::Header, Some(StateValue::Header(newest))) = (&change.key, &change.value) {
                header = Some(newest.clone());
            }
            batch.push(change);
            bytes += size_bytes;
            if batch.len() >= STATE_BATCH || bytes >= STATE_BATCH_BYTES {
                bytes = 0;
                self.hand_on(std::mem::replace(&mut batch, Vec::with_capacity(STATE_BATCH)))?;
            }
            Ok(())
        })?;
        self.hand_on(batch)?;
        Ok(header)
    }

    fn hand_on(&self, batch: Vec<StateChange>) -> Result<(), KafkaFault> {
        if batch.is_empty() {
            return Ok(());
        }
        self.events.blocking_send(TermEvent::State(batch)).map_err(|_| KafkaFault::Stopped)
    }
}
