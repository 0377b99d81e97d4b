//! Whom an import must never touch.

use crate::model::{
    ContactId,
    activity::ActivityState,
    call::{Answer, Contact, ContactStatus, Cursor, Lost, Outcome, Page, Request},
    event::ChangeKind,
    state::{StateKey, StateValue},
};

use super::super::{output::Call, reason::HoldReason};
use super::{START, Stage, backfill::two_exports, catalog};

const WEEK_MS: u64 = 7 * 86_400_000;

fn stage() -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.reads_suppressed = true;
    stage
}

fn reading(stage: &mut Stage) -> Call {
    let call = stage.next_call();
    assert!(matches!(call.request, Request::Suppressed { .. }), "{call:?}");
    call
}

/// A stage whose set holds these, and whose list holds nobody.
fn with_suppressed(profiles: &[&str]) -> Stage {
    let mut stage = stage();
    stage.enter("first");
    let call = reading(&mut stage);
    stage.suppressed(&call, profiles);
    stage.complete(1);
    stage
}

fn parked_row(stage: &Stage, profile: &str) -> bool {
    let records = stage.state.iter().rev().filter_map(|change| match (&change.key, &change.value) {
        (StateKey::Member { profile: of, .. }, Some(StateValue::Member(cut))) if of == profile => Some(cut.row.is_some()),
        (_, _) => None,
    });
    records.take(1).next() == Some(true)
}

fn suppressed_adds(stage: &Stage) -> u64 {
    stage.engine.snapshot(stage.now).exports[0].suppressed
}

fn looked_up(stage: &mut Stage, call: &Call, status: ContactStatus) {
    let Request::LookUp { address } = &call.request else { panic!("{call:?}") };
    let contact = Contact { contact_id: ContactId::from_u128(5), address: address.clone(), status, lists: vec![super::LIST] };
    stage.answer(call, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
}

#[test]
fn nothing_is_imported_before_the_first_reading_is_complete() {
    let mut stage = stage();
    stage.enter("p1");
    stage.enter("gone");
    let first = reading(&mut stage);
    assert_eq!(first.request, Request::Suppressed { updated_after: None, cursor: None });
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::SuppressionUnread));
    stage.answer(&first, Outcome::Unknown(Lost::Timeout));
    let again = reading(&mut stage);
    let page = Page { items: Vec::new(), next: Some(Cursor("more".into())) };
    stage.answer(&again, Outcome::Answered(Answer::Contacts(page)));
    let second = reading(&mut stage);
    assert_eq!(second.request, Request::Suppressed { updated_after: None, cursor: Some(Cursor("more".into())) });
    stage.pass(60_000);
    assert!(stage.calls.is_empty());
    stage.suppressed(&second, &["gone"]);
    assert_eq!(Stage::addresses(&stage.complete(1)), ["p1@example.com"]);
    stage.pass(1_000);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, None);
    assert_eq!((stage.offset, suppressed_adds(&stage), parked_row(&stage, "gone")), (2, 1, true));
    assert!(stage.engine.is_quiet());
}

#[test]
fn what_was_read_lasts_and_is_read_on_by_the_next_term() {
    let mut stage = with_suppressed(&["gone"]);
    let read_at = stage.now.wall;
    stage = stage.crash();
    stage.reads_suppressed = true;
    stage.enter("gone");
    stage.pass(5_000);
    assert!(stage.calls.is_empty(), "one that is suppressed needs no reading");
    assert_eq!((stage.offset, suppressed_adds(&stage)), (2, 1));
    stage.enter("p2");
    let call = reading(&mut stage);
    let Request::Suppressed { updated_after: Some(after), cursor: None } = call.request else { panic!("{call:?}") };
    assert!(after < read_at && read_at.since_ms(after) < 1_000_000, "it overlaps the last one");
    stage.suppressed(&call, &[]);
    assert_eq!(Stage::addresses(&stage.complete(2)), ["p2@example.com"]);
}

#[test]
fn a_reading_serves_imports_for_fifteen_minutes_and_an_idle_export_reads_nothing() {
    let mut stage = with_suppressed(&[]);
    stage.pass(600_000);
    stage.enter("p2");
    stage.complete(2);
    stage.pass(2 * 3_600_000);
    assert!(stage.calls.is_empty());
    stage.enter("p3");
    let call = reading(&mut stage);
    stage.suppressed(&call, &["p3"]);
    stage.pass(60_000);
    assert!(stage.calls.is_empty(), "who has unsubscribed meanwhile is not imported");
    assert!(parked_row(&stage, "p3"));
}

#[test]
fn whoever_opts_out_between_cut_and_post_is_taken_out_of_the_batch() {
    let mut config = catalog();
    config.applications[0].calls_per_second = Some(1);
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    stage.reads_suppressed = true;
    stage.enter("p1");
    let call = reading(&mut stage);
    stage.suppressed(&call, &[]);
    let post = stage.next_call();
    // The vendor has no room: the batch waits longer than the reading serves.
    stage.refused(&post, 503, crate::model::call::Disposition::QueueFull);
    stage.enter("p2");
    stage.pass(20_000);
    stage.engine.exports[0].held = Some((HoldReason::ActivityQueueFull, stage.now.mono.plus_ms(1_000_000)));
    stage.pass(1_000_001);
    let call = reading(&mut stage);
    stage.suppressed(&call, &["p1"]);
    assert_eq!(Stage::addresses(&stage.complete(2)), ["p2@example.com"]);
    stage.pass(1_000);
    assert!(parked_row(&stage, "p1"));
}

#[test]
fn contacts_that_an_import_could_not_add_are_explained_by_a_fresh_reading() {
    let mut stage = with_suppressed(&[]);
    stage.enter("p1");
    stage.enter("p2");
    let post = stage.next_call();
    stage.started(&post, 2);
    let poll = stage.next_call();
    let mut activity = stage.activity(2, ActivityState::Completed, 2, None);
    activity.counts.cannot_add_to_list = Some(1);
    stage.answered(&poll, activity);
    let call = reading(&mut stage);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1, "decided once it was read");
    stage.suppressed(&call, &["p2"]);
    stage.pass(2_000);
    let view = stage.engine.snapshot(stage.now);
    assert_eq!((view.exports[0].members, view.exports[0].suppressed, view.connections[0].suppressed), (2, 1, 1));
    assert!(parked_row(&stage, "p2") && stage.engine.is_quiet());
    assert_eq!(stage.offset, 3);
}

#[test]
fn one_that_is_still_wanted_is_looked_up_once_a_week_and_sent_when_it_is_active() {
    let mut stage = with_suppressed(&["back"]);
    stage.enter("back");
    stage.pass(WEEK_MS - 60_000);
    assert!(stage.calls.is_empty());
    let look_up = stage.next_call_within(120_000);
    looked_up(&mut stage, &look_up, ContactStatus::Unsubscribed);
    stage.pass(WEEK_MS - 60_000);
    assert!(stage.calls.is_empty());
    let look_up = stage.next_call_within(120_000);
    looked_up(&mut stage, &look_up, ContactStatus::Active);
    let call = reading(&mut stage);
    stage.suppressed(&call, &[]);
    assert_eq!(Stage::addresses(&stage.complete(2)), ["back@example.com"]);
    let mut stage = stage.crash();
    stage.record("back", "gold", ChangeKind::Updated, Some("back@example.com"), Some("Bea"));
    assert_eq!(Stage::addresses(&stage.next_call().request), ["back@example.com"], "released for good");
}

#[test]
fn the_removal_of_one_that_was_deleted_since_costs_no_call() {
    let mut stage = with_suppressed(&[]);
    stage.pass(3_600_000);
    stage.enter("p2");
    let call = reading(&mut stage);
    stage.suppressed(&call, &["first"]);
    stage.complete(2);
    stage.exit("first");
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.offset, 3);
    // One whose import may have revived it is removed like any other.
    stage.enter("gone");
    let post = stage.next_call();
    stage.engine.connections[0].suppression.ask();
    let call = reading(&mut stage);
    stage.suppressed(&call, &["gone"]);
    stage.pass(10_000);
    stage.started(&post, 3);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(3, ActivityState::Completed, 1, None));
    stage.exit("gone");
    assert_eq!(stage.next_call().request, Request::LookUp { address: "gone@example.com".into() });
}

#[test]
fn one_whom_an_import_to_another_list_may_have_revived_since_is_removed_like_any_other() {
    let mut stage = Stage::begin_with(two_exports(), Vec::new(), None, START);
    stage.reads_suppressed = true;
    stage.enter("first");
    let call = reading(&mut stage);
    stage.suppressed(&call, &[]);
    stage.complete(1);
    stage.pass(3_600_000);
    stage.record("first", "trial", ChangeKind::Entered, Some("first@example.com"), Some("Ann"));
    let call = reading(&mut stage);
    stage.suppressed(&call, &[]);
    let post = stage.next_call();
    stage.engine.connections[0].suppression.ask();
    let call = reading(&mut stage);
    stage.suppressed(&call, &["first"]);
    stage.pass(10_000);
    stage.started(&post, 3);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(3, ActivityState::Completed, 1, None));
    stage.exit("first");
    assert_eq!(stage.next_call().request, Request::LookUp { address: "first@example.com".into() });
}
