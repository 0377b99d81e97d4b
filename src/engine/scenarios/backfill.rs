//! Configurations that change: what is routed anew is read again, what is routed no more keeps its facts.

use crate::model::{
    call::Request,
    catalog::{Backfill, Catalog},
    event::ChangeKind,
    position::Position,
    state::{Applied, Header, MemberCut, StateChange, StateKey, StateValue},
    time::UnixMillis,
};

use super::super::{Event, reason::HoldReason};
use super::{Input, LIST, P, START, Stage, catalog};
use crate::model::{
    ListId, Text,
    catalog::{Connection, ConnectionId, Export, ListRef},
    position::NextOffset,
};

/// The catalog with these segments alone.
fn routes(segments: &[&str]) -> Catalog {
    let mut catalog = catalog();
    catalog.exports[0].segments = segments.iter().map(|segment| Text::from(*segment)).collect();
    catalog
}

/// The catalog with a second export, of its own list.
pub(super) fn two_exports() -> Catalog {
    let mut catalog = catalog();
    let second = Export {
        name: "trials".into(),
        list: ListRef::Id(ListId::from_u128(8)),
        segments: vec!["trial".into()],
        ..catalog.exports[0].clone()
    };
    catalog.exports.push(second);
    catalog
}

impl Stage {
    /// The process dies, and another one with this configuration begins; it reads what the source has from where it begins.
    pub(super) fn reconfigured(self, catalog: Catalog) -> Self {
        let mut stage = self.begun_again(catalog);
        stage.read_on(i64::MAX);
        stage
    }

    /// The same, before it reads.
    pub(super) fn begun_again(self, catalog: Catalog) -> Self {
        let log = self.log;
        let mut stage = Self::begin_with(catalog, self.state, Some(self.offset), self.now.wall.0 + 100_000);
        stage.log = log;
        stage
    }

    /// Reads the source from where it stands up to below an offset, or to its end.
    pub(super) fn read_on(&mut self, below: i64) {
        let from = self.next_record;
        let records = self.log.iter().filter(|record| (from..below).contains(&record.position.offset)).cloned();
        self.engine.handle_input(self.now, Input::Records(records.collect()));
        self.drain();
        let end = self.log.last().map_or(0, |record| record.position.offset + 1).min(below);
        self.next_record = end.max(from);
        self.engine.handle_input(self.now, Input::ReaderAt(vec![NextOffset { partition: P, offset: self.next_record }]));
        self.drain();
        self.pass(300);
    }

    pub(super) fn header(&self) -> Header {
        let mut headers = self.state.iter().rev().filter_map(|change| match (&change.key, &change.value) {
            (StateKey::Header, Some(StateValue::Header(header))) => Some(header),
            _ => None,
        });
        headers.next().cloned().expect("a header in every transaction")
    }

    fn routed(&self, export: &str) -> Vec<Text> {
        let header = self.header();
        header.routed.into_iter().find(|routed| routed.export == export).map(|routed| routed.segments).unwrap_or_default()
    }

    fn change(&mut self, change: ChangeKind, profile: &str, segment: &str) {
        let email = format!("{profile}@example.com");
        self.record(profile, segment, change, Some(&email), Some("Ana"));
    }
}

#[test]
fn a_segment_that_is_added_is_read_from_the_beginning_and_handed_over_with_its_facts() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.change(ChangeKind::Entered, "p2", "silver");
    stage.change(ChangeKind::Exited, "p2", "silver");
    stage.change(ChangeKind::Entered, "p3", "gold");
    stage.complete(1);
    assert_eq!((stage.offset, stage.routed("vip")), (4, vec!["gold".into()]));

    let mut stage = stage.begun_again(routes(&["gold", "silver"]));
    assert_eq!(stage.next_record, 0, "it begins to read where the source begins");
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::Backfill));
    stage.read_on(2);
    stage.pass(60_000);
    assert!(stage.calls.is_empty(), "what it reads waits until all of it was read");
    assert_eq!((stage.offset, stage.routed("vip")), (4, vec!["gold".into()]));
    stage.read_on(i64::MAX);
    assert_eq!(stage.routed("vip"), ["gold", "silver"]);
    assert!(stage.events.iter().any(|event| matches!(event, Event::BackfillEnded { .. })));
    let import = stage.complete(2);
    assert_eq!(Stage::addresses(&import), ["p1@example.com"]);
    assert_eq!(stage.offset, 4);
}

#[test]
fn a_crash_while_it_reads_again_begins_it_again_and_nothing_is_missed() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.complete(1);
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.change(ChangeKind::Entered, "p2", "silver");
    stage.pass(300);
    // p1's record covers offset 4 when the next one begins, and the watermark is below it.
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Bea"));
    stage.change(ChangeKind::Exited, "p1", "gold");
    stage.pass(300);

    let mut stage = stage.begun_again(routes(&["gold", "silver"]));
    stage.read_on(2);
    let mut stage = stage.begun_again(routes(&["gold", "silver"]));
    assert_eq!(stage.next_record, 0);
    stage.read_on(3);
    let stage = stage.begun_again(routes(&["gold", "silver"]));
    let mut stage = stage.reconfigured(routes(&["gold", "silver"]));
    let mut sent: Vec<String> = Vec::new();
    for id in 5..8 {
        if stage.calls.is_empty() && stage.engine.is_quiet() {
            break;
        }
        let import = stage.complete(id);
        sent.extend(Stage::addresses(&import).iter().map(ToString::to_string));
    }
    assert!(sent.contains(&"p2@example.com".to_owned()), "{sent:?}");
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 2, "p1 stays on the list because of silver");
}

#[test]
fn facts_are_written_with_the_hand_over_where_a_record_is_beyond_the_event_that_told_them() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p0", "gold");
    let post = stage.next_call();
    assert_eq!(Stage::addresses(&post.request), ["p0@example.com"], "its answer never comes: the watermark stays at 0");
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.change(ChangeKind::Exited, "p1", "gold");
    stage.pass(300);
    assert_eq!(stage.offset, 0);
    // What an owner writes that found p1 in an open batch and has read up to its exit from gold.
    let cut = MemberCut {
        positions: vec![Position { partition: P, offset: 3 }],
        changed_at: UnixMillis(START),
        applied: vec![Applied { address: "p1@example.com".into(), list: LIST, row_hash: u64::MAX, at: UnixMillis(START) }],
        ..MemberCut::default()
    };
    let key = StateKey::Member { export: "vip".into(), profile: "p1".into() };
    stage.state.push(StateChange { key, value: Some(StateValue::Member(cut)) });

    let stage = stage.reconfigured(routes(&["gold", "silver"]));
    assert_eq!((stage.offset, stage.routed("vip")), (0, vec!["gold".into(), "silver".into()]));
    let told = stage.state.iter().rev().find_map(|change| match (&change.key, &change.value) {
        (StateKey::Member { profile, .. }, Some(StateValue::Member(cut))) if profile == "p1" => Some(cut.segments.clone()),
        _ => None,
    });
    assert_eq!(told, Some(vec!["silver".into()]), "the next term does not read it again");
}

#[test]
fn a_record_that_covers_an_event_of_a_segment_that_was_not_routed_does_not_hide_it() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p0", "gold");
    let post = stage.next_call();
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.started(&post, 1);
    // p1 waits for its own batch; its record may be written any time, the watermark stays at 0.
    stage.change(ChangeKind::Entered, "p2", "gold");
    stage.change(ChangeKind::Exited, "p1", "gold");
    stage.pass(300);
    assert_eq!(stage.offset, 0);
    let mut stage = stage.reconfigured(routes(&["gold", "silver"]));
    assert_eq!(stage.routed("vip"), ["gold", "silver"]);
    let mut sent: Vec<String> = Vec::new();
    for _ in 0..20 {
        let call = stage.next_call();
        if let Request::Import { .. } = &call.request {
            sent.extend(Stage::addresses(&call.request).iter().map(ToString::to_string));
            break;
        }
        assert!(matches!(call.request, Request::Activities { .. }));
        stage.activities(&call, Vec::new(), None);
    }
    assert!(sent.contains(&"p1@example.com".to_owned()), "{sent:?}");
}

#[test]
fn a_segment_that_is_removed_takes_its_members_off_and_comes_back_with_them() {
    let mut stage = Stage::begin_with(routes(&["gold", "silver"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.change(ChangeKind::Entered, "p2", "gold");
    stage.change(ChangeKind::Entered, "p2", "silver");
    stage.complete(1);
    let mut stage = stage.reconfigured(routes(&["gold"]));
    assert_eq!(stage.header().stopped[0].segments[0].segment, "silver");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    stage.contacts(&look_up, &[("p1", 11)]);
    let removal = stage.complete(2);
    assert!(matches!(removal, Request::Remove { .. }));
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);

    // p3 enters while the segment is not routed; p1's own event has been deleted from the source meanwhile.
    stage.change(ChangeKind::Entered, "p3", "silver");
    stage.pass(300);
    stage.log.remove(0);
    let mut stage = stage.reconfigured(routes(&["gold", "silver"]));
    let import = stage.complete(3);
    let mut addresses = Stage::addresses(&import);
    addresses.sort_unstable();
    assert_eq!(addresses, ["p1@example.com", "p3@example.com"]);
    assert!(stage.header().stopped.is_empty());
}

#[test]
fn a_new_export_is_read_for_from_the_beginning_and_the_others_go_on() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "trial");
    stage.change(ChangeKind::Entered, "p2", "gold");
    stage.complete(1);
    let mut stage = stage.begun_again(two_exports());
    stage.change(ChangeKind::Entered, "p1", "trial");
    let held: Vec<_> = stage.engine.snapshot(stage.now).exports.iter().map(|export| export.held).collect();
    assert_eq!(held, [None, Some(HoldReason::Backfill)]);
    stage.next_record = 2;
    stage.change(ChangeKind::Entered, "p3", "gold");
    let first = stage.next_call();
    stage.started(&first, 2);
    let posts = [first, stage.next_call()];
    let sent: Vec<&str> = posts.iter().flat_map(|post| Stage::addresses(&post.request)).collect();
    assert_eq!(sent, ["p3@example.com", "p1@example.com"]);
}

#[test]
fn without_backfill_later_events_alone_count() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.pass(300);
    let mut catalog = routes(&["gold", "silver"]);
    catalog.exports[0].backfill = Backfill::None;
    let mut stage = stage.begun_again(catalog);
    assert_eq!((stage.next_record, stage.routed("vip")), (1, vec!["gold".into(), "silver".into()]));
    stage.change(ChangeKind::Entered, "p2", "silver");
    assert_eq!(Stage::addresses(&stage.complete(1)), ["p2@example.com"]);
}

#[test]
fn a_changed_mapping_sends_the_rows_anew() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.complete(1);
    let mut changed = catalog();
    changed.exports[0].mapping.first_name = None;
    changed.exports[0].mapping.hash = 2;
    let mut stage = stage.reconfigured(changed);
    let import = stage.complete(2);
    assert_eq!(Stage::addresses(&import), ["p1@example.com"]);
    let Request::Import { rows, .. } = import else { panic!("no import") };
    assert!(!rows.has_first_name);
}

#[test]
fn an_erasure_is_not_undone_by_what_is_read_again() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "silver");
    stage.erase("p1");
    stage.pass(300);
    let mut stage = stage.reconfigured(routes(&["gold", "silver"]));
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0);
}

#[test]
fn another_account_holds_the_export_until_it_is_put_back() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.complete(1);
    let mut moved = catalog();
    moved.connections.push(Connection { name: "other".into(), ..moved.connections[0].clone() });
    moved.exports[0].connection = ConnectionId(1);
    let mut stage = stage.reconfigured(moved.clone());
    stage.change(ChangeKind::Exited, "p1", "gold");
    stage.pass(60_000);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::ConnectionChanged));
    assert!(stage.calls.is_empty());
    // Also in the next term, which the header of this one tells.
    let stage = stage.reconfigured(moved);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::ConnectionChanged));
    let mut stage = stage.reconfigured(catalog());
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    stage.contacts(&look_up, &[("p1", 11)]);
    let removal = stage.complete(2);
    assert!(matches!(removal, Request::Remove { targets, .. } if targets == [LIST]));
}

#[test]
fn an_erasure_that_is_read_again_takes_off_a_list_that_keeps_who_exits() {
    let keeps = |segments: &[&str]| {
        let mut catalog = routes(segments);
        catalog.exports[0].on_exit = crate::model::catalog::OnExit::Keep;
        catalog
    };
    for exits in [true, false] {
        erased_while_kept(keeps, exits);
    }
}

fn erased_while_kept(keeps: impl Fn(&[&str]) -> Catalog, exits: bool) {
    let mut stage = Stage::begin_with(keeps(&["gold"]), Vec::new(), None, START);
    stage.change(ChangeKind::Entered, "p1", "gold");
    stage.complete(1);
    if exits {
        stage.change(ChangeKind::Exited, "p1", "gold");
    }
    stage.erase("p1");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    // Another mapping, before it has left: its entering is read again, then its erasure, which its record covers.
    stage.engine.exports[0].held = Some((HoldReason::ActivityQueueFull, stage.now.mono.plus_ms(1_000_000)));
    stage.pass(130_000);
    let mut changed = keeps(&["gold"]);
    changed.exports[0].mapping.hash = 2;
    let mut stage = stage.reconfigured(changed);
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    stage.contacts(&look_up, &[("p1", 11)]);
    stage.complete(2);
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0);
}

#[test]
fn who_entered_below_the_watermark_and_exited_above_it_is_recorded() {
    let mut stage = Stage::begin_with(routes(&["gold"]), Vec::new(), None, START);
    stage.record("p1", "platinum", ChangeKind::Entered, Some("p1@example.com"), Some("Ana"));
    stage.pass(300);
    assert_eq!(stage.offset, 1, "of a segment that nothing routes");
    stage.enter("p2");
    stage.record("p1", "platinum", ChangeKind::Exited, None, None);
    let stage = stage.reconfigured(routes(&["gold", "platinum"]));
    assert_eq!((stage.offset, stage.routed("vip").len()), (1, 2), "the second entry waits");
    // The next term reads the exit alone: without the record it would not know what it is of.
    let key = StateKey::Member { export: "vip".into(), profile: "p1".into() };
    let last = stage.state.iter().rev().find(|change| change.key == key);
    assert!(matches!(last, Some(StateChange { value: Some(StateValue::Member(cut)), .. }) if cut.segments.is_empty()));
}
