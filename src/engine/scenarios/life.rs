//! The life of a change, undisturbed.

use crate::model::{
    ContactId,
    activity::ActivityState,
    call::{Answer, Contact, ContactStatus, Outcome, Page, Request},
    event::ChangeKind,
};

use super::{LIST, START, Stage};

#[test]
fn an_entry_is_committed_only_after_its_activity_completed() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    assert_eq!(Stage::addresses(&post.request), ["p1@example.com"]);
    assert_eq!(stage.offset, 0);
    stage.answered(&post, stage.activity(9, ActivityState::Initialized, 0, None));
    stage.pass(1_000);
    assert_eq!(stage.offset, 0, "201 is not success");
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(9, ActivityState::Completed, 1, None));
    stage.pass(300);
    assert_eq!(stage.offset, 1);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
}

#[test]
fn an_entry_and_an_exit_cancel_before_anything_is_sent() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.exit("p1");
    stage.pass(5_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 2);
    assert!(stage.engine.is_quiet());
}

#[test]
fn a_contact_leaves_only_with_the_last_of_its_segments() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.record("p1", "platinum", ChangeKind::Entered, Some("p1@example.com"), Some("Ana"));
    stage.exit("p1");
    stage.pass(5_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 3);
    stage.record("p1", "platinum", ChangeKind::Exited, None, None);
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    let contact = Contact {
        contact_id: ContactId::from_u128(5),
        address: "p1@example.com".into(),
        status: ContactStatus::Active,
        lists: vec![LIST],
    };
    stage.answer(&look_up, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
    stage.complete(2);
    assert_eq!(stage.offset, 4);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0);
}

#[test]
fn an_exit_waits_until_the_add_of_the_same_contact_has_ended() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.exit("p1");
    stage.pass(500);
    assert!(stage.calls.is_empty(), "fenced");
    stage.answered(&post, stage.activity(9, ActivityState::Initialized, 0, None));
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(9, ActivityState::Completed, 1, None));
    let look_up = stage.next_call();
    assert!(matches!(look_up.request, Request::LookUp { .. }));
}

#[test]
fn a_changed_address_takes_the_old_one_off_the_list() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.record("p1", "gold", ChangeKind::Updated, Some("new@example.com"), Some("Ana"));
    let (mut joins, mut leaves) = (None, None);
    while joins.is_none() || leaves.is_none() {
        let call = stage.next_call();
        if let Request::LookUp { address } = &call.request {
            assert_eq!(address, "p1@example.com");
            leaves = Some(call);
        } else {
            joins = Some(call);
        }
    }
    let (Some(joins), Some(leaves)) = (joins, leaves) else { return };
    assert_eq!(Stage::addresses(&joins.request), ["new@example.com"]);
    stage.answered(&joins, stage.activity(2, ActivityState::Initialized, 0, None));
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(2, ActivityState::Completed, 1, None));
    stage.pass(1_000);
    assert_eq!(stage.offset, 1, "the old address is still on the list");
    stage.answer(&leaves, Outcome::Answered(Answer::Contacts(Page { items: Vec::new(), next: None })));
    stage.pass(1_000);
    assert_eq!(stage.offset, 2);
    assert!(stage.engine.is_quiet());
}

#[test]
fn a_refused_row_is_not_sent_again_by_the_next_term_until_it_changes() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("bad");
    let post = stage.next_call();
    stage.started(&post, 1);
    let poll = stage.next_call();
    let mut activity = stage.activity(1, ActivityState::Completed, 1, None);
    activity.counts.error = Some(1);
    stage.answered(&poll, activity);
    stage.pass(1_000);
    assert_eq!(stage.offset, 1);
    for _ in 0..2 {
        stage = stage.crash();
        stage.enter("bad");
        stage.pass(300_000);
        assert!(stage.calls.is_empty(), "neither by itself nor for the same row");
        assert!(stage.engine.is_quiet());
    }
    stage.record("bad", "gold", ChangeKind::Updated, Some("bad@example.com"), Some("Bea"));
    assert_eq!(Stage::addresses(&stage.next_call().request), ["bad@example.com"]);
}
