//! Records of the source, read again: dead letters' originals that the letter does not carry, and what a term begins behind.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode,
};

use crate::{
    model::{
        dead_letter::{DeadLetter, LetterOriginal},
        event::RawRecord,
        position::Position,
    },
    shell::clock,
};

use super::{
    client::{Consuming, StageContext},
    fault::KafkaFault,
    settings::KafkaSettings,
    state_log::is_passing,
    status::KafkaStatus,
};

const POLL: Duration = Duration::from_millis(100);
/// How long one record may take before the commit, and with it the term, is given up.
const STALLED_MS: u64 = 10_000;
/// Reading on over this many records is cheaper than asking for another place.
const READ_ON: i64 = 1_000;
const DOING: &str = "reading records of the source again";

/// A copy of a record's own bytes.
pub(super) fn copy(message: &BorrowedMessage<'_>) -> RawRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    RawRecord { key: message.key().map(<[u8]>::to_vec), value: message.payload().map(<[u8]>::to_vec), headers }
}

/// The originals of the letters that do not carry them; `None` where the source has lost the record.
pub(super) fn originals(
    settings: &KafkaSettings,
    shard: u32,
    status: &KafkaStatus,
    letters: &[DeadLetter],
) -> Result<BTreeMap<Position, Option<RawRecord>>, KafkaFault> {
    let wanted = letters.iter().filter(|letter| letter.original == LetterOriginal::InSource).map(|letter| letter.position);
    records(settings, shard, status, wanted)
}

/// Records of the source, read again by their positions; `None` where the source has lost one.
pub(super) fn records(
    settings: &KafkaSettings,
    shard: u32,
    status: &KafkaStatus,
    wanted: impl IntoIterator<Item = Position>,
) -> Result<BTreeMap<Position, Option<RawRecord>>, KafkaFault> {
    let mut found: BTreeMap<Position, Option<RawRecord>> = wanted.into_iter().map(|position| (position, None)).collect();
    if found.is_empty() {
        return Ok(found);
    }
    let role = format!("the second look of shard {shard}");
    let consumer = Consuming::new(&settings.second_look(shard), &role, status)?;
    let mut at: Option<Position> = None;
    for (wanted, original) in &mut found {
        let near = at.is_some_and(|at| {
            at.partition == wanted.partition && at.offset <= wanted.offset && wanted.offset - at.offset <= READ_ON
        });
        if !near {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&settings.source_topic, wanted.partition.0, Offset::Offset(wanted.offset))
                .and_then(|()| consumer.assign(&list))
                .map_err(|error| KafkaFault::failed(DOING, &error))?;
        }
        let (record, next) = read(&consumer, *wanted)?;
        *original = record;
        at = next;
    }
    Ok(found)
}

/// The record at a position, and where the consumer stands if it may be read on from there.
fn read(consumer: &Consuming<StageContext>, wanted: Position) -> Result<(Option<RawRecord>, Option<Position>), KafkaFault> {
    let began = clock::mono();
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) if message.partition() == wanted.partition.0 && message.offset() >= wanted.offset => {
                // A later one: the wanted one is gone, and this one was taken from the stream; begin anew for the next.
                let exact = message.offset() == wanted.offset;
                let next = exact.then_some(Position { offset: wanted.offset + 1, ..wanted });
                return Ok((exact.then(|| copy(&message)), next));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) if partition == wanted.partition.0 => return Ok((None, None)),
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))) => {
                return Ok((None, None));
            }
            Some(Err(error)) if !is_passing(&error) => return Err(KafkaFault::failed(DOING, &error)),
            Some(Ok(_) | Err(_)) | None => {}
        }
        if clock::mono().since_ms(began) > STALLED_MS {
            return Err(KafkaFault::Failed { doing: DOING, detail: "the brokers do not answer in time".into() });
        }
    }
}
