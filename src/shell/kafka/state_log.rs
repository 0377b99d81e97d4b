//! A shard's partition of the state topic, read from its beginning to its end.

use std::time::Duration;

use rdkafka::{Message as _, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError, types::RDKafkaErrorCode};

use crate::{codec::state, model::state::StateChange, shell::clock};

use super::{
    client::{Consuming, StageContext, Stop},
    fault::KafkaFault,
    settings::KafkaSettings,
    status::KafkaStatus,
};

const ASK: Duration = Duration::from_secs(10);
/// How long the wait for the end, and each stall of reading, may take.
const STALLED_MS: u64 = 60_000;
const DOING: &str = "reading the state";

/// The partition, and the clients that read it.
pub(super) struct StateLog<'a> {
    pub(super) topic: &'a str,
    pub(super) shard: u32,
    /// Sees what is committed.
    pub(super) reader: &'a Consuming<StageContext>,
    /// Sees what is not, too.
    pub(super) inspector: &'a Consuming<StageContext>,
    pub(super) stop: &'a Stop,
}

impl StateLog<'_> {
    fn partition(&self) -> i32 {
        i32::try_from(self.shard).unwrap_or(i32::MAX)
    }

    /// Waits until what is committed reaches the uncommitted end of now, so that nothing is hidden behind a transaction that
    /// is being aborted; gives that end.
    pub(super) fn settled_end(&self) -> Result<i64, KafkaFault> {
        let (topic, partition) = (self.topic, self.partition());
        let end = self.inspector.fetch_watermarks(topic, partition, ASK).map_err(failed)?.1;
        let began = clock::mono();
        while self.reader.fetch_watermarks(topic, partition, ASK).map_err(failed)?.1 < end {
            self.stop.check()?;
            if clock::mono().since_ms(began) > STALLED_MS {
                return Err(KafkaFault::Failed {
                    doing: DOING,
                    detail: format!(
                        "a transaction in partition {partition} of `{topic}` stays open: something else writes there"
                    ),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(end)
    }

    /// Reads everything below `end`, oldest first, by `position()`: the last offset may be a transaction marker, which is no
    /// record. `take` gets each change and the bytes of its record.
    pub(super) fn read(
        &self,
        end: i64,
        mut take: impl FnMut(StateChange, usize) -> Result<(), KafkaFault>,
    ) -> Result<(), KafkaFault> {
        let (topic, partition) = (self.topic, self.partition());
        if end <= self.reader.fetch_watermarks(topic, partition, ASK).map_err(failed)?.0 {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
        self.reader.assign(&list).map_err(failed)?;
        let mut moved = clock::mono();
        loop {
            self.stop.check()?;
            match self.reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    moved = clock::mono();
                    let key = message.key().unwrap_or_default();
                    let change = state::decode(key, message.payload())
                        .map_err(|fault| KafkaFault::StateUnreadable { offset: message.offset(), fault })?;
                    take(change, key.len() + message.payload_len())?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let position = self.reader.position().map_err(failed)?;
                    let at = position.find_partition(topic, partition).and_then(|entry| entry.offset().to_raw());
                    if at.is_some_and(|at| at >= end) {
                        break;
                    }
                }
                Some(Err(error)) if !is_passing(&error) => return Err(failed(error)),
                Some(Err(_)) | None => {}
            }
            if clock::mono().since_ms(moved) > STALLED_MS {
                let detail = "nothing came for a minute before its end was reached".into();
                return Err(KafkaFault::Failed { doing: DOING, detail });
            }
        }
        self.reader.unassign().map_err(failed)
    }
}

/// Reads what is committed of a shard's state now, and changes nothing: no group is joined, nobody is fenced. `take` gets
/// each change, oldest first, and the bytes of its record.
///
/// # Errors
/// Brokers that do not answer, a topic that does not exist, a record that cannot be read.
pub fn read_state(settings: &KafkaSettings, shard: u32, mut take: impl FnMut(StateChange, usize)) -> Result<(), KafkaFault> {
    let (status, stop) = (KafkaStatus::default(), Stop::default());
    let role = format!("a look at the state of shard {shard}");
    let reader: Consuming<StageContext> = Consuming::new(&settings.reader(shard), &role, &status)?;
    let log = StateLog { topic: &settings.state_topic, shard, reader: &reader, inspector: &reader, stop: &stop };
    let end = log.settled_end()?;
    log.read(end, |change, size_bytes| {
        take(change, size_bytes);
        Ok(())
    })
}

fn failed(error: KafkaError) -> KafkaFault {
    KafkaFault::failed(DOING, &error)
}

/// Errors that librdkafka gets over by itself.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
        )
    )
}
