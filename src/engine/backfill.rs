//! What is routed is part of the state: a configuration that routes more, or less, or again, is read for what it changes.
//!
//! A segment that is routed anew, and one whose mapping changed, is *read again*: the term's reader begins at the start of
//! the source, and what lies below the watermark counts for such segments alone. The export sends nothing meanwhile. When
//! the reader has passed everything that a record of the state may know of, the segments are *handed over*: a header
//! names them as routed, in one transaction with the last of their facts. A crash before that begins it again, which does
//! no harm, because entering and leaving are facts that can be said twice.
//!
//! What a source gained is read again behind the partitions that it had before, as it was read at first (see `order`): the
//! facts of a profile that moved are said in their order.
//!
//! Why one reader, and not a second beside it: reading costs seconds for millions of records, and that what lies behind
//! waits for so long is cheaper than two readers that have to meet at one offset.
//!
//! A segment that is routed no more is *stopped*: its facts stay in the state, so that a roll-back costs a reading, never
//! a gap, and whoever was on the list because of it alone leaves.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::model::{
    Text,
    catalog::{Backfill, ExportId, ListRef},
    hash::text_hash,
    position::{NextOffset, PartitionId, Position},
    state::{Header, RoutedExport, StoppedExport, StoppedSegment},
};

use super::{
    Beginning, Engine, Event, FenceHasher,
    membership::MemberId,
    planted::{Bug, planted},
    reason::HoldReason,
};

/// What this term routes, compared with what the state knows.
#[derive(Debug, Default)]
pub(super) struct Routing {
    /// Had been routed, and is not now: facts are kept.
    stopped: Vec<StoppedExport>,
    /// Exports with segments that are read again.
    again: BTreeMap<ExportId, Again>,
    /// For each partition that is not read far enough yet, where that is.
    until: BTreeMap<PartitionId, Reach>,
    /// Profiles whose address comes from an event that is older than their record: that event's position, by export and
    /// profile, hashed.
    taken: HashMap<u64, Position, FenceHasher>,
    /// Exports whose account is not the one that their facts are of.
    moved: Vec<ExportId>,
}

/// Segments of one export that are read again, as bits.
#[derive(Debug, Clone, Copy)]
struct Again {
    /// All of them.
    bits: u64,
    /// Those of them for which events below the watermark count.
    from_start: u64,
    /// Segments that were routed all along, with the mapping of now: what they say of an address is good.
    live: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reach {
    at: i64,
    until: i64,
}

/// What an event means for a member that may have been told of it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Nothing: the member's record covers it.
    Covered,
    /// Only what it says of its segment: a newer event tells the address.
    Facts,
    /// Everything.
    Everything,
}

impl Engine {
    /// Compares what the header says was routed with what the configuration routes, and says where to begin reading.
    pub(super) fn route_anew(&mut self, header: Option<&Header>, beginning: &Beginning) -> Vec<NextOffset> {
        let starts: Vec<NextOffset> = beginning.partitions.iter().map(|partition| partition.start).collect();
        // The first term of all: everything is read from where the source begins for it.
        let Some(header) = header else { return starts };
        self.routing.stopped.clone_from(&header.stopped);
        for routed in &header.routed {
            self.stop_or_keep(header, routed);
        }
        for id in self.export_ids() {
            if self.export(id).routed {
                self.read_again(header, id);
            }
        }
        self.begin_reading_again(beginning, starts)
    }

    /// Segments of an export that had been routed, and are not now.
    fn stop_or_keep(&mut self, header: &Header, routed: &RoutedExport) {
        let now = self.export_ids().find(|id| self.catalog.export(*id).name == routed.export);
        let now = now.filter(|id| self.export(*id).routed);
        let kept = now.filter(|id| self.place(*id).0 == routed.connection);
        if let Some(id) = now.filter(|_| kept.is_none()) {
            self.set_moved(id);
        }
        if let Some(id) = kept.filter(|id| self.place(*id).1 != routed.list) {
            self.begin_move(id, &routed.list);
        }
        let segments: Vec<&Text> = match kept {
            Some(id) => routed.segments.iter().filter(|name| !self.catalog.export(id).segments.contains(name)).collect(),
            None => routed.segments.iter().collect(),
        };
        // One that is gone leaves a word of where it was, though all its segments were just being read again.
        if segments.is_empty() && kept.is_some() {
            return;
        }
        let at: Vec<NextOffset> = header.partitions.iter().map(|partition| partition.next).collect();
        let stopped = segments.iter().map(|segment| StoppedSegment { segment: (*segment).clone(), at: at.clone() });
        let entry = self.routing.stopped.iter().position(|known| known.export == routed.export).unwrap_or_else(|| {
            self.routing.stopped.push(StoppedExport {
                export: routed.export.clone(),
                connection: routed.connection.clone(),
                list: routed.list.clone(),
                segments: Vec::new(),
            });
            self.routing.stopped.len() - 1
        });
        let stopped_before = &mut self.routing.stopped[entry];
        (stopped_before.connection, stopped_before.list) = (routed.connection.clone(), routed.list.clone());
        let known = &mut stopped_before.segments;
        known.retain(|known| !segments.contains(&&known.segment));
        known.extend(stopped);
        if !segments.is_empty() {
            let count = super::limits::count(segments.len());
            self.emit(Event::SegmentsStopped { export: routed.export.clone(), segments: count });
        }
    }

    /// Segments of an export that had not been routed, or with another mapping.
    fn read_again(&mut self, header: &Header, id: ExportId) {
        let name = &self.catalog.export(id).name;
        let was = header.routed.iter().find(|routed| routed.export == *name);
        let stopped = header.stopped.iter().find(|stopped| stopped.export == *name);
        let (connection, list) = self.place(id);
        if let Some(stopped) = stopped.filter(|_| was.is_none()) {
            if stopped.connection != connection {
                self.set_moved(id);
                return;
            }
            if stopped.list != list {
                self.begin_move(id, &stopped.list);
            }
        }
        let export = self.catalog.export(id);
        // For another list all rows are told anew: what was applied says nothing of them.
        let live = was.filter(|was| was.mapping_hash == export.mapping.hash && was.list == list);
        let (mut bits, mut live_bits) = (0_u64, 0_u64);
        for (bit, segment) in export.segments.iter().enumerate() {
            let has = |stopped: &StoppedExport| stopped.segments.iter().any(|known| known.segment == *segment);
            let filtered = planted(Bug::OlderConfigurationFilters) && stopped.is_some_and(has);
            let is_live = filtered || live.is_some_and(|live| live.segments.contains(segment));
            if is_live { live_bits |= 1 << bit } else { bits |= 1 << bit }
        }
        if bits == 0 {
            return;
        }
        let from_start = match export.backfill {
            Backfill::FromSource if planted(Bug::NeverReadAgain) => 0,
            Backfill::FromSource => bits,
            // What is known already is not made less by it: its rows have to fit the mapping of now.
            Backfill::None => 0,
        };
        self.routing.again.insert(id, Again { bits, from_start, live: live_bits });
    }

    /// Where reading begins, and how far it is for the state to be told.
    fn begin_reading_again(&mut self, beginning: &Beginning, mut starts: Vec<NextOffset>) -> Vec<NextOffset> {
        if self.routing.again.is_empty() {
            return starts;
        }
        let from_start = self.routing.again.values().any(|again| again.from_start != 0);
        // A record may know of events beyond the watermark. While the header does not name the segments, such a record is not
        // believed of them; so they are handed over only once all of those were read.
        let mut known: BTreeMap<PartitionId, i64> = BTreeMap::new();
        for id in self.routing.again.keys() {
            let members = &self.export(*id).members;
            for position in members.members().flat_map(|(member, _)| members.positions(member)) {
                let next = known.entry(position.partition).or_insert(i64::MIN);
                *next = (*next).max(position.offset + 1);
            }
        }
        let mut records = 0;
        for (start, partition) in starts.iter_mut().zip(&beginning.partitions) {
            if from_start {
                start.offset = partition.log_start.min(start.offset);
            }
            let until = known.get(&start.partition).copied().unwrap_or(i64::MIN).max(partition.start.offset);
            if start.offset < until {
                records += u64::try_from(until - start.offset).unwrap_or_default();
                self.routing.until.insert(start.partition, Reach { at: start.offset, until });
            }
        }
        for (id, again) in self.routing.again.clone() {
            let export = self.catalog.export(id).name.clone();
            let lost = self.routing.stopped.iter().filter(|stopped| stopped.export == export).any(|stopped| {
                let at = stopped.segments.iter().flat_map(|segment| &segment.at);
                at.into_iter().any(|at| {
                    let start = beginning.partitions.iter().find(|partition| partition.start.partition == at.partition);
                    start.is_some_and(|partition| partition.log_start > at.offset)
                })
            });
            self.emit(Event::BackfillBegan { export: id, segments: again.bits.count_ones(), records, lost });
        }
        if self.routing.until.is_empty() {
            self.hand_over();
        }
        starts
    }

    fn set_moved(&mut self, id: ExportId) {
        if !self.routing.moved.contains(&id) {
            self.routing.moved.push(id);
        }
        // Its events are not routed, so that its facts stay what they are.
        self.export_mut(id).routed = false;
    }

    /// An export's connection and list, as a header names them.
    fn place(&self, id: ExportId) -> (Text, Text) {
        let export = self.catalog.export(id);
        let list = match &export.list {
            ListRef::Id(id) => compact_str::format_compact!("{id}"),
            ListRef::Named { name, .. } => compact_str::format_compact!("name:{name}"),
        };
        (self.catalog.connection(export.connection).name.clone(), list)
    }

    /// Whether something is read again.
    pub(super) fn reads_again(&self) -> bool {
        !self.routing.until.is_empty()
    }

    /// Whether a record that lies below the watermark is read because of some segment.
    pub(super) fn is_read_again(&self, position: Position) -> bool {
        self.routing.until.contains_key(&position.partition)
    }

    /// Whether everything below `end` that is read again was read.
    pub(super) fn has_read_again(&self, end: NextOffset) -> bool {
        self.routing.until.get(&end.partition).is_none_or(|reach| reach.at >= end.offset)
    }

    /// Records that are still to be read before everything is handed over.
    pub(super) fn left_to_read(&self) -> u64 {
        let left = self.routing.until.values().map(|reach| u64::try_from(reach.until - reach.at).unwrap_or_default());
        left.sum()
    }

    /// Why an export does not send for its routing's sake.
    pub(super) fn routing_hold(&self, id: ExportId) -> Option<HoldReason> {
        if self.routing.moved.contains(&id) {
            return Some(HoldReason::ConnectionChanged);
        }
        self.routing.again.contains_key(&id).then_some(HoldReason::Backfill)
    }

    /// What an event says to a member (or to a profile without one), of a segment or (bit 0) of the profile.
    pub(super) fn telling(
        &mut self,
        position: Position,
        below: bool,
        id: ExportId,
        bit: u64,
        found: Option<MemberId>,
    ) -> Telling {
        let members = &self.export(id).members;
        let member = found.map(|found| members.member(found));
        let segments = member.map_or(0, |member| member.segments);
        let seen = found.is_some_and(|found| self.order.covers(members, found, position));
        let concerned = |bits: u64| if bit == 0 { segments & bits != 0 } else { bit & bits != 0 };
        let again = self.routing.again.get(&id).copied().filter(|again| concerned(again.bits));
        let again = again.filter(|_| !(seen && planted(Bug::BackfillByPosition)));
        let Some(again) = again.filter(|again| !below || concerned(again.from_start)) else {
            return if seen || below { Telling::Covered } else { Telling::Everything };
        };
        let (Some(member), true) = (member, seen) else { return Telling::Everything };
        let key = key(id, &member.profile);
        let newest = self.routing.taken.get(&key).copied().or_else(|| (segments & again.live != 0).then_some(member.position));
        if newest.is_some_and(|newest| self.order.is_at_or_before(position, newest)) {
            return Telling::Facts;
        }
        self.routing.taken.insert(key, position);
        Telling::Everything
    }

    /// Which segments of a member an erasure that its record covers takes away: those that are read again.
    pub(super) fn erased_again(&self, id: ExportId, below: bool) -> u64 {
        self.routing.again.get(&id).map_or(0, |again| if below { again.from_start } else { again.bits })
    }

    /// The reader has passed everything below `next`.
    pub(super) fn read_up_to(&mut self, next: NextOffset) {
        let Some(reach) = self.routing.until.get_mut(&next.partition) else { return };
        reach.at = reach.at.max(next.offset);
        if reach.at < reach.until {
            return;
        }
        self.routing.until.remove(&next.partition);
        if self.routing.until.is_empty() {
            self.hand_over();
        }
    }

    /// What was read again is routed like everything else from here on, and the next header says so.
    fn hand_over(&mut self) {
        for id in std::mem::take(&mut self.routing.again).into_keys() {
            let export = self.catalog.export(id);
            for stopped in self.routing.stopped.iter_mut().filter(|stopped| stopped.export == export.name) {
                stopped.segments.retain(|stopped| !export.segments.contains(&stopped.segment));
            }
            self.emit(Event::BackfillEnded { export: id });
        }
        let mut stopped = std::mem::take(&mut self.routing.stopped);
        stopped.retain(|stopped| {
            let routed = self.export_ids().any(|id| self.export(id).routed && self.catalog.export(id).name == stopped.export);
            !stopped.segments.is_empty() || !routed
        });
        self.routing.stopped = stopped;
        self.routing.taken = HashMap::default();
        self.journal.urgent = true;
    }

    /// What is routed, as the header records it.
    pub(super) fn routed(&self) -> Vec<RoutedExport> {
        let routed = self.export_ids().filter(|id| self.export(*id).routed);
        routed
            .map(|id| {
                let export = self.catalog.export(id);
                let again = self.routing.again.get(&id).map_or(0, |again| again.bits);
                let handed_over = export.segments.iter().enumerate().filter(|(bit, _)| again & (1 << bit) == 0);
                let mut segments: Vec<Text> = handed_over.map(|(_, segment)| segment.clone()).collect();
                segments.sort_unstable();
                let (connection, list) = self.place(id);
                let list = self.export(id).moving.as_ref().map_or(list, |moving| moving.from.clone());
                RoutedExport { export: export.name.clone(), connection, list, mapping_hash: export.mapping.hash, segments }
            })
            .collect()
    }

    /// Whether an export's segments are read again.
    pub(super) fn is_reading_again(&self, id: ExportId) -> bool {
        self.routing.again.contains_key(&id)
    }

    /// The facts of an export that were kept are of the list that it is on now.
    pub(super) fn stopped_elsewhere(&mut self, id: ExportId) {
        let (connection, list) = self.place(id);
        let name = &self.catalog.export(id).name;
        for stopped in self.routing.stopped.iter_mut().filter(|stopped| stopped.export == *name) {
            (stopped.connection, stopped.list) = (connection.clone(), list.clone());
        }
    }

    /// Whether an export that is not routed was, with the connection and the list of now.
    pub(super) fn was_stopped_here(&self, id: ExportId) -> bool {
        let (connection, list) = self.place(id);
        let name = &self.catalog.export(id).name;
        let mut stopped = self.routing.stopped.iter().filter(|stopped| stopped.export == *name);
        stopped.any(|stopped| stopped.connection == connection && stopped.list == list)
    }

    /// What had been routed and is not, as the header records it.
    pub(super) fn stopped(&self) -> Vec<StoppedExport> {
        self.routing.stopped.clone()
    }

    /// Whether rows that the state kept of an export fit its mapping.
    pub(super) fn rows_fit(&self, header: Option<&Header>, id: ExportId) -> bool {
        // Those of a removed export are kept as they are.
        if self.export(id).removed {
            return true;
        }
        let export = self.catalog.export(id);
        let was = header.and_then(|header| header.routed.iter().find(|routed| routed.export == export.name));
        was.is_some_and(|was| was.mapping_hash == export.mapping.hash)
    }
}

fn key(export: ExportId, profile: &Text) -> u64 {
    text_hash(profile).rotate_left(u32::from(export.0)) ^ u64::from(export.0)
}
