//! The order among the partitions of the source, which grows.
//!
//! A profile may move to a partition that the source gains. Its older events then lie in an older partition, below the end
//! that this one had when the gained one was first seen to hold something: whoever wrote to the one writes to the other no
//! more. So a gained partition is not read before the older ones are *settled* up to those ends. Settled, and not read
//! alone, because the transaction that first tells of an event of the gained partition then commits the older ones beyond
//! everything that came before it: no later term reads those again, behind its back. The ends stay in the header for as long
//! as the source has events below them: a term that ends while a partition waits begins waiting again, and what is
//! read again from the source's start is read in the same order.
//!
//! What it gained is often seen at one time. Where it grew more than once until then, profiles moved among the gained ones
//! too, so that these are put in an order of their own: see [`Engine::order_behind`].
//!
//! What this cannot know: a producer that learns of the gained partitions later than another writes beyond those ends
//! first. Its profiles are folded as they are read, and a member keeps one position for each partition that it was fed from.
//! And a source that grows to other than a multiple of its partitions moves profiles between the older ones too, whose
//! order is that of reading.

use std::collections::BTreeSet;

use crate::model::{
    position::{NextOffset, PartitionId, Position},
    state::{Growth, Header},
};

use super::{
    Beginning, Engine, Event, Output,
    limits::count,
    membership::{MemberId, Membership},
    planted::{Bug, planted},
    reason::PauseReason,
};

/// How the source grew, and which of its partitions are not read yet.
#[derive(Debug, Default)]
pub(super) struct Order {
    growths: Vec<Growth>,
    waiting: BTreeSet<PartitionId>,
}

impl Order {
    /// Whether a partition is not read yet.
    pub(super) fn waits(&self, partition: PartitionId) -> bool {
        self.waiting.contains(&partition)
    }

    /// Whether an event of a profile is another, or came before it.
    pub(super) fn is_at_or_before(&self, event: Position, other: Position) -> bool {
        if event.partition == other.partition {
            return event.offset <= other.offset;
        }
        let ends_before =
            |growth: &Growth| growth.ends.iter().any(|end| end.partition == event.partition && event.offset < end.offset);
        self.growths.iter().any(|growth| growth.added.contains(&other.partition) && ends_before(growth))
    }

    /// Whether what is known of a member tells more than an event, or as much.
    pub(super) fn covers(&self, members: &Membership, id: MemberId, event: Position) -> bool {
        members.positions(id).any(|known| self.is_at_or_before(event, known))
    }

    /// How the source grew, as the header records it.
    pub(super) fn grown(&self) -> Vec<Growth> {
        self.growths.clone()
    }

    /// Partitions that are not read yet.
    pub(super) fn waiting(&self) -> Vec<PartitionId> {
        self.waiting.iter().copied().collect()
    }
}

/// What Kafka says of the source, less what it gained and nobody has written to: where the older partitions end when
/// somebody does is what counts.
pub(super) fn without_empty_gains(header: Option<&Header>, beginning: &Beginning) -> Beginning {
    let mut beginning = beginning.clone();
    beginning.partitions.retain(|partition| {
        let known = header.is_none_or(|header| header.partition(partition.start.partition).is_some());
        known || partition.committed || partition.log_start < partition.log_end
    });
    beginning
}

impl Engine {
    /// Takes the order from the header, and finds what the source has gained since.
    pub(super) fn begin_order(&mut self, header: Option<&Header>, beginning: &Beginning) {
        let Some(header) = header else { return };
        let partition = |id: PartitionId| beginning.partitions.iter().find(|partition| partition.start.partition == id);
        let has_older = |growth: &&Growth| {
            growth.ends.iter().any(|end| partition(end.partition).is_some_and(|partition| partition.log_start < end.offset))
        };
        self.order.growths = header.grown.iter().filter(has_older).cloned().collect();
        let gained = beginning.partitions.iter().filter(|partition| header.partition(partition.start.partition).is_none());
        let ends = beginning
            .partitions
            .iter()
            .map(|partition| NextOffset { partition: partition.start.partition, offset: partition.log_end });
        let added: Vec<PartitionId> = gained.map(|gained| gained.start.partition).collect();
        self.order.waiting = self.order.growths.iter().flat_map(|growth| growth.added.iter().copied()).collect();
        self.order_behind(added, ends.collect());
    }

    /// The source has gained partitions, which the reader does not read yet.
    pub(super) fn grow(&mut self, mut added: Vec<NextOffset>, ends: Vec<NextOffset>) {
        added.retain(|next| self.acks.reader(next.partition).is_none());
        added.iter().for_each(|next| self.acks.begin(*next, None));
        self.order_behind(added.into_iter().map(|next| next.partition).collect(), ends);
        self.journal.urgent = true;
    }

    /// Orders partitions behind the older ones, and those that may be younger behind the others: a source of `n` partitions
    /// that grows to a multiple moves profiles of partition `p`, which is below `n`, by `n` or more. So two of which one took
    /// profiles of the other are further apart than the lowest of them all is from 0.
    fn order_behind(&mut self, mut added: Vec<PartitionId>, ends: Vec<NextOffset>) {
        added.sort_unstable();
        self.order.waiting.extend(&added);
        let width = added.first().map_or(1, |first| first.0.max(1));
        for together in added.chunk_by(|one, other| one.0 / width == other.0 / width) {
            let older = |end: &&NextOffset| !added.contains(&end.partition) || end.partition < together[0];
            let ends = ends.iter().filter(older).copied().collect();
            self.order.growths.push(Growth { added: together.to_vec(), ends });
        }
        let may = self.may_be_read();
        let waiting = self.order.waiting.iter().filter(|partition| !may.contains(partition)).count();
        if waiting > 0 {
            self.emit(Event::PartitionsWait { partitions: count(waiting), reason: PauseReason::OlderPartitions });
        }
    }

    /// The partitions that wait, and have nothing to wait for any more.
    fn may_be_read(&self) -> Vec<PartitionId> {
        let passed = |end: &NextOffset| {
            let settled = self.acks.watermark(end.partition).is_none_or(|watermark| watermark >= end.offset);
            settled && self.has_read_again(*end) || planted(Bug::OrderOfPartitionsForgotten)
        };
        let held_back = |partition: PartitionId| {
            let mut growths = self.order.growths.iter().filter(|growth| growth.added.contains(&partition));
            growths.any(|growth| !growth.ends.iter().all(passed))
        };
        self.order.waiting.iter().copied().filter(|partition| !held_back(*partition)).collect()
    }

    /// Begins to read what has waited for older partitions, where these are settled as far as they had to be. Where all
    /// reading is paused, it goes on with the others.
    pub(super) fn read_waiting(&mut self) {
        if self.order.waiting.is_empty() || self.drain.is_some() {
            return;
        }
        let partitions = self.may_be_read();
        if partitions.is_empty() {
            return;
        }
        for partition in &partitions {
            self.order.waiting.remove(partition);
        }
        self.emit(Event::PartitionsBegun { partitions: count(partitions.len()) });
        if self.paused.is_none() {
            self.outputs.push_back(Output::Resume { partitions });
        }
    }

    /// Partitions that the source gained and that are not read yet: the reader begins with these paused.
    #[must_use]
    pub fn waiting_partitions(&self) -> Vec<PartitionId> {
        self.order.waiting()
    }
}
