//! The watermark of each source partition: below it everything is settled.
//!
//! Why: it follows *delivered* records, never arithmetic on offsets, because offsets have gaps; and the first
//! unsettled record holds it, however many later ones are done.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{
    position::{NextOffset, PartitionId, Position},
    state::{PartitionHeader, SettledRecord},
    time::UnixMillis,
};

use super::planted::{Bug, planted};

/// Names one delivered record until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    slot: u32,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    record: SettledRecord,
    /// How many changes still need this record.
    holds: u32,
}

#[derive(Debug)]
struct Partition {
    id: PartitionId,
    entries: VecDeque<Entry>,
    /// Sequence of the front entry.
    first: u64,
    reader: i64,
    last_settled: Option<SettledRecord>,
}

impl Partition {
    fn watermark(&self) -> i64 {
        if planted(Bug::WatermarkOfHighest)
            && let Some(done) = self.entries.iter().rev().find(|entry| entry.holds == 0)
        {
            return done.record.offset + 1;
        }
        self.entries.front().map_or(self.reader, |entry| entry.record.offset)
    }
}

/// All partitions of the source.
#[derive(Debug, Default)]
pub struct Acks {
    partitions: Vec<Partition>,
    slots: BTreeMap<PartitionId, u32>,
    unsettled: u64,
}

impl Acks {
    /// Begins to follow a partition from `next` on.
    pub fn begin(&mut self, next: NextOffset, last_settled: Option<SettledRecord>) {
        if self.slots.contains_key(&next.partition) {
            return;
        }
        self.slots.insert(next.partition, super::limits::count(self.partitions.len()));
        self.partitions.push(Partition {
            id: next.partition,
            entries: VecDeque::new(),
            first: 0,
            reader: next.offset,
            last_settled,
        });
    }

    /// A record was delivered. It is held once; `None` if it was delivered before or its partition is not followed.
    pub fn deliver(&mut self, position: Position, timestamp: UnixMillis, hash: u64) -> Option<Token> {
        let slot = *self.slots.get(&position.partition)?;
        let partition = &mut self.partitions[slot as usize];
        if position.offset < partition.reader {
            return None;
        }
        partition.reader = position.offset + 1;
        let sequence = partition.first + partition.entries.len() as u64;
        partition.entries.push_back(Entry { record: SettledRecord { offset: position.offset, timestamp, hash }, holds: 1 });
        self.unsettled += 1;
        Some(Token { slot, sequence })
    }

    /// The reader stands here, past gaps and transaction markers.
    pub fn reader_at(&mut self, next: NextOffset) {
        if let Some(slot) = self.slots.get(&next.partition) {
            let partition = &mut self.partitions[*slot as usize];
            partition.reader = partition.reader.max(next.offset);
        }
    }

    /// One more change needs this record.
    pub fn hold(&mut self, token: Token) {
        let partition = &mut self.partitions[token.slot as usize];
        let index = usize::try_from(token.sequence - partition.first).unwrap_or(usize::MAX);
        partition.entries[index].holds += 1;
    }

    /// One change less needs this record; at none it is settled. True when the watermark moved.
    pub fn settle(&mut self, token: Token) -> bool {
        let partition = &mut self.partitions[token.slot as usize];
        let index = usize::try_from(token.sequence - partition.first).unwrap_or(usize::MAX);
        let entry = &mut partition.entries[index];
        assert!(entry.holds > 0, "a record is settled once for each hold");
        entry.holds -= 1;
        let mut moved = false;
        while let Some(front) = partition.entries.front() {
            if front.holds > 0 {
                break;
            }
            partition.last_settled = Some(front.record);
            partition.entries.pop_front();
            partition.first += 1;
            self.unsettled -= 1;
            moved = true;
        }
        moved
    }

    /// Where a record lies that is not settled.
    #[must_use]
    pub fn position(&self, token: Token) -> Position {
        let partition = &self.partitions[token.slot as usize];
        let index = usize::try_from(token.sequence - partition.first).unwrap_or(usize::MAX);
        Position { partition: partition.id, offset: partition.entries[index].record.offset }
    }

    /// Delivered records at or above a watermark.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// Where the reader stands in a partition.
    #[must_use]
    pub fn reader(&self, id: PartitionId) -> Option<i64> {
        self.slots.get(&id).map(|slot| self.partitions[*slot as usize].reader)
    }

    /// The watermark of a partition.
    #[must_use]
    pub fn watermark(&self, id: PartitionId) -> Option<i64> {
        self.slots.get(&id).map(|slot| self.partitions[*slot as usize].watermark())
    }

    /// The watermarks of all partitions.
    #[must_use]
    pub fn watermarks(&self) -> Vec<NextOffset> {
        self.partitions.iter().map(|p| NextOffset { partition: p.id, offset: p.watermark() }).collect()
    }

    /// Where the reader stands in all partitions.
    #[must_use]
    pub fn readers(&self) -> Vec<NextOffset> {
        self.partitions.iter().map(|p| NextOffset { partition: p.id, offset: p.reader }).collect()
    }

    /// The header's entries.
    #[must_use]
    pub fn headers(&self) -> Vec<PartitionHeader> {
        self.partitions
            .iter()
            .map(|p| PartitionHeader {
                next: NextOffset { partition: p.id, offset: p.watermark() },
                last_settled: p.last_settled,
            })
            .collect()
    }

    /// All partitions followed.
    pub fn ids(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.iter().map(|partition| partition.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: PartitionId = PartitionId(3);

    fn acks(start: i64) -> Acks {
        let mut acks = Acks::default();
        acks.begin(NextOffset { partition: P, offset: start }, None);
        acks
    }

    fn deliver(acks: &mut Acks, offset: i64) -> Option<Token> {
        acks.deliver(Position { partition: P, offset }, UnixMillis(offset), 0)
    }

    #[test]
    fn gaps_do_not_hold_and_markers_are_passed() {
        let mut acks = acks(10);
        let token = deliver(&mut acks, 14).expect("new");
        assert_eq!(acks.watermark(P), Some(14));
        acks.settle(token);
        assert_eq!(acks.watermark(P), Some(15));
        acks.reader_at(NextOffset { partition: P, offset: 17 });
        assert_eq!(acks.watermark(P), Some(17));
        assert!(deliver(&mut acks, 16).is_none(), "delivered again");
    }

    proptest! {
        #[test]
        fn the_watermark_is_the_first_unsettled_record(order in proptest::collection::vec(0usize..12, 0..60)) {
            let mut acks = acks(0);
            let offsets: Vec<i64> = (0..12).map(|i| i * 3 + 1).collect();
            let tokens: Vec<Token> = offsets.iter().filter_map(|offset| deliver(&mut acks, *offset)).collect();
            let mut open: Vec<bool> = vec![true; 12];
            for index in order {
                if open[index] {
                    open[index] = false;
                    acks.settle(tokens[index]);
                }
                let expected = open.iter().position(|open| *open).map_or(35, |first| offsets[first]);
                prop_assert_eq!(acks.watermark(P), Some(expected));
            }
        }
    }
}
