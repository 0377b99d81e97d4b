//! Answers that are lost, processes that die, and what the state must tell the next one.

use std::sync::Arc;

use crate::model::{
    Text,
    activity::ActivityState,
    call::{Answer, Lost, Outcome, Page, Request},
    event::ChangeKind,
    position::NextOffset,
    state::{StateChange, StateKey},
    time::Mono,
};

use super::super::{Beginning, Engine, Input, PartitionBeginning, reason::HoldReason};
use super::{P, START, Stage, catalog};

#[test]
fn a_lost_answer_is_found_by_its_file_name() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import") };
    let file_name = Text::from(name.file_name());
    stage.answer(&post, Outcome::Unknown(Lost::Timeout));
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let activity = stage.activity(3, ActivityState::Completed, 1, Some(file_name));
    stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: vec![activity], next: None })));
    stage.pass(300);
    assert_eq!(stage.offset, 1);
}

#[test]
fn after_a_crash_an_open_batch_is_looked_for_and_its_contacts_are_sent_again() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import") };
    let file_name = Text::from(name.file_name());
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.enter("p1");
    let look = stage.next_call();
    assert!(stage.now.mono >= Mono(1_036_000), "requests of the last term may still be under way");
    let activity = stage.activity(3, ActivityState::Completed, 1, Some(file_name));
    stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: vec![activity], next: None })));
    let again = stage.complete(4);
    assert_eq!(Stage::addresses(&again), ["p1@example.com"]);
    assert_eq!(stage.offset, 1);
    assert!(stage.engine.is_quiet());
}

#[test]
fn a_term_that_is_stopped_during_the_wait_after_a_crash_hands_the_wait_on() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let _post = stage.next_call();
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 10_000);
    stage.engine.handle_input(stage.now, Input::Drain { deadline: stage.now.mono.plus_ms(60_000) });
    stage.drain();
    stage.pass(1_000);
    assert!(stage.drained);
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 12_000);
    stage.enter("p1");
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    assert!(stage.now.mono >= Mono(1_036_000), "requests of the term before the last may still be under way");
}

#[test]
fn after_a_crash_an_exit_that_the_fold_cancels_is_still_sent_explicitly() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let _post = stage.next_call();
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.enter("p1");
    stage.exit("p1");
    for _ in 0..3 {
        let look = stage.next_call();
        assert_eq!(look.request, Request::Activities { cursor: None });
        stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: Vec::new(), next: None })));
    }
    assert_eq!(stage.offset, 0);
    let look_up = stage.next_call();
    assert!(matches!(look_up.request, Request::LookUp { .. }));
}

#[test]
fn a_restart_sends_nothing_that_was_applied() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Ana"));
    stage.pass(60_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 2);
}

#[test]
fn an_address_that_passes_to_another_profile_is_known_to_be_on_the_list_after_a_crash() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    // p1 moves to another address, and before its old one is taken off the list, p2 enters with it.
    stage.record("p1", "gold", ChangeKind::Updated, Some("new@example.com"), Some("Ana"));
    stage.record("p2", "gold", ChangeKind::Entered, Some("p1@example.com"), Some("Bea"));
    stage.pass(300);
    let mut stage = stage.crash();
    stage.record("p1", "gold", ChangeKind::Updated, Some("new@example.com"), Some("Ana"));
    stage.record("p2", "gold", ChangeKind::Entered, Some("p1@example.com"), Some("Bea"));
    stage.record("p2", "gold", ChangeKind::Exited, None, None);
    for _ in 0..4 {
        let call = stage.next_call();
        if let Request::LookUp { address } = &call.request {
            assert_eq!(address, "p1@example.com");
            return;
        }
        if let Request::Import { .. } = &call.request {
            stage.started(&call, 2);
        }
    }
    panic!("the address stays on the list");
}

#[test]
fn a_log_that_is_not_compacted_yet_tells_the_same_as_one_that_is() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    // Two profiles share an address, and leave one after the other.
    stage.record("p1", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    stage.record("p2", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    stage.complete(1);
    stage.record("p2", "gold", ChangeKind::Exited, None, None);
    stage.record("p1", "gold", ChangeKind::Exited, None, None);
    stage.pass(300);
    let member = |change: &&StateChange| matches!(change.key, StateKey::Member { .. });
    let mut logs = vec![stage.state.clone()];
    let compacted: std::collections::BTreeMap<StateKey, StateChange> =
        stage.state.iter().map(|change| (change.key.clone(), change.clone())).collect();
    logs.push(compacted.values().cloned().collect());
    logs.push(compacted.values().rev().cloned().collect());
    // The same records written again, in both orders.
    for again in [false, true] {
        let mut log = stage.state.clone();
        let newest: Vec<StateChange> = compacted.values().filter(member).cloned().collect();
        log.extend(newest.iter().cloned());
        log.extend(if again { newest.into_iter().rev().collect() } else { newest });
        logs.push(log);
    }
    for (number, log) in logs.into_iter().enumerate() {
        let mut stage = Stage::begin(log, Some(stage.offset), stage.now.wall.0 + 100_000);
        stage.record("p2", "gold", ChangeKind::Exited, None, None);
        stage.record("p1", "gold", ChangeKind::Exited, None, None);
        let call = stage.next_call();
        assert_eq!(call.request, Request::LookUp { address: "both@example.com".into() }, "log {number}");
    }
}

#[test]
fn a_wall_clock_that_runs_ahead_does_not_end_the_wait_for_the_vendors_index() {
    let mut config = super::catalog();
    config.timing.index_lag_ms = 600_000;
    let mut stage = Stage::begin_with(config.clone(), Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let vendor = stage.now.wall;
    // The next process's clock is two hours ahead.
    let mut stage = Stage::begin_with(config, stage.state, Some(stage.offset), vendor.0 + 7_200_000);
    let at_vendor = |stage: &Stage| Some(vendor.plus_ms(i64::try_from(stage.now.mono.since_ms(Mono(1_000_000))).expect("small")));
    stage.exit("p1");
    let look_up = stage.next_call();
    let outcome = Outcome::Answered(Answer::Contacts(Page { items: Vec::new(), next: None }));
    let vendor_time = at_vendor(&stage);
    stage.engine.handle_input(stage.now, Input::CallEnded { call: look_up.call, outcome, vendor_time });
    stage.drain();
    stage.pass(60_000);
    assert_eq!(stage.offset, 1, "not found proves nothing within ten minutes of the add");
}

#[test]
fn nothing_leaves_after_the_transaction_that_ends_the_term() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let _post = stage.next_call();
    let mut stage = stage.crash();
    // An open batch of the term before waits to be looked for; the stop does not wait for it.
    stage.engine.handle_input(stage.now, Input::Drain { deadline: stage.now.mono.plus_ms(60_000) });
    stage.drain();
    stage.pass(1_000);
    assert!(stage.drained);
    let changes = stage.state.len();
    stage.pass(600_000);
    assert!(stage.calls.is_empty() && stage.state.len() == changes);
}

#[test]
fn after_a_stop_in_order_the_next_term_waits_until_the_last_calls_count_no_more() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    let deadline = stage.now.mono.plus_ms(100);
    stage.engine.handle_input(stage.now, Input::Drain { deadline });
    stage.drain();
    stage.pass(100);
    assert!(stage.drained && stage.calls.is_empty(), "all was answered");
    // What the activity did is looked for as soon as calls may go.
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 10_000);
    let _look = stage.next_call();
    let since_begin = stage.now.mono.since_ms(Mono(1_000_000));
    assert!((1_000..10_000).contains(&since_begin), "{since_begin} ms after the takeover");
}

#[test]
fn a_request_that_may_still_arrive_keeps_a_stop_from_being_in_order() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.answer(&post, Outcome::Unknown(Lost::Reset));
    let deadline = stage.now.mono.plus_ms(500);
    stage.engine.handle_input(stage.now, Input::Drain { deadline });
    stage.drain();
    stage.pass(600);
    assert!(stage.drained);
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 10_000);
    stage.enter("p1");
    let _look = stage.next_call();
    assert!(stage.now.mono >= Mono(1_036_000), "{:?}", stage.now.mono);
}

#[test]
fn a_stop_is_over_at_its_deadline_whatever_is_waited_for() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    // The API goes away, and is tried more and more rarely.
    for _ in 0..7 {
        let poll = stage.next_call();
        stage.answer(&poll, Outcome::Unknown(Lost::Timeout));
    }
    let deadline = stage.now.mono.plus_ms(5_000);
    stage.engine.handle_input(stage.now, Input::Drain { deadline });
    stage.drain();
    assert!(!stage.drained);
    stage.pass_to_wake();
    assert!(stage.now.mono <= deadline, "{:?} is later than {deadline:?}", stage.now.mono);
    while !stage.drained && stage.now.mono < deadline {
        stage.pass_to_wake();
    }
    assert!(stage.drained);
}

#[test]
fn the_next_term_plans_with_the_arrivals_of_this_one() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for index in 0..60 {
        stage.enter(&format!("p{index}"));
        stage.pass(1_000);
        stage.calls.clear();
    }
    stage.engine.handle_input(stage.now, Input::Drain { deadline: stage.now.mono.plus_ms(1_000) });
    stage.drain();
    stage.pass(2_000);
    assert!(stage.drained);
    let mut next = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    let now = next.now.mono;
    let per_hour = next.engine.exports[0].arrivals[0].per_hour(now);
    assert!((200..2_000).contains(&per_hour), "{per_hour}, of one a second for a minute after a quiet while");
}

#[test]
fn what_ends_while_the_stage_stops_is_read_however_long_it_ran() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    let began = stage.now.mono;
    while stage.now.mono.since_ms(began) < 7_200_000 {
        stage.pass(1_000);
        for poll in std::mem::take(&mut stage.calls) {
            stage.answered(&poll, stage.activity(1, ActivityState::Processing, 1, None));
        }
    }
    stage.engine.handle_input(stage.now, Input::Drain { deadline: stage.now.mono.plus_ms(60_000) });
    stage.drain();
    let poll = stage.next_call_within(6_000);
    stage.answered(&poll, stage.activity(1, ActivityState::Completed, 1, None));
    stage.pass(1_000);
    assert!(stage.drained);
    assert_eq!(stage.offset, 1);
}

#[test]
fn a_shard_that_is_held_as_a_whole_can_be_looked_at() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let mut engine = Engine::new(Arc::new(catalog()), 1);
    for change in &stage.state {
        engine.restore(change.clone());
    }
    // The source was made anew: nothing is committed for it any more.
    let start = NextOffset { partition: P, offset: 0 };
    let partition = PartitionBeginning { start, committed: false, log_start: 0, log_end: 9, settled_hash: None };
    let begun = engine.begin(stage.now, &Beginning { partitions: vec![partition], fenced_at: stage.now.mono });
    assert_eq!(begun, Err(HoldReason::HeaderDisagrees));
    assert_eq!(engine.snapshot(stage.now).held, Some(HoldReason::HeaderDisagrees));
}

#[test]
fn a_source_made_anew_is_a_hold_and_an_expired_record_is_none() {
    use std::sync::Arc;

    use super::super::{Beginning, Engine, PartitionBeginning, reason::HoldReason};
    use crate::model::{position::NextOffset, time::Mono};

    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let begin = |settled_hash: Option<u64>| {
        let mut engine = Engine::new(Arc::new(super::catalog()), 1);
        stage.state.iter().for_each(|change| engine.restore(change.clone()));
        let start = NextOffset { partition: super::P, offset: stage.offset };
        let partition = PartitionBeginning { start, committed: true, log_start: 0, log_end: 9, settled_hash };
        engine.begin(stage.now, &Beginning { partitions: vec![partition], fenced_at: Mono(0) })
    };
    assert_eq!(begin(Some(7)), Err(HoldReason::HeaderDisagrees));
    assert!(begin(Some(0)).is_ok(), "the record that was settled");
    assert!(begin(None).is_ok(), "it has expired");
}
