//! A model of Kafka, as far as the stage can tell: source partitions with gaps, a state log in bytes, letters, offsets,
//! and transactions that happen whole or not at all.

use std::collections::BTreeMap;

use crate::codec;
use crate::engine::{Beginning, PartitionBeginning, output::Commit};
use crate::model::{
    dead_letter::DeadLetter,
    event::SourceRecord,
    position::{NextOffset, PartitionId, Position},
    state::{Header, StateChange, StateKey, StateValue},
    time::Mono,
};

/// One partition of the source.
#[derive(Debug, Clone, Default)]
struct SourcePartition {
    records: Vec<SourceRecord>,
    log_start: i64,
    log_end: i64,
}

/// One record of the state topic, as bytes.
type StateRecord = (Vec<u8>, Option<Vec<u8>>);

/// The cluster.
#[derive(Debug, Clone, Default)]
pub struct Broker {
    source: BTreeMap<PartitionId, SourcePartition>,
    state: Vec<StateRecord>,
    committed: BTreeMap<PartitionId, i64>,
    letters: Vec<DeadLetter>,
    /// The header that was committed last.
    header: Option<Header>,
    epoch: u32,
}

impl Broker {
    /// A cluster whose source partitions begin at these offsets.
    #[must_use]
    pub fn new(starts: &[NextOffset]) -> Self {
        let partition = |next: &NextOffset| SourcePartition { records: Vec::new(), log_start: next.offset, log_end: next.offset };
        Self { source: starts.iter().map(|next| (next.partition, partition(next))).collect(), ..Self::default() }
    }

    /// The state topic holds this record from the beginning.
    pub fn hold(&mut self, key: &StateKey, value: &StateValue) {
        let mut bytes = Vec::new();
        codec::state::encode_value(value, &mut bytes);
        self.state.push((codec::state::encode_key(key), Some(bytes)));
    }

    /// Appends a record behind a gap of `gap` offsets (what transaction markers and compaction leave), and says where.
    pub fn append(&mut self, partition: PartitionId, gap: u8, mut record: SourceRecord) -> Position {
        let log = self.source.entry(partition).or_default();
        let position = Position { partition, offset: log.log_end + i64::from(gap) };
        record.position = position;
        log.log_end = position.offset + 1;
        log.records.push(record);
        position
    }

    /// Ends a partition with a gap, as the marker of a producer's transaction does.
    pub fn append_marker(&mut self, partition: PartitionId) {
        self.source.entry(partition).or_default().log_end += 1;
    }

    /// Records of a partition from an offset on, at most `max`, and where the reader stands after them.
    #[must_use]
    pub fn read(&self, from: NextOffset, max: usize) -> (Vec<SourceRecord>, NextOffset) {
        let Some(log) = self.source.get(&from.partition) else { return (Vec::new(), from) };
        let first = log.records.partition_point(|record| record.position.offset < from.offset);
        let records: Vec<SourceRecord> = log.records.iter().skip(first).take(max).cloned().collect();
        let offset = match records.last() {
            Some(last) if first + records.len() < log.records.len() => last.position.offset + 1,
            Some(_) | None => log.log_end.max(from.offset),
        };
        (records, NextOffset { partition: from.partition, offset })
    }

    /// The ends of all partitions.
    #[must_use]
    pub fn ends(&self) -> Vec<NextOffset> {
        self.source.iter().map(|(partition, log)| NextOffset { partition: *partition, offset: log.log_end }).collect()
    }

    /// Committed offsets.
    #[must_use]
    pub fn committed(&self) -> &BTreeMap<PartitionId, i64> {
        &self.committed
    }

    /// Whether everything in the source is committed.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.source.iter().all(|(partition, log)| {
            log.log_end == log.log_start || self.committed.get(partition).is_some_and(|offset| *offset == log.log_end)
        })
    }

    /// The header that was committed last.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Dead letters, in their order.
    #[must_use]
    pub fn letters(&self) -> &[DeadLetter] {
        &self.letters
    }

    /// `init_transactions`: whoever had the shard's producer before is fenced. The new producer's epoch.
    pub fn fence(&mut self) -> u32 {
        self.epoch += 1;
        self.epoch
    }

    /// The epoch of the producer that may still commit.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// One transaction. With offsets that lie outside the log, or before those that are committed, nothing happens.
    ///
    /// # Errors
    /// What is wrong with the offsets.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), String> {
        for next in &commit.offsets {
            let Some(log) = self.source.get(&next.partition) else {
                return Err(format!("committed an offset of partition {}, which does not exist", next.partition.0));
            };
            if next.offset < log.log_start || next.offset > log.log_end {
                return Err(format!(
                    "committed offset {} of partition {}, outside the log {}..{}",
                    next.offset, next.partition.0, log.log_start, log.log_end
                ));
            }
            if let Some(before) = self.committed.get(&next.partition)
                && next.offset < *before
            {
                return Err(format!("committed offset {} of partition {}, back from {before}", next.offset, next.partition.0));
            }
        }
        for change in &commit.changes {
            if let Some(StateValue::Header(header)) = &change.value {
                self.header = Some(header.clone());
            }
            let value = change.value.as_ref().map(|value| {
                let mut bytes = Vec::new();
                codec::state::encode_value(value, &mut bytes);
                bytes
            });
            self.state.push((codec::state::encode_key(&change.key), value));
        }
        self.letters.extend(commit.letters.iter().cloned());
        self.committed.extend(commit.offsets.iter().map(|next| (next.partition, next.offset)));
        Ok(())
    }

    /// The state topic as a new owner reads it; `compacted` leaves the newest record of each key alone.
    ///
    /// # Errors
    /// A record that the codec cannot read back.
    pub fn restore(&self, compacted: bool) -> Result<Vec<StateChange>, String> {
        let newest: BTreeMap<&[u8], usize> =
            self.state.iter().enumerate().map(|(index, (key, _))| (key.as_slice(), index)).collect();
        let kept =
            self.state.iter().enumerate().filter(|(index, (key, _))| !compacted || newest.get(key.as_slice()) == Some(index));
        kept.map(|(_, (key, value))| {
            codec::state::decode(key, value.as_deref()).map_err(|fault| format!("a state record cannot be read back: {fault}"))
        })
        .collect()
    }

    /// What a term begins from, with the offsets that it fetched.
    #[must_use]
    pub fn beginning(&self, offsets: &BTreeMap<PartitionId, i64>, fenced_at: Mono) -> Beginning {
        let settled_hash = |id: PartitionId, log: &SourcePartition| {
            let settled = self.header.as_ref()?.partition(id)?.last_settled?;
            log.records.iter().find(|record| record.position.offset == settled.offset).map(|record| record.hash)
        };
        let partitions = self.source.iter().map(|(partition, log)| {
            let committed = offsets.get(partition);
            PartitionBeginning {
                start: NextOffset { partition: *partition, offset: committed.copied().unwrap_or(log.log_start) },
                committed: committed.is_some(),
                log_start: log.log_start,
                log_end: log.log_end,
                settled_hash: settled_hash(*partition, log),
            }
        });
        Beginning { partitions: partitions.collect(), fenced_at }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::output::CommitId;
    use crate::model::{event::RecordContent, time::UnixMillis};

    use super::*;

    const P0: PartitionId = PartitionId(0);

    fn next(offset: i64) -> NextOffset {
        NextOffset { partition: P0, offset }
    }

    fn record() -> SourceRecord {
        SourceRecord {
            position: Position::default(),
            timestamp: UnixMillis(0),
            hash: 1,
            content: RecordContent::Erasure { profile_id: "p".into() },
        }
    }

    fn commit(offset: i64, written_at: i64) -> Commit {
        let header = Header { format: 1, written_at: UnixMillis(written_at), ..Header::default() };
        Commit {
            commit: CommitId(0),
            changes: vec![StateChange { key: StateKey::Header, value: Some(StateValue::Header(header)) }],
            letters: Vec::new(),
            offsets: vec![next(offset)],
        }
    }

    #[test]
    fn a_reader_passes_gaps_and_markers() {
        let mut broker = Broker::new(&[next(10)]);
        for gap in [0, 2, 0] {
            broker.append(P0, gap, record());
        }
        broker.append_marker(P0);
        let (records, at) = broker.read(next(10), 2);
        assert_eq!(records.iter().map(|record| record.position.offset).collect::<Vec<_>>(), [10, 13]);
        assert_eq!(at, next(14));
        let (records, at) = broker.read(at, 2);
        assert_eq!((records.len(), at), (1, next(16)));
        assert_eq!(broker.read(at, 2), (Vec::new(), next(16)));
    }

    #[test]
    fn a_transaction_is_whole_or_nothing_and_offsets_never_go_back() {
        let mut broker = Broker::new(&[next(0)]);
        broker.append(P0, 0, record());
        assert!(broker.commit(&commit(2, 1)).is_err());
        assert_eq!(broker.restore(false).map(|changes| changes.len()), Ok(0));
        assert_eq!(broker.commit(&commit(1, 2)), Ok(()));
        assert!(broker.is_caught_up());
        assert!(broker.commit(&commit(0, 3)).is_err());
        assert_eq!(broker.commit(&commit(1, 4)), Ok(()));
        let [all, compacted] = [false, true].map(|compacted| broker.restore(compacted).unwrap_or_default());
        assert_eq!((all.len(), compacted.len()), (2, 1));
        assert_eq!(all.last(), compacted.last());
        assert_eq!(broker.beginning(broker.committed(), Mono(5)).partitions[0].start, next(1));
    }
}
