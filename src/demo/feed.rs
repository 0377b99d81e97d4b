//! The platform's side of the demo: produces the workload into the mock cluster, never far ahead of the stage.
//!
//! Why never far: the mock cluster keeps 5 MiB of a partition and drops what is older without a word, read or not.

use std::collections::VecDeque;

use rdkafka::error::KafkaResult;

use crate::model::position::NextOffset;

use super::{
    delivery::{self, Deliveries, Producer},
    fold::Fold,
    person,
    render::Renderer,
    workload::{Content, Record, Step, Workload},
};

/// Bytes of a partition that the stage has not read yet.
const UNREAD_BYTES_MAX: u64 = 2 << 20;
/// What a record takes beside its key and value, generously.
const RECORD_OVERHEAD_BYTES: u64 = 32;
/// How exactly it is known how many bytes lie before an offset.
const RECORDS_PER_MARK: i64 = 64;
/// Records of one turn: the caller has other things to look at.
const RECORDS_PER_TURN: u32 = 20_000;

/// One partition, as far as it was produced and read.
#[derive(Debug, Default)]
struct Lane {
    next: i64,
    produced_bytes: u64,
    /// Offsets, and the bytes before each.
    marks: VecDeque<(i64, u64)>,
    /// Bytes that were read for sure.
    read_bytes: u64,
}

impl Lane {
    fn read_up_to(&mut self, offset: i64) {
        while let Some((_, bytes)) = self.marks.pop_front_if(|(mark, _)| *mark <= offset) {
            self.read_bytes = bytes;
        }
        if offset >= self.next {
            self.read_bytes = self.produced_bytes;
        }
    }

    const fn has_room(&self, bytes: u64) -> bool {
        self.produced_bytes - self.read_bytes + bytes < UNREAD_BYTES_MAX
    }

    fn produced(&mut self, bytes: u64) {
        self.next += 1;
        self.produced_bytes += bytes;
        if self.next % RECORDS_PER_MARK == 0 {
            self.marks.push_back((self.next, self.produced_bytes));
        }
    }
}

/// Produces a workload, and folds what it produced.
pub struct Feed {
    workload: Workload,
    held: Option<Step>,
    renderer: Renderer,
    fold: Fold,
    producer: Producer,
    deliveries: Deliveries,
    topic: String,
    lanes: Vec<Lane>,
    milestones: Vec<Vec<i64>>,
    records: u64,
    undecodable: u64,
    ended: bool,
}

impl Feed {
    /// A feed at its beginning.
    ///
    /// # Errors
    /// The producer cannot be made.
    pub fn new(
        brokers: &str,
        topic: &str,
        partitions: usize,
        workload: Workload,
        renderer: Renderer,
        fold: Fold,
    ) -> KafkaResult<Self> {
        let deliveries = Deliveries::new(partitions);
        Ok(Self {
            workload,
            held: None,
            renderer,
            fold,
            producer: delivery::producer(brokers, &deliveries)?,
            deliveries,
            topic: topic.to_owned(),
            lanes: (0..partitions).map(|_| Lane::default()).collect(),
            milestones: Vec::new(),
            records: 0,
            undecodable: 0,
            ended: false,
        })
    }

    /// Produces as much as may lie unread, given how far the stage has read and what it has committed.
    ///
    /// # Errors
    /// The producer refuses a record for good.
    pub fn turn(&mut self, read: &[NextOffset], committed: &[NextOffset]) -> KafkaResult<()> {
        for next in read {
            if let Some(lane) = usize::try_from(next.partition.0).ok().and_then(|at| self.lanes.get_mut(at)) {
                lane.read_up_to(next.offset);
            }
        }
        for _ in 0..RECORDS_PER_TURN {
            let Some(step) = self.held.take().or_else(|| self.workload.next()) else {
                self.ended = true;
                return Ok(());
            };
            let goes_on = match step {
                Step::Record(record) => self.produce(&record)?,
                Step::Milestone => {
                    self.milestones.push(self.lanes.iter().map(|lane| lane.next).collect());
                    true
                }
                Step::Await(milestone) => self.is_committed(milestone, committed),
            };
            if !goes_on {
                self.held = Some(step);
                return Ok(());
            }
        }
        Ok(())
    }

    /// False when there is no room for the record yet.
    fn produce(&mut self, record: &Record) -> KafkaResult<bool> {
        self.renderer.render(record);
        let (key, value) = (&self.renderer.key, &self.renderer.value);
        let partition = person::partition(key, self.lanes.len());
        let lane = &mut self.lanes[partition];
        let bytes = (key.len() + value.len()) as u64 + RECORD_OVERHEAD_BYTES;
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        if !lane.has_room(bytes) || !delivery::send(&self.producer, &self.topic, Some(number), key, value)? {
            return Ok(false);
        }
        lane.produced(bytes);
        self.fold.record(record);
        self.records += 1;
        self.undecodable += u64::from(matches!(record.content, Content::Undecodable(_)));
        Ok(true)
    }

    fn is_committed(&self, milestone: usize, committed: &[NextOffset]) -> bool {
        let offset = |partition: usize| {
            let of = committed.iter().find(|next| usize::try_from(next.partition.0) == Ok(partition));
            of.map_or(0, |next| next.offset)
        };
        self.milestones.get(milestone).is_some_and(|ends| ends.iter().enumerate().all(|(at, end)| offset(at) >= *end))
    }

    /// True when everything was handed over and the brokers have confirmed it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended && self.deliveries.written() == self.records
    }

    /// Why a record was not written, if that happened.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.deliveries.failure()
    }

    /// Offsets produced, as the brokers confirmed them, summed over the partitions.
    #[must_use]
    pub fn offsets_produced(&self) -> u64 {
        sum(self.deliveries.ends().into_iter())
    }

    /// Records handed over so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// How many of them nobody can decode.
    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Who should be on which list by now. The producer ends.
    #[must_use]
    pub fn into_fold(self) -> Fold {
        self.fold
    }
}

/// A sum of offsets.
#[must_use]
pub fn sum(offsets: impl Iterator<Item = i64>) -> u64 {
    offsets.map(|offset| u64::try_from(offset).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_window_lies_unread() {
        let (mut lane, bytes) = (Lane::default(), 1_000);
        let fill = |lane: &mut Lane| {
            let mut count = 0;
            while lane.has_room(bytes) {
                lane.produced(bytes);
                count += 1;
            }
            count
        };
        let first = fill(&mut lane);
        assert_eq!(first, 2_097, "2 MiB of records of 1,000 bytes");
        lane.read_up_to(1_000);
        let more = fill(&mut lane);
        assert!((1_000 - RECORDS_PER_MARK..=1_000).contains(&more), "as much as was read, and never more: {more}");
        lane.read_up_to(lane.next);
        assert_eq!(fill(&mut lane), first, "all was read");
    }
}
