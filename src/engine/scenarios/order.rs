//! A source that grows: what it gains is read behind what came before it.

use crate::{
    engine::{Event, Input, PartitionBeginning, limits::LETTERS_BYTES_MAX, output::Call, reason::PauseReason},
    model::{
        activity::ActivityState,
        call::Request,
        catalog::Catalog,
        event::{ChangeKind, DecodeFault, RawRecord, RecordContent, SegmentEvent, SourceRecord, Undecodable},
        position::{NextOffset, PartitionId, Position},
        state::{ExportRecord, Growth, Header, MemberCut, RoutedExport, StateChange, StateKey, StateValue},
        time::UnixMillis,
    },
};

use super::{P, START, Stage, catalog};

const GAINED: PartitionId = PartitionId(1);

fn next(partition: PartitionId, offset: i64) -> NextOffset {
    NextOffset { partition, offset }
}

fn position(partition: PartitionId, offset: i64) -> Position {
    Position { partition, offset }
}

fn partition(id: PartitionId, committed: Option<i64>, log_end: i64) -> PartitionBeginning {
    let start = next(id, committed.unwrap_or(0));
    PartitionBeginning { start, committed: committed.is_some(), log_start: 0, log_end, settled_hash: None }
}

/// A header of these partitions, the second gained when the first ended at `end`; segment `gold` was routed.
fn header(at: &[(PartitionId, i64)], end: i64) -> StateChange {
    let catalog = catalog();
    let export = &catalog.exports[0];
    let header = Header {
        format: 1,
        ended: true,
        partitions: at
            .iter()
            .map(|(id, offset)| crate::model::state::PartitionHeader { next: next(*id, *offset), last_settled: None })
            .collect(),
        routed: vec![RoutedExport {
            export: export.name.clone(),
            connection: catalog.connections[0].name.clone(),
            list: compact_str::format_compact!("{}", super::LIST),
            mapping_hash: export.mapping.hash,
            segments: vec!["gold".into(), "platinum".into()],
        }],
        grown: if at.len() > 1 { vec![Growth { added: vec![GAINED], ends: vec![next(P, end)] }] } else { Vec::new() },
        ..Header::default()
    };
    StateChange { key: StateKey::Header, value: Some(StateValue::Header(header)) }
}

/// Nobody was on the list before.
fn list_read() -> StateChange {
    let value = ExportRecord { existing_read: true, ..ExportRecord::default() };
    StateChange { key: StateKey::Export { export: "vip".into() }, value: Some(StateValue::Export(value)) }
}

fn member(profile: &str, cut: MemberCut) -> StateChange {
    let key = StateKey::Member { export: "vip".into(), profile: profile.into() };
    StateChange { key, value: Some(StateValue::Member(cut)) }
}

impl Stage {
    fn says(&mut self, at: Position, profile: &str, segment: &str, change: ChangeKind) {
        let email = format!("{profile}@example.com");
        let content = RecordContent::Event(SegmentEvent {
            profile_id: profile.into(),
            segment_id: Some(segment.into()),
            change,
            occurred_at: None,
            values: Box::new([Some(email.into()), None]),
        });
        let record = SourceRecord { position: at, timestamp: self.now.wall, hash: 0, content };
        self.engine.handle_input(self.now, Input::Records(vec![record]));
        self.drain();
    }

    fn grows(&mut self, end: i64) {
        let input = Input::PartitionsAdded { added: vec![next(GAINED, 0)], ends: vec![next(P, end)] };
        self.engine.handle_input(self.now, input);
        self.drain();
    }

    /// The activity of an import completes.
    fn import_ends(&mut self, post: &Call, id: u128) {
        let Request::Import { name, .. } = &post.request else { panic!("no import: {post:?}") };
        let poll = self.next_call();
        self.answered(&poll, self.activity(id, ActivityState::Completed, 1, Some(name.file_name().into())));
    }

    fn waits(&self) -> Vec<PartitionId> {
        self.engine.waiting_partitions()
    }

    fn cut(&self, profile: &str) -> Option<&MemberCut> {
        let newest =
            self.state.iter().rev().find(|change| matches!(&change.key, StateKey::Member { profile: of, .. } if of == profile));
        match &newest?.value {
            Some(StateValue::Member(cut)) => Some(cut),
            Some(_) | None => None,
        }
    }
}

#[test]
fn what_the_source_gains_waits_until_the_older_partition_is_settled_up_to_its_end() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    stage.grows(1);
    stage.pass(500);
    assert_eq!((stage.waits(), stage.resumed.len()), (vec![GAINED], 0));
    assert!(stage.events.contains(&Event::PartitionsWait { partitions: 1, reason: PauseReason::OlderPartitions }));
    assert_eq!(stage.committed, [next(P, 0), next(GAINED, 0)], "where it begins is committed meanwhile");
    stage.import_ends(&post, 1);
    assert_eq!((stage.waits(), &stage.resumed[..]), (Vec::new(), &[GAINED][..]), "whatever lies behind that end");
    assert!(stage.events.contains(&Event::PartitionsBegun { partitions: 1 }));
    // p1 moved.
    stage.says(position(GAINED, 0), "p1", "gold", ChangeKind::Exited);
    stage.pass(300);
    let kept = stage.cut("p1").map(|cut| cut.positions.clone());
    assert!(kept.is_some_and(|kept| kept == [position(P, 0)] || kept == [position(GAINED, 0)]));
}

#[test]
fn what_the_source_gains_when_nothing_is_behind_is_read_at_once() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.grows(0);
    assert_eq!((stage.waits(), &stage.resumed[..]), (Vec::new(), &[GAINED][..]));
    assert!(!stage.events.iter().any(|event| matches!(event, Event::PartitionsWait { .. })));
}

#[test]
fn a_term_that_ends_while_a_partition_waits_begins_waiting_again() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.grows(2);
    stage.exit("p1");
    stage.pass(500);
    let partitions = vec![partition(P, Some(1), 9), partition(GAINED, Some(0), 3)];
    let mut stage = Stage::begin_at(catalog(), stage.state, partitions, START + 100_000);
    assert_eq!((stage.offset, stage.waits()), (1, vec![GAINED]));
    stage.exit("p2");
    assert_eq!((stage.waits(), &stage.resumed[..]), (Vec::new(), &[GAINED][..]), "up to the end that was seen");
}

#[test]
fn what_the_source_gained_while_nobody_looked_waits_for_the_ends_at_the_beginning() {
    let partitions = vec![partition(P, Some(0), 1), partition(GAINED, None, 3), partition(PartitionId(2), None, 0)];
    let mut stage = Stage::begin_at(catalog(), vec![list_read(), header(&[(P, 0)], 0)], partitions, START);
    assert_eq!(stage.waits(), [GAINED]);
    let followed: Vec<PartitionId> = stage.engine.watermarks().iter().map(|next| next.partition).collect();
    assert_eq!(followed, [P, GAINED], "nobody has written to the third: what is older than it may be still to come");
    stage.exit("p1");
    assert_eq!((stage.waits(), &stage.resumed[..]), (Vec::new(), &[GAINED][..]));
}

#[test]
fn reading_that_goes_on_after_a_bound_leaves_out_what_waits() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.grows(1);
    let mut offset = 1;
    while !stage.events.iter().any(|event| matches!(event, Event::Paused { .. })) {
        let original = RawRecord { key: None, value: Some(vec![0; LETTERS_BYTES_MAX / 4]), headers: Vec::new() };
        let undecodable = Undecodable { kind: DecodeFault::Malformed, detail: "no JSON".into(), original };
        let content = RecordContent::Undecodable(Box::new(undecodable));
        let record = SourceRecord { position: position(P, offset), timestamp: UnixMillis(START), hash: 0, content };
        stage.engine.handle_input(stage.now, Input::Records(vec![record]));
        offset += 1;
        stage.drain();
    }
    stage.complete(1);
    assert!(stage.events.contains(&Event::Resumed));
    assert_eq!(stage.resumed.iter().filter(|id| **id == GAINED).count(), 1, "{:?}", stage.resumed);
    assert_eq!(stage.waits(), []);
}

#[test]
fn an_event_that_is_read_again_is_known_where_the_record_is_of_the_partition_that_its_profile_moved_to() {
    let partitions = vec![partition(P, Some(3), 9), partition(GAINED, Some(0), 9)];
    let cut = |positions: &[Position]| MemberCut { positions: positions.to_vec(), erased: false, ..MemberCut::default() };
    let moved = member("p1", cut(&[position(GAINED, 0)]));
    // A producer that learned late of what the source gained wrote p2's event behind the end.
    let late = member("p2", cut(&[position(GAINED, 5), position(P, 7)]));
    let state = vec![list_read(), header(&[(P, 3), (GAINED, 0)], 5), moved, late];
    let mut stage = Stage::begin_at(catalog(), state, partitions, START);
    assert_eq!(stage.waits(), [GAINED]);
    stage.says(position(P, 4), "p1", "gold", ChangeKind::Entered);
    stage.says(position(P, 7), "p2", "gold", ChangeKind::Entered);
    stage.pass(60_000);
    let imports = stage.calls.iter().filter(|call| matches!(call.request, Request::Import { .. })).count();
    assert_eq!((imports, stage.offset), (0, 8), "both left in the other partition");
}

#[test]
fn the_record_of_whoever_left_stays_until_no_partition_can_tell_of_it_again() {
    let partitions = vec![partition(P, Some(6), 9), partition(GAINED, Some(0), 9)];
    let mut stage = Stage::begin_at(catalog(), vec![list_read(), header(&[(P, 6), (GAINED, 0)], 5)], partitions, START);
    stage.enter("p0");
    let post = stage.next_call();
    stage.started(&post, 1);
    // p0 holds the older partition at 6; p1 enters behind it there, moves, and leaves.
    stage.says(position(P, 7), "p1", "gold", ChangeKind::Entered);
    stage.says(position(GAINED, 0), "p1", "gold", ChangeKind::Exited);
    stage.pass(500);
    assert_eq!(stage.committed, [next(P, 6), next(GAINED, 1)]);
    let kept = stage.cut("p1").map(|cut| cut.positions.clone());
    assert_eq!(kept, Some(vec![position(GAINED, 0), position(P, 7)]));
    stage.import_ends(&post, 1);
    stage.pass(500);
    assert_eq!((stage.committed[0], stage.cut("p1")), (next(P, 8), None));
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 1);
}

#[test]
fn what_was_gained_in_more_than_one_growth_and_is_seen_at_once_is_read_one_growth_after_the_other() {
    let all: Vec<PartitionBeginning> = (1..8).map(|id| partition(PartitionId(id), None, 1)).collect();
    let partitions = [vec![partition(P, Some(0), 0), partition(GAINED, Some(0), 0)], all[1..].to_vec()].concat();
    let mut stage = Stage::begin_at(catalog(), vec![list_read(), header(&[(P, 0), (GAINED, 0)], 0)], partitions, START);
    let ids = |from: i32, below: i32| -> Vec<PartitionId> { (from..below).map(PartitionId).collect() };
    assert_eq!((&stage.resumed[..], stage.waits()), (&ids(2, 4)[..], ids(4, 8)), "two may have become four, and these eight");
    for id in [2, 3] {
        stage.says(position(PartitionId(id), 0), "p1", "gold", ChangeKind::Exited);
    }
    assert_eq!((&stage.resumed[2..], stage.waits()), (&ids(4, 6)[..], ids(6, 8)), "or six");
}

#[test]
fn what_is_read_again_is_read_in_the_order_of_partitions() {
    let mut wider: Catalog = catalog();
    wider.exports[0].segments.push("silver".into());
    let partitions = vec![partition(P, Some(3), 3), partition(GAINED, Some(2), 2)];
    let mut stage = Stage::begin_at(wider, vec![list_read(), header(&[(P, 3), (GAINED, 2)], 2)], partitions, START);
    assert_eq!(stage.waits(), [GAINED], "it is settled, but the facts of before are told first");
    stage.says(position(P, 0), "p1", "silver", ChangeKind::Entered);
    stage.says(position(P, 1), "p2", "silver", ChangeKind::Entered);
    assert_eq!((stage.waits(), &stage.resumed[..]), (Vec::new(), &[GAINED][..]));
    stage.says(position(GAINED, 0), "p1", "silver", ChangeKind::Exited);
    stage.says(position(P, 2), "p3", "silver", ChangeKind::Entered);
    stage.says(position(GAINED, 1), "p2", "silver", ChangeKind::Updated);
    let import = stage.complete(1);
    let mut sent = Stage::addresses(&import);
    sent.sort_unstable();
    assert_eq!(sent, ["p2@example.com", "p3@example.com"]);
}
