//! Who owns a shard: the member of the group that the shard's partition of the state topic is assigned to.
//!
//! The consumer is there for membership alone: it reads nothing, is always paused and always polled.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        mpsc::{self as requests, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::sync::mpsc;

use crate::{model::time::Mono, shell::clock};

use super::{
    client::{Consuming, StageContext, Stop},
    fault::{KafkaFault, plain},
    settings::KafkaSettings,
    status::KafkaStatus,
};

const ROLE: &str = "ownership";
const POLL: Duration = Duration::from_millis(50);
const ASK: Duration = Duration::from_secs(5);
/// How often brokers that were lost are looked for.
const PROBE_MS: u64 = 2_000;
/// Events that may wait for the driver; a driver that takes none stops the polls, and so loses the shard.
const EVENTS_MAX: usize = 256;

/// What happens to this replica's shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnershipEvent {
    /// The shard is this replica's: begin a term.
    Assigned(u32),
    /// The shard is no longer this replica's: end its term at once, begin nothing more.
    Revoked(u32),
    /// No broker is reached.
    BrokersDown(String),
    /// Brokers are reached again.
    BrokersUp,
    /// The membership is of no use any more: the process has to end.
    Fatal(String),
}

enum Request {
    Claim { shard: u32, address: String, answer: requests::SyncSender<Result<(), KafkaFault>> },
    Owner { shard: u32, answer: requests::SyncSender<Result<Option<String>, KafkaFault>> },
}

/// This replica's membership in the group.
#[derive(Debug)]
pub struct Ownership {
    stop: Stop,
    requests: requests::SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

/// Proves ownership at the beginning of a term. Blocks: not for tasks.
#[derive(Debug, Clone)]
pub struct Claim(requests::SyncSender<Request>);

impl Claim {
    /// Commits the shard's partition in the group with this replica's address as metadata. A member that expired
    /// meanwhile is refused, and must not go on: else it would fence the rightful owner.
    ///
    /// # Errors
    /// [`KafkaFault::NotOwner`], or the group cannot be reached.
    pub fn commit(&self, shard: u32, address: &str) -> Result<(), KafkaFault> {
        self.ask(|answer| Request::Claim { shard, address: address.to_owned(), answer })
    }

    /// The address that the owner of a shard has left.
    ///
    /// # Errors
    /// The group cannot be reached.
    pub fn owner(&self, shard: u32) -> Result<Option<String>, KafkaFault> {
        self.ask(|answer| Request::Owner { shard, answer })
    }

    fn ask<T>(&self, request: impl FnOnce(requests::SyncSender<Result<T, KafkaFault>>) -> Request) -> Result<T, KafkaFault> {
        let (answer, answered) = requests::sync_channel(1);
        self.0.send(request(answer)).map_err(|_| KafkaFault::Stopped)?;
        answered.recv().map_err(|_| KafkaFault::Stopped)?
    }
}

impl Ownership {
    /// Joins the group.
    ///
    /// # Errors
    /// The client or its thread cannot be made.
    pub fn join(settings: &KafkaSettings, status: &KafkaStatus) -> Result<(Self, mpsc::Receiver<OwnershipEvent>), KafkaFault> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (requests, requested) = requests::sync_channel(8);
        let stop = Stop::default();
        let context = MemberContext { inner: StageContext::new(ROLE.to_owned(), status.clone()), moved: Mutex::default() };
        let consumer = Consuming::with_context(&settings.member(), ROLE, context)?;
        consumer.subscribe(&[&settings.state_topic]).map_err(|error| KafkaFault::failed("joining the group", &error))?;
        let member = Member {
            consumer,
            topic: settings.state_topic.clone(),
            owned: BTreeSet::new(),
            events,
            requested,
            stop: stop.clone(),
            status: status.clone(),
            down: false,
            probed: clock::mono(),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-ownership".into())
            .spawn(move || member.run())
            .map_err(|error| KafkaFault::thread("joining the group", &error))?;
        Ok((Self { stop, requests, thread: Some(thread) }, receiver))
    }

    /// What proves ownership, for terms.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim(self.requests.clone())
    }

    /// Leaves the group, so that a standby takes over at once. Blocks until it is done, which is soon unless the
    /// brokers are gone: then it takes a session's timeout.
    pub fn leave(mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the group membership panicked");
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

struct Member {
    consumer: Consuming<MemberContext>,
    topic: String,
    owned: BTreeSet<u32>,
    events: mpsc::Sender<OwnershipEvent>,
    requested: requests::Receiver<Request>,
    stop: Stop,
    status: KafkaStatus,
    down: bool,
    probed: Mono,
}

impl Member {
    fn run(mut self) {
        while !self.stop.stopped() {
            if let Some(polled) = self.consumer.poll(POLL)
                && let Err(error) = polled.map(|_| ())
                && self.failed(&error)
            {
                return;
            }
            if !self.pass_on() || !self.serve() {
                return;
            }
            self.probe();
        }
        self.consumer.unsubscribe();
        // The consumer's drop waits for the revocation, so that the group knows before this thread ends.
    }

    /// True when there is no going on.
    fn failed(&mut self, error: &KafkaError) -> bool {
        if let Some((_, reason)) = self.consumer.client().fatal_error() {
            tracing::error!("the group membership met a fatal error: {reason}");
            self.tell(OwnershipEvent::Fatal(reason));
            return true;
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && !self.down {
            self.down = true;
            self.tell(OwnershipEvent::BrokersDown(plain(error)));
        }
        false
    }

    /// Passes rebalances on, in order; false when nobody listens any more.
    fn pass_on(&mut self) -> bool {
        let moved = std::mem::take(&mut *self.consumer.context().moved.lock().unwrap_or_else(PoisonError::into_inner));
        for event in moved {
            match &event {
                OwnershipEvent::Assigned(shard) => {
                    self.owned.insert(*shard);
                }
                OwnershipEvent::Revoked(shard) => {
                    self.owned.remove(shard);
                }
                OwnershipEvent::BrokersDown(_) | OwnershipEvent::BrokersUp | OwnershipEvent::Fatal(_) => {}
            }
            if !self.tell(event) {
                return false;
            }
        }
        true
    }

    /// False when nobody asks any more.
    fn serve(&mut self) -> bool {
        loop {
            let request = match self.requested.recv_timeout(Duration::ZERO) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            };
            // Whoever asked may have gone; then nobody misses the answer.
            match request {
                Request::Claim { shard, address, answer } => drop(answer.send(self.claim(shard, &address))),
                Request::Owner { shard, answer } => drop(answer.send(self.owner(shard))),
            }
        }
    }

    fn claim(&self, shard: u32, address: &str) -> Result<(), KafkaFault> {
        let not_owner = |detail: String| KafkaFault::NotOwner { shard, detail };
        if !self.owned.contains(&shard) {
            return Err(not_owner("it is not assigned".into()));
        }
        let partition = i32::try_from(shard).unwrap_or(i32::MAX);
        // Any offset would do; the end is the one that no tool shows as lag.
        let end = self.consumer.fetch_watermarks(&self.topic, partition, ASK).map_or(0, |(_, end)| end);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition).set_metadata(address);
        list.set_partition_offset(&self.topic, partition, Offset::Offset(end))
            .map_err(|error| KafkaFault::failed("claiming a shard", &error))?;
        match self.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.consumer.context().inner.reached();
                Ok(())
            }
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::AssignmentLost,
                ) => Err(not_owner(plain(&error))),
                // The broker makes none by itself, and a term that cannot begin makes none either.
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Err(KafkaFault::Topic {
                    topic: self.topic.clone(),
                    problem: "is gone, and with it the state: restore it, or start anew with another `kafka.group`".into(),
                }),
                Some(_) | None => Err(KafkaFault::failed("claiming a shard", &error)),
            },
        }
    }

    fn owner(&self, shard: u32) -> Result<Option<String>, KafkaFault> {
        let partition = i32::try_from(shard).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let found =
            self.consumer.committed_offsets(list, ASK).map_err(|error| KafkaFault::failed("asking for the owner", &error))?;
        let metadata = found.find_partition(&self.topic, partition).map(|entry| entry.metadata().to_owned());
        Ok(metadata.filter(|address| !address.is_empty()))
    }

    /// librdkafka tells when brokers are lost, not when they are back.
    fn probe(&mut self) {
        if !self.down || clock::mono().since_ms(self.probed) < PROBE_MS {
            return;
        }
        self.probed = clock::mono();
        if self.consumer.fetch_metadata(Some(&self.topic), Duration::from_millis(500)).is_ok() {
            self.down = false;
            self.status.up(ROLE);
            self.tell(OwnershipEvent::BrokersUp);
        }
    }

    fn tell(&self, event: OwnershipEvent) -> bool {
        self.events.blocking_send(event).is_ok()
    }
}

/// Assigns at the end and paused, and remembers what moved until the poll is over.
#[derive(Debug)]
struct MemberContext {
    inner: StageContext,
    moved: Mutex<Vec<OwnershipEvent>>,
}

impl MemberContext {
    fn take(consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        list.set_all_offsets(Offset::End)?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list)?,
        }
        consumer.pause(list)
    }

    fn give(consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        }
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let shards: Vec<u32> = list.elements().iter().filter_map(|entry| u32::try_from(entry.partition()).ok()).collect();
        let outcome = if assigned { Self::take(consumer, list) } else { Self::give(consumer, list) };
        if let Err(error) = outcome {
            tracing::warn!("the group's assignment could not be followed: {}", plain(&error));
        }
        // A session that timed out revokes too, without any broker.
        if assigned {
            self.inner.reached();
        }
        let event = if assigned { OwnershipEvent::Assigned } else { OwnershipEvent::Revoked };
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).extend(shards.into_iter().map(event));
    }
}
