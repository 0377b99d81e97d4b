//! An account whose queue of activities is full: it is tried more and more rarely, and is nobody else's trouble.

use crate::model::{
    ListId, Text,
    activity::ActivityState,
    call::{Disposition, Request},
    catalog::{Catalog, ConnectionId},
    event::ChangeKind,
    time::Mono,
};

use super::super::{output::Call, reason::HoldReason};
use super::{START, Stage, backfill::two_exports, catalog};

/// Two exports in two accounts of one key.
fn two_accounts() -> Catalog {
    let mut catalog = two_exports();
    let second = crate::model::catalog::Connection { name: "offers".into(), ..catalog.connections[0].clone() };
    catalog.connections.push(second);
    catalog.exports[1].connection = ConnectionId(1);
    catalog
}

/// Two imports of the first export were under way when the queue was full.
fn refused_side_by_side(catalog: Catalog) -> Stage {
    let mut stage = Stage::begin_with(catalog, Vec::new(), None, START);
    stage.enter("p1");
    let first = stage.next_call();
    stage.enter("p2");
    let second = stage.next_call();
    stage.refused(&first, 429, Disposition::QueueFull);
    stage.refused(&second, 429, Disposition::QueueFull);
    stage
}

fn begins(call: &Call) -> bool {
    matches!(call.request, Request::Import { .. } | Request::Remove { .. })
}

impl Stage {
    fn enter_trials(&mut self, profile: &str) {
        let email = Text::from(format!("{profile}@example.com"));
        self.record(profile, "trial", ChangeKind::Entered, Some(&email), None);
    }

    fn account_hold(&self) -> Option<HoldReason> {
        self.engine.snapshot(self.now).connections[0].held
    }

    /// Refuses all imports for a full queue until `end`, and says when that was; everything else is under way.
    fn refuse_all(&mut self, end: Mono) -> Vec<Mono> {
        let mut refused_at = Vec::new();
        while self.now.mono < end {
            self.pass(1_000);
            let (begun, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.calls).into_iter().partition(begins);
            for call in begun {
                self.refused(&call, 429, Disposition::QueueFull);
                refused_at.push(self.now.mono);
            }
            for call in others {
                let running = self.activity(1, ActivityState::Processing, 1, None);
                self.answered(&call, running);
            }
        }
        refused_at
    }
}

#[test]
fn a_full_queue_is_tried_by_one_activity_more_and_more_rarely() {
    let mut stage = refused_side_by_side(catalog());
    assert_eq!(stage.account_hold(), Some(HoldReason::ActivityQueueFull));
    let began = stage.now.mono;
    let refused_at = stage.refuse_all(began.plus_ms(3_600_000));
    let seconds: Vec<u64> = refused_at.iter().map(|at| at.since_ms(began) / 1_000).collect();
    assert!((8..=12).contains(&seconds.len()), "{seconds:?}");
    assert!(seconds[0] >= 30 && seconds[0] < 35, "two that were refused side by side are one refusal: {seconds:?}");
    assert_eq!(stage.account_hold(), Some(HoldReason::ActivityQueueFull));
    // Once it has room, both go.
    let first = stage.next_call_within(500_000);
    stage.started(&first, 1);
    stage.pass(2_000);
    assert!(stage.calls.iter().any(begins), "{:?}", stage.calls);
    assert_eq!(stage.account_hold(), None);
}

#[test]
fn what_runs_is_read_while_the_queue_is_full() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let first = stage.next_call();
    stage.started(&first, 1);
    stage.enter("p2");
    let (second, poll) = (stage.next_call(), stage.next_call());
    let (second, poll) = if begins(&second) { (second, poll) } else { (poll, second) };
    stage.refused(&second, 429, Disposition::QueueFull);
    let done = stage.activity(1, ActivityState::Completed, 1, None);
    stage.answered(&poll, done);
    stage.pass(2_000);
    assert_eq!((stage.members(), stage.account_hold()), (1, Some(HoldReason::ActivityQueueFull)));
}

#[test]
fn an_export_that_is_held_keeps_no_other_of_its_account_from_trying() {
    let mut stage = refused_side_by_side(two_exports());
    // The queue has room again, but the list is gone.
    let trial = stage.next_call();
    stage.refused(&trial, 404, Disposition::NotFound);
    stage.enter_trials("t1");
    stage.pass(5_000);
    let post = stage.calls.pop().expect("the other export tries");
    assert!(matches!(&post.request, Request::Import { lists, .. } if *lists == [ListId::from_u128(8)]), "{post:?}");
}

#[test]
fn a_queue_that_was_full_is_no_hold_where_nothing_is_to_be_begun() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.refused(&post, 429, Disposition::QueueFull);
    assert_eq!(stage.account_hold(), Some(HoldReason::ActivityQueueFull));
    stage.order(crate::model::control::ControlAction::Pause);
    stage.pass(60_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    assert_eq!(stage.account_hold(), None);
}

#[test]
fn what_an_account_that_is_held_has_cut_takes_nothing_from_the_others_of_its_key() {
    let mut stage = Stage::begin_with(two_accounts(), Vec::new(), None, START);
    // More batches than two seconds of the key's pace, cut and held.
    for index in 0..12 {
        stage.enter(&format!("p{index}"));
        stage.pass(1_100);
    }
    let posts = std::mem::take(&mut stage.calls);
    for post in posts.iter().filter(|call| begins(call)) {
        stage.refused(post, 429, Disposition::QueueFull);
    }
    assert_eq!(stage.account_hold(), Some(HoldReason::ActivityQueueFull));
    assert!(stage.engine.applications[0].unsent > 8, "{}", stage.engine.applications[0].unsent);
    stage.enter_trials("t1");
    let post = stage.next_call();
    assert!(matches!(&post.request, Request::Import { lists, .. } if *lists == [ListId::from_u128(8)]), "{post:?}");
}
