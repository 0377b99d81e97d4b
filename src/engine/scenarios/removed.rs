//! Exports that are configured no more: their fences, and who is erased.

use crate::model::{
    activity::ActivityState,
    call::Request,
    catalog::{Catalog, Connection, ListRef},
    event::ChangeKind,
    state::{StateChange, StateKey, StateValue},
};

use super::super::{Event, reason::HoldReason};
use super::{LIST, START, Stage, backfill::two_exports, catalog};
use crate::model::ListId;

/// The second of two exports alone: the first was removed.
fn second_alone() -> Catalog {
    let mut catalog = two_exports();
    catalog.exports.remove(0);
    catalog
}

/// Another export that wants the same profiles on another list.
fn same_segment() -> Catalog {
    let mut catalog = two_exports();
    catalog.exports[1].segments = vec!["gold".into()];
    catalog
}

impl Stage {
    /// What the state says of a profile in an export.
    fn has_member(&self, export: &str, profile: &str) -> bool {
        let key = StateKey::Member { export: export.into(), profile: profile.into() };
        self.state.iter().rev().find(|change| change.key == key).is_some_and(|change| change.value.is_some())
    }

    fn has_batch(&self) -> bool {
        let mut batches = std::collections::BTreeMap::new();
        for change in self.state.iter().filter(|change| matches!(change.key, StateKey::Batch { .. })) {
            batches.insert(&change.key, change.value.is_some());
        }
        batches.into_values().any(|open| open)
    }
}

#[test]
fn an_erasure_reaches_the_list_of_a_removed_export_and_nobody_else_leaves_it() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.enter("p1");
    stage.enter("p2");
    stage.complete(1);
    let mut stage = stage.begun_again(second_alone());
    assert!(stage.engine.snapshot(stage.now).exports[1].removed);
    stage.exit("p2");
    stage.erase("p1");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    assert_eq!(stage.engine.snapshot(stage.now).exports[1].held, None);
    stage.contacts(&look_up, &[("p1", 11)]);
    let removal = stage.complete(2);
    assert!(matches!(removal, Request::Remove { targets, .. } if targets == [LIST]));
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!((stage.has_member("vip", "p1"), stage.has_member("vip", "p2")), (false, true));
    // Also where the next term is the one that hears of it.
    let mut stage = stage.begun_again(second_alone());
    stage.erase("p2");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p2@example.com".into() });
    let mut stage = stage.begun_again(second_alone());
    stage.read_on(i64::MAX);
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p2", 12)]);
    stage.complete(3);
    assert_eq!(stage.engine.snapshot(stage.now).exports.len(), 2);
    let stage = stage.begun_again(second_alone());
    assert_eq!(stage.engine.snapshot(stage.now).exports.len(), 1, "nothing of it is kept any more");
}

#[test]
fn a_shared_address_stays_on_the_list_of_a_removed_export_with_the_other_profile() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    stage.record("p2", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    stage.complete(1);
    let mut stage = stage.begun_again(second_alone());
    stage.erase("p1");
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!((stage.has_member("vip", "p1"), stage.has_member("vip", "p2")), (false, true));
    stage.erase("p2");
    assert_eq!(stage.next_call().request, Request::LookUp { address: "both@example.com".into() });
}

#[test]
fn an_open_batch_of_a_removed_export_fences_its_contacts_until_it_has_ended() {
    let mut stage = Stage::begin_with(same_segment(), Vec::new(), None, START);
    let mut only_first = same_segment();
    only_first.exports.truncate(1);
    stage = stage.begun_again(only_first);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import: {:?}", post.request) };
    let file = name.file_name();
    // It dies before the answer comes; the next one has another file, and wants the contact on another list.
    let mut second = same_segment();
    second.exports.remove(0);
    let mut stage = stage.begun_again(second);
    stage.read_on(i64::MAX);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let running = stage.activity(5, ActivityState::Processing, 1, Some(file.clone().into()));
    stage.activities(&look, vec![running.clone()], None);
    for _ in 0..3 {
        let poll = stage.next_call();
        assert!(matches!(poll.request, Request::Activity { .. }), "{:?}", poll.request);
        stage.answered(&poll, running.clone());
    }
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(5, ActivityState::Completed, 1, Some(file.into())));
    stage.pass(300);
    let import = stage.complete(6);
    let Request::Import { lists, .. } = &import else { panic!("no import: {import:?}") };
    assert_eq!((lists.as_slice(), Stage::addresses(&import)), ([ListId::from_u128(8)].as_slice(), vec!["p1@example.com"]));
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && !stage.has_batch(), "nothing is wanted of it");
    assert!(stage.has_member("vip", "p1"), "what it may have put on the list is remembered");
}

#[test]
fn a_removal_that_a_removed_export_left_open_is_waited_for_and_not_repeated() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.exit("p1");
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p1", 11)]);
    let post = stage.next_call();
    assert!(matches!(post.request, Request::Remove { .. }));
    let mut stage = stage.begun_again(second_alone());
    stage.read_on(i64::MAX);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    stage.activities(&look, Vec::new(), None);
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && !stage.has_batch() && stage.engine.is_quiet());
}

#[test]
fn where_the_account_is_not_configured_either_the_records_stay() {
    let mut catalog = two_exports();
    catalog.connections.push(Connection { name: "other".into(), ..catalog.connections[0].clone() });
    catalog.exports[1].connection = crate::model::catalog::ConnectionId(1);
    let mut stage = Stage::begin_with(catalog.clone(), Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    assert!(matches!(post.request, Request::Import { .. }));
    catalog.connections.remove(0);
    catalog.exports.remove(0);
    catalog.exports[0].connection = crate::model::catalog::ConnectionId(0);
    let mut stage = stage.begun_again(catalog);
    stage.read_on(i64::MAX);
    stage.erase("p1");
    stage.pass(120_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert!(stage.has_batch());
    assert_eq!(stage.engine.snapshot(stage.now).exports.len(), 1);
}

#[test]
fn a_batch_record_of_the_version_before_is_found_by_what_was_routed() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.enter("p1");
    stage.next_call();
    for change in &mut stage.state {
        if let StateChange { value: Some(StateValue::Batch(chunk)), .. } = change {
            assert_eq!(std::mem::take(&mut chunk.connection), "news");
        }
    }
    let mut other = second_alone();
    other.connections.push(Connection { name: "other".into(), ..other.connections[0].clone() });
    let mut stage = stage.begun_again(other);
    stage.read_on(i64::MAX);
    let look = stage.next_call();
    assert_eq!((look.connection.0, look.request), (0, Request::Activities { cursor: None }));
}

#[test]
fn a_parked_row_is_kept_until_the_export_comes_back() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.engine.exports[0].held = Some((HoldReason::ActivityQueueFull, stage.now.mono.plus_ms(1_000_000)));
    stage.enter("p1");
    stage.pass(130_000);
    assert_eq!(stage.offset, 1, "parked");
    let mut stage = stage.begun_again(second_alone());
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "a removed export keeps nobody waiting");
    let mut again = catalog();
    again.exports[0].backfill = crate::model::catalog::Backfill::None;
    let mut stage = stage.begun_again(again);
    let import = stage.complete(2);
    let Request::Import { rows, .. } = import else { panic!("no import") };
    assert!(rows.has_first_name);
    assert!(!stage.events.iter().any(|event| matches!(event, Event::DeadLettered { .. })));
}

#[test]
fn an_erasure_waits_for_the_list_that_the_header_names() {
    let mut named = two_exports();
    named.exports[0].list = ListRef::Named { name: "VIP".into(), create: true };
    let mut stage = Stage::begin_with(named, Vec::new(), None, START);
    stage.pass(300);
    let stage = stage.begun_again(second_alone());
    assert_eq!(stage.engine.snapshot(stage.now).exports.len(), 1, "it never had anything");
}

#[test]
fn an_export_of_another_name_keeps_on_the_same_list_whom_it_wants() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let mut renamed = catalog();
    renamed.exports[0].name = "vip2".into();
    renamed.exports[0].backfill = crate::model::catalog::Backfill::None;
    renamed.timing.index_lag_ms = 600_000;
    let mut stage = stage.begun_again(renamed);
    stage.erase("p1");
    // The removal waits for the index; meanwhile p1 enters again, as a member of the export of now.
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    stage.contacts(&look_up, &[]);
    stage.enter("p1");
    let import = stage.complete(2);
    assert_eq!(Stage::addresses(&import), ["p1@example.com"]);
    stage.pass(700_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "{:?}", stage.calls);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
    assert!(!stage.has_member("vip", "p1"));
}
