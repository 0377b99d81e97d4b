//! The source: read by `assign` from offsets that the engine names, decoded, handed on in batches.
//!
//! A record whose writer's schema is not known yet makes its partition wait, that one alone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};

use crate::{
    codec::{Decoded, EventDecoder, Fault, SchemaId},
    model::{
        event::{RawRecord, RecordContent, SourceRecord, Undecodable},
        hash::record_hash,
        position::{NextOffset, PartitionId, Position},
        time::UnixMillis,
    },
    shell::schema_registry::{Resolved, SchemaRegistry},
};

use super::{
    client::{Consuming, StageContext, Stop},
    fault::{KafkaFault, plain},
    letters,
    settings::KafkaSettings,
    state_log::is_passing,
    status::KafkaStatus,
    topics,
};

/// Records of one hand-over.
const BATCH: usize = 4096;
/// Bytes of values read for one hand-over, so that large records make it shorter.
const BATCH_BYTES: usize = 4 << 20;
/// How long a hand-over is gathered.
const GATHER: Duration = Duration::from_millis(10);
/// How long an idle reader waits for a record before it looks at what it is told.
const IDLE: Duration = Duration::from_millis(20);
/// Hand-overs that may wait for the driver.
const BATCHES: usize = 8;
/// How often a full channel is tried again.
const FULL: Duration = Duration::from_millis(1);
/// Records of one partition that may wait for a schema before the partition is paused, and their bytes.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 4 << 20;
/// How often the source's partitions are counted, and ids that the registry did not know are forgotten, so that a
/// schema that is registered late is found.
const REFRESH: Duration = Duration::from_secs(30);
const REFRESH_LIMIT: Duration = Duration::from_secs(1);
const DOING: &str = "reading the source";

/// What the reader tells, in this order for each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// Records, each partition's in the order of their offsets.
    Records(Vec<SourceRecord>),
    /// Where the reader stands after the records told so far, where markers or gaps let it pass further than they say.
    At(Vec<NextOffset>),
    /// Partitions that the source has gained, and that are paused.
    PartitionsAdded {
        /// Where they begin.
        added: Vec<NextOffset>,
        /// Where all of them end.
        ends: Vec<NextOffset>,
    },
    /// Reading has ended; so does the term.
    Failed(KafkaFault),
}

/// What the reader is told; the newest counts.
#[derive(Debug, Default)]
struct Told {
    paused: BTreeSet<PartitionId>,
    schemas: Vec<(SchemaId, Resolved)>,
}

#[derive(Debug, Default)]
struct Orders {
    told: Mutex<Told>,
    news: AtomicBool,
    wake: Condvar,
}

impl Orders {
    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.lock());
        self.news.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shard's reader of the source; dropping it ends it.
#[derive(Debug)]
pub struct SourceReader {
    stop: Stop,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl SourceReader {
    /// Starts reading at these offsets, with some partitions paused. `runtime` runs the questions to the registry.
    ///
    /// # Errors
    /// The client or its thread cannot be made.
    #[expect(clippy::too_many_arguments, reason = "what to read, how to understand it, and whom to tell")]
    pub fn start(
        settings: &Arc<KafkaSettings>,
        shard: u32,
        from: &[NextOffset],
        paused: &[PartitionId],
        decoder: EventDecoder,
        registry: Option<SchemaRegistry>,
        runtime: Handle,
        status: &KafkaStatus,
    ) -> Result<(Self, mpsc::Receiver<SourceEvent>), KafkaFault> {
        let (events, receiver) = mpsc::channel(BATCHES);
        let (stop, orders) = (Stop::default(), Arc::new(Orders::default()));
        orders.tell(|told| told.paused.extend(paused));
        let role = format!("the source reader of shard {shard}");
        let consumer = Consuming::new(&settings.reader(shard), &role, status)?;
        let lane = |next: &NextOffset| Lane { paused: paused.contains(&next.partition), ..Lane::at(next.offset) };
        let lanes = from.iter().map(|next| (next.partition, lane(next))).collect();
        let reader = Reader {
            settings: Arc::clone(settings),
            consumer,
            decoder,
            registry,
            runtime,
            asking: JoinSet::new(),
            asked: BTreeSet::new(),
            status: status.clone(),
            events,
            stop: stop.clone(),
            orders: Arc::clone(&orders),
            lanes,
            batch: Vec::with_capacity(BATCH),
            batch_bytes: 0,
            refreshed: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("kafka-source-{shard}"))
            .spawn(move || reader.run())
            .map_err(|error| KafkaFault::thread(DOING, &error))?;
        Ok((Self { stop, orders, thread: Some(thread) }, receiver))
    }

    /// Stops reading these partitions. What was read before may still come.
    pub fn pause(&self, partitions: &[PartitionId]) {
        self.orders.tell(|told| told.paused.extend(partitions));
    }

    /// Reads these partitions on.
    pub fn resume(&self, partitions: &[PartitionId]) {
        self.orders.tell(|told| told.paused.retain(|paused| !partitions.contains(paused)));
    }

    /// Ends the reader and waits for its thread. Blocks.
    pub fn stop(mut self) {
        self.stop.stop();
        self.orders.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the source reader panicked");
        }
    }
}

impl Drop for SourceReader {
    fn drop(&mut self) {
        self.stop.stop();
        self.orders.wake.notify_all();
    }
}

/// One partition.
#[derive(Debug)]
struct Lane {
    /// After the last record that was handed on, or where the reader passed to.
    next: i64,
    /// Where the reader stood at the partition's end, to be told once nothing waits.
    end: Option<i64>,
    /// The engine does not want more.
    paused: bool,
    waiting: Option<Waiting>,
}

impl Lane {
    const fn at(next: i64) -> Self {
        Self { next, end: None, paused: false, waiting: None }
    }
}

/// Records that wait for a schema, in order.
#[derive(Debug)]
struct Waiting {
    schema: SchemaId,
    records: VecDeque<Raw>,
    bytes: usize,
    /// So many wait that the partition is paused.
    held: bool,
}

/// A record before it is decoded.
#[derive(Debug)]
struct Raw {
    offset: i64,
    timestamp: UnixMillis,
    record: RawRecord,
}

impl Raw {
    fn copy(message: &BorrowedMessage<'_>) -> Self {
        Self { offset: message.offset(), timestamp: timestamp(message), record: letters::copy(message) }
    }

    fn size_bytes(&self) -> usize {
        self.record.size_bytes()
    }
}

fn size(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)
}

fn timestamp(message: &BorrowedMessage<'_>) -> UnixMillis {
    UnixMillis(message.timestamp().to_millis().unwrap_or_default())
}

struct Reader {
    settings: Arc<KafkaSettings>,
    consumer: Consuming<StageContext>,
    decoder: EventDecoder,
    registry: Option<SchemaRegistry>,
    runtime: Handle,
    asking: JoinSet<()>,
    asked: BTreeSet<SchemaId>,
    status: KafkaStatus,
    events: mpsc::Sender<SourceEvent>,
    stop: Stop,
    orders: Arc<Orders>,
    lanes: BTreeMap<PartitionId, Lane>,
    batch: Vec<SourceRecord>,
    batch_bytes: usize,
    refreshed: Instant,
}

impl Reader {
    fn run(mut self) {
        match self.read() {
            Ok(()) | Err(KafkaFault::Stopped) => {}
            // Stopped or not: whoever listened may have gone.
            Err(fault) => drop(self.send(SourceEvent::Failed(fault))),
        }
    }

    fn read(&mut self) -> Result<(), KafkaFault> {
        let from: Vec<(PartitionId, i64)> = self.lanes.iter().map(|(id, lane)| (*id, lane.next)).collect();
        let list = self.list(from.into_iter().map(|(id, next)| (id, Offset::Offset(next))))?;
        failed(self.consumer.assign(&list))?;
        // Before the first poll: of these, nothing that was fetched meanwhile is handed out.
        self.pause_at_first(self.lanes.iter().filter(|(_, lane)| lane.paused).map(|(id, _)| *id))?;
        loop {
            self.obey()?;
            self.gather()?;
            self.hand_on()?;
            self.refresh()?;
        }
    }

    fn pause_at_first(&self, partitions: impl Iterator<Item = PartitionId>) -> Result<(), KafkaFault> {
        let list = self.list(partitions.map(|id| (id, Offset::Invalid)))?;
        if list.count() == 0 { Ok(()) } else { failed(self.consumer.pause(&list)) }
    }

    fn list(&self, partitions: impl IntoIterator<Item = (PartitionId, Offset)>) -> Result<TopicPartitionList, KafkaFault> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in partitions {
            failed(list.add_partition_offset(&self.settings.source_topic, partition.0, offset))?;
        }
        Ok(list)
    }

    /// Takes records until there are enough, or for as long as they may be kept from the engine.
    fn gather(&mut self) -> Result<(), KafkaFault> {
        let mut began = None;
        while self.batch.len() < BATCH && self.batch_bytes < BATCH_BYTES {
            let wait = match began {
                None => IDLE,
                Some(began) => GATHER.saturating_sub(Instant::elapsed(&began)),
            };
            if began.is_some() && wait.is_zero() {
                break;
            }
            // The thread alone holds the consumer, and a message borrows it: the other fields are borrowed one by one.
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    began.get_or_insert_with(Instant::now);
                    let partition = PartitionId(message.partition());
                    let Some(lane) = self.lanes.get_mut(&partition) else { continue };
                    let (key, value) = (message.key(), message.payload());
                    self.batch_bytes += size(key, value);
                    if let Some(waiting) = &mut lane.waiting {
                        waiting.push(Raw::copy(&message));
                        let full = waiting.is_full() && !waiting.held;
                        waiting.held |= full;
                        drop(message);
                        if full {
                            let list = self.list([(partition, Offset::Invalid)])?;
                            failed(self.consumer.pause(&list))?;
                        }
                        continue;
                    }
                    let content = match self.decoder.decode(key, value) {
                        Ok(Decoded::Content(content)) => content,
                        Ok(Decoded::NeedsSchema(schema)) => {
                            let mut waiting = Waiting { schema, records: VecDeque::new(), bytes: 0, held: false };
                            waiting.push(Raw::copy(&message));
                            lane.waiting = Some(waiting);
                            drop(message);
                            self.ask(schema);
                            continue;
                        }
                        Err(fault) => undecodable(fault, letters::copy(&message)),
                    };
                    lane.next = message.offset() + 1;
                    let position = Position { partition, offset: message.offset() };
                    let record =
                        SourceRecord { position, timestamp: timestamp(&message), hash: record_hash(key, value), content };
                    self.batch.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.at_end(PartitionId(partition))?,
                Some(Err(error)) => failed_poll(&error)?,
            }
        }
        if began.is_some() {
            self.consumer.context().reached();
        }
        Ok(())
    }

    /// The end of a partition: where the reader stands is past transaction markers and gaps.
    fn at_end(&mut self, partition: PartitionId) -> Result<(), KafkaFault> {
        self.consumer.context().reached();
        let positions = failed(self.consumer.position())?;
        let found = positions.find_partition(&self.settings.source_topic, partition.0).map(|entry| entry.offset());
        if let (Some(Offset::Offset(at)), Some(lane)) = (found, self.lanes.get_mut(&partition)) {
            lane.end = Some(at);
        }
        Ok(())
    }

    /// Sends what was gathered, then where the reader passed further than the records say.
    fn hand_on(&mut self) -> Result<(), KafkaFault> {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
            self.send(SourceEvent::Records(batch))?;
        }
        self.batch_bytes = 0;
        let mut passed = Vec::new();
        for (partition, lane) in &mut self.lanes {
            if lane.waiting.is_none()
                && let Some(end) = lane.end.take()
                && end > lane.next
            {
                lane.next = end;
                passed.push(NextOffset { partition: *partition, offset: end });
            }
        }
        if passed.is_empty() { Ok(()) } else { self.send(SourceEvent::At(passed)) }
    }

    /// Hands an event on; while the driver takes none, still does what it is told.
    fn send(&mut self, event: SourceEvent) -> Result<(), KafkaFault> {
        let mut event = event;
        loop {
            match self.events.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(KafkaFault::Stopped),
                Err(TrySendError::Full(back)) => event = back,
            }
            self.stop.check()?;
            self.follow_pauses()?;
            drop(self.orders.wake.wait_timeout(self.orders.lock(), FULL));
        }
    }

    /// Does what the engine and the registry have said since.
    fn obey(&mut self) -> Result<(), KafkaFault> {
        self.stop.check()?;
        if !self.orders.news.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.follow_pauses()?;
        let schemas = std::mem::take(&mut self.orders.lock().schemas);
        for (id, resolved) in schemas {
            self.asked.remove(&id);
            match resolved {
                Resolved::Schema { schema, references } => {
                    if let Err(fault) = self.decoder.add_schema(id, &schema, &references) {
                        tracing::warn!(
                            schema = id.0,
                            "a writer's schema cannot be used, its records become dead letters: {fault}"
                        );
                    }
                }
                Resolved::Unknown => {
                    tracing::warn!(schema = id.0, "the schema registry does not know a schema, its records become dead letters");
                    self.decoder.schema_unknown(id);
                }
            }
            self.retry(id)?;
        }
        Ok(())
    }

    fn follow_pauses(&mut self) -> Result<(), KafkaFault> {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        {
            let told = self.orders.lock();
            for (partition, lane) in &mut self.lanes {
                let wanted = told.paused.contains(partition);
                if wanted != lane.paused {
                    lane.paused = wanted;
                    let held = lane.waiting.as_ref().is_some_and(|waiting| waiting.held);
                    match (wanted, held) {
                        (true, _) => pause.push((*partition, Offset::Invalid)),
                        (false, false) => resume.push((*partition, Offset::Invalid)),
                        // Goes on when the schema is there.
                        (false, true) => {}
                    }
                }
            }
        }
        if !pause.is_empty() {
            failed(self.consumer.pause(&self.list(pause)?))?;
        }
        if !resume.is_empty() {
            failed(self.consumer.resume(&self.list(resume)?))?;
        }
        Ok(())
    }

    /// Decodes what waited for a schema.
    fn retry(&mut self, id: SchemaId) -> Result<(), KafkaFault> {
        let waiting: Vec<PartitionId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.waiting.as_ref().is_some_and(|waiting| waiting.schema == id))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in waiting {
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            let Some(mut waiting) = lane.waiting.take() else { continue };
            let mut missing = None;
            while let Some(raw) = waiting.records.pop_front() {
                let (key, value) = (raw.record.key.as_deref(), raw.record.value.as_deref());
                let hash = record_hash(key, value);
                let content = match self.decoder.decode(key, value) {
                    Ok(Decoded::Content(content)) => content,
                    Ok(Decoded::NeedsSchema(schema)) => {
                        missing = Some(schema);
                        waiting.records.push_front(raw);
                        break;
                    }
                    Err(fault) => undecodable(fault, raw.record),
                };
                lane.next = raw.offset + 1;
                let position = Position { partition, offset: raw.offset };
                self.batch.push(SourceRecord { position, timestamp: raw.timestamp, hash, content });
            }
            if let Some(schema) = missing {
                waiting.schema = schema;
                waiting.bytes = waiting.records.iter().map(Raw::size_bytes).sum();
                lane.waiting = Some(waiting);
                self.ask(schema);
            } else if waiting.held && !lane.paused {
                let list = self.list([(partition, Offset::Invalid)])?;
                failed(self.consumer.resume(&list))?;
            }
        }
        Ok(())
    }

    /// Asks the registry, once at a time for each id.
    fn ask(&mut self, id: SchemaId) {
        if !self.asked.insert(id) {
            return;
        }
        let Some(registry) = self.registry.clone() else {
            self.orders.tell(|told| told.schemas.push((id, Resolved::Unknown)));
            return;
        };
        let (orders, status) = (Arc::clone(&self.orders), self.status.clone());
        let answer = async move {
            let resolved = registry.resolve(id, |down| status.registry(down)).await;
            orders.tell(|told| told.schemas.push((id, resolved)));
        };
        self.asking.spawn_on(answer, &self.runtime);
        while self.asking.try_join_next().is_some() {}
    }

    /// Notices partitions that the source has gained, once they hold something: whoever writes to them writes to the older
    /// ones no more what belongs to the same profiles, so that where these end by then is what came before.
    fn refresh(&mut self) -> Result<(), KafkaFault> {
        if self.refreshed.elapsed() < REFRESH {
            return Ok(());
        }
        self.refreshed = Instant::now();
        self.decoder.forget_unknown_schemas();
        let topic = &self.settings.source_topic;
        let count = match topics::partition_count(&self.consumer, topic, REFRESH_LIMIT) {
            Ok(Some(count)) => i32::try_from(count).unwrap_or(i32::MAX),
            Ok(None) => return Ok(()),
            Err(fault) => {
                tracing::debug!("the source's partitions are not known now: {fault}");
                return Ok(());
            }
        };
        let mut added = Vec::new();
        for partition in (0..count).map(PartitionId).filter(|partition| !self.lanes.contains_key(partition)) {
            // Its beginning, as a number: else records that are deleted before the first commit would go unnoticed.
            let Ok((start, end)) = self.consumer.fetch_watermarks(topic, partition.0, REFRESH_LIMIT) else { return Ok(()) };
            if start < end {
                added.push(NextOffset { partition, offset: start });
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let Some(ends) = self.ends(added.iter().map(|next| next.partition))? else { return Ok(()) };
        tracing::info!(partitions = added.len(), "the source has gained partitions");
        let list = self.list(added.iter().map(|next| (next.partition, Offset::Offset(next.offset))))?;
        self.orders.tell(|told| told.paused.extend(added.iter().map(|next| next.partition)));
        self.lanes.extend(added.iter().map(|next| (next.partition, Lane { paused: true, ..Lane::at(next.offset) })));
        failed(self.consumer.incremental_assign(&list))?;
        self.pause_at_first(added.iter().map(|next| next.partition))?;
        self.send(SourceEvent::PartitionsAdded { added, ends })
    }

    /// Where the partitions end, with what transactions under way have written: those may be committed behind what was seen
    /// of a gained one. `None` while some broker does not say.
    fn ends(&self, added: impl Iterator<Item = PartitionId>) -> Result<Option<Vec<NextOffset>>, KafkaFault> {
        let inspector: Consuming<StageContext> =
            Consuming::new(&self.settings.inspector(), "the ends of a source that has grown", &self.status)?;
        let mut ends = Vec::with_capacity(self.lanes.len());
        for partition in self.lanes.keys().copied().chain(added) {
            self.stop.check()?;
            let found = inspector.fetch_watermarks(&self.settings.source_topic, partition.0, REFRESH_LIMIT);
            let Ok((_, offset)) = found else { return Ok(None) };
            ends.push(NextOffset { partition, offset });
        }
        Ok(Some(ends))
    }
}

impl Waiting {
    fn push(&mut self, raw: Raw) {
        self.bytes += raw.size_bytes();
        self.records.push_back(raw);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= WAITING || self.bytes >= WAITING_BYTES
    }
}

fn undecodable(fault: Fault, original: RawRecord) -> RecordContent {
    RecordContent::Undecodable(Box::new(Undecodable { kind: fault.kind, detail: fault.detail, original }))
}

fn failed<T>(result: KafkaResult<T>) -> Result<T, KafkaFault> {
    result.map_err(|error| KafkaFault::failed(DOING, &error))
}

fn failed_poll(error: &KafkaError) -> Result<(), KafkaFault> {
    match error {
        KafkaError::MessageConsumptionFatal(_) => Err(KafkaFault::Fatal { doing: DOING, detail: plain(error) }),
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Err(KafkaFault::OffsetGone { detail: plain(error) })
        }
        other if is_passing(other) => Ok(()),
        other => Err(KafkaFault::failed(DOING, other)),
    }
}
