//! Changes that cannot be sent for long: the watermark goes on without them, and nothing of them is lost.

use crate::model::{
    activity::ActivityState,
    call::{Disposition, Request},
    event::ChangeKind,
};

use super::{START, Stage};

/// The configured time, and what a commit takes.
const PARKED_MS: u64 = 122_000;

#[test]
fn a_change_that_waits_for_long_lets_the_watermark_pass_and_is_sent_all_the_same() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.refused(&post, 503, Disposition::QueueFull);
    stage.record("p2", "gold", ChangeKind::Entered, Some("p2@example.com"), Some("Li"));
    assert_eq!(stage.offset, 0);
    for _ in 0..8 {
        stage.pass(PARKED_MS / 8);
        for post in std::mem::take(&mut stage.calls) {
            stage.refused(&post, 503, Disposition::QueueFull);
        }
    }
    assert_eq!(stage.offset, 2, "nothing holds a watermark for longer");

    // A crash: both are known from the state alone, with their rows.
    let mut stage = stage.crash();
    let (mut sent, mut started) = (Vec::new(), 0);
    while !stage.engine.is_quiet() {
        let call = stage.next_call();
        if let Request::Activity { activity_id } = &call.request {
            let activity = stage.activity(activity_id.as_u128(), ActivityState::Completed, 2, None);
            stage.answered(&call, activity);
        } else if call.request == (Request::Activities { cursor: None }) {
            // The batch that was open when the process died was never taken.
            stage.activities(&call, Vec::new(), None);
        } else {
            sent.extend(Stage::addresses(&call.request).into_iter().map(str::to_owned));
            started += 1;
            stage.started(&call, started);
        }
        stage.pass(300);
    }
    sent.sort();
    assert_eq!(sent, ["p1@example.com", "p2@example.com"]);
}

#[test]
fn what_is_in_flight_for_long_lets_the_watermark_pass_and_is_settled_by_its_end() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 5);
    for _ in 0..40 {
        stage.pass(PARKED_MS / 40);
        for poll in std::mem::take(&mut stage.calls) {
            stage.answered(&poll, stage.activity(5, ActivityState::Processing, 0, None));
        }
    }
    assert_eq!(stage.offset, 1, "its batch stays open, its event is settled");
    assert!(!stage.engine.is_quiet());
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(5, ActivityState::Completed, 1, None));
    stage.pass(300);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
}

#[test]
fn a_parked_change_is_superseded_by_a_later_one() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.refused(&post, 503, Disposition::QueueFull);
    for _ in 0..8 {
        stage.pass(PARKED_MS / 8);
        for post in std::mem::take(&mut stage.calls) {
            stage.refused(&post, 503, Disposition::QueueFull);
        }
    }
    assert_eq!(stage.offset, 1);
    // The batch that was cut holds the old row; what comes later waits behind it, with an event of its own.
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Li"));
    let post = stage.next_call();
    stage.started(&post, 8);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(8, ActivityState::Completed, 1, None));
    stage.complete(9);
    assert_eq!(stage.offset, 2);
    assert!(stage.engine.is_quiet());
}
