//! Calls: the day's, the token endpoint's, and how activities are followed.

use crate::model::{
    ActivityId, Text,
    activity::ActivityState,
    call::{Answer, Cursor, Disposition, Lost, NotSent, Outcome, Request},
    catalog::{Catalog, ConnectionId},
    event::ChangeKind,
    state::{StateChange, StateKey, StateValue},
    time::UnixMillis,
};

use super::super::{Input, Standing, calls::TokenState, input::TokenOutcome, reason::HoldReason};
use super::{START, Stage, catalog};

/// Milliseconds of a day of UTC at [`START`].
const SINCE_MIDNIGHT: i64 = START.rem_euclid(86_400_000);
pub(super) const MIDNIGHT: i64 = START - SINCE_MIDNIGHT + 86_400_000;

fn with_calls_per_day(calls: u32) -> Catalog {
    let mut config = catalog();
    config.applications[0].calls_per_day = Some(calls);
    config
}

fn refreshing() -> Catalog {
    let mut config = catalog();
    config.connections[0].refreshes = true;
    config
}

pub(super) fn held(stage: &Stage) -> Option<HoldReason> {
    let view = stage.engine.snapshot(stage.now);
    view.exports[0].held.or(view.applications[0].held)
}

/// Answers every call: an import starts, whatever is asked after has completed. How many imports there were.
fn answer_all(stage: &mut Stage) -> usize {
    let mut imports = 0;
    while !stage.calls.is_empty() {
        let call = stage.calls.remove(0);
        match &call.request {
            Request::Import { .. } => {
                imports += 1;
                stage.started(&call, u128::from(call.call.0));
            }
            Request::Activity { activity_id } => {
                stage.answered(&call, stage.activity(activity_id.as_u128(), ActivityState::Completed, 1, None));
            }
            Request::Activities { .. } => {
                let done = (1..=call.call.0).map(|id| stage.activity(u128::from(id), ActivityState::Completed, 1, None));
                let done = done.collect();
                stage.activities(&call, done, None);
            }
            Request::Remove { .. }
            | Request::ListMembers { .. }
            | Request::LookUp { .. }
            | Request::Suppressed { .. }
            | Request::FindList { .. }
            | Request::List { .. }
            | Request::CreateList { .. }
            | Request::Lists { .. }
            | Request::DeleteContacts { .. }
            | Request::DeleteList { .. }
            | Request::ContactCounts => panic!("{call:?}"),
        }
    }
    imports
}

#[test]
fn a_spent_day_holds_and_goes_on_by_itself_after_midnight() {
    let mut stage = Stage::begin_with(with_calls_per_day(24), Vec::new(), None, MIDNIGHT - 3_600_000);
    let mut id = 0;
    while held(&stage).is_none() {
        id += 1;
        stage.enter(&format!("p{id}"));
        stage.pass(4_000);
        answer_all(&mut stage);
    }
    assert_eq!(held(&stage), Some(HoldReason::QuotaSpent));
    stage.enter("late");
    while stage.now.wall.0 < MIDNIGHT - 601_000 {
        stage.pass(1_000);
        assert_eq!(answer_all(&mut stage), 0, "the last call is kept for a term that does not know the clock");
    }
    assert_eq!(stage.calls_used(), 23);
    stage.pass(600_000);
    answer_all(&mut stage);
    assert_eq!(stage.calls_used(), 24, "nothing is kept of a day that ends");
    stage.enter("later");
    while stage.now.wall.0 < MIDNIGHT + 29_000 {
        stage.pass(1_000);
        assert_eq!(answer_all(&mut stage), 0, "nothing more is sent on this day");
    }
    while answer_all(&mut stage) == 0 {
        stage.pass(1_000);
    }
    // With one call an hour, not at once.
    assert!((MIDNIGHT + 30_000..MIDNIGHT + 3_600_000).contains(&stage.now.wall.0), "{}", stage.now.wall.0 - MIDNIGHT);
}

#[test]
fn a_spent_day_that_a_term_begins_in_ends_by_any_clock() {
    let day = UnixMillis(MIDNIGHT - 1).day();
    let ledger = crate::model::state::LedgerRecord { day, calls: 24, calls_next_day: 0 };
    let mut stage = Stage::begin_with(with_calls_per_day(24), Vec::new(), None, MIDNIGHT - 600_000);
    stage.pass(300);
    let mut state = stage.state.clone();
    let key = StateKey::Ledger { application: catalog().applications[0].client_id_hash };
    state.push(StateChange { key, value: Some(StateValue::Ledger(ledger)) });
    let mut stage = Stage::begin_with(with_calls_per_day(24), state, Some(stage.offset), MIDNIGHT - 300_000);
    stage.enter("p1");
    stage.pass(2_000);
    assert_eq!(held(&stage), Some(HoldReason::QuotaSpent));
    stage.pass(3 * 3_600_000);
    assert!(stage.calls.is_empty(), "a wall clock may run ahead");
    stage.pass(500_000);
    assert!(matches!(stage.next_call().request, Request::Import { .. }));
}

#[test]
fn the_vendors_word_just_after_midnight_does_not_cost_the_day() {
    let mut stage = Stage::begin(Vec::new(), None, MIDNIGHT + 100_000);
    stage.enter("p1");
    let post = stage.next_call();
    stage.refused(&post, 429, Disposition::QuotaExceeded);
    assert_eq!(held(&stage), Some(HoldReason::QuotaSpentByOthers));
    let again = stage.next_call();
    assert!(stage.now.wall.0 < MIDNIGHT + 300_000, "tried again soon");
    stage.started(&again, 1);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(1, ActivityState::Completed, 1, None));
    stage.enter("p2");
    assert!(matches!(stage.next_call().request, Request::Import { .. }), "the rest of the day is ours");
}

#[test]
fn a_call_that_never_left_is_given_back() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    // The suppressed contacts were read before.
    assert_eq!(stage.calls_used(), 2);
    stage.answer(&post, Outcome::NotSent(NotSent::Unreachable));
    assert_eq!(stage.calls_used(), 1);
}

#[test]
fn a_broken_connection_keeps_its_slot_until_the_request_cannot_arrive_any_more() {
    let mut config = catalog();
    config.applications[0].calls_per_second = Some(1);
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.answer(&post, Outcome::Unknown(Lost::Reset));
    stage.pass(35_000);
    assert!(stage.calls.is_empty());
    assert!(matches!(stage.next_call().request, Request::Activities { .. }));
}

#[test]
fn a_token_that_the_store_holds_costs_no_call() {
    let mut stage = Stage::begin_with(refreshing(), Vec::new(), None, START);
    stage.enter("p1");
    stage.next_call();
    assert_eq!((stage.token_reads.len(), stage.calls_used()), (1, 2), "two calls, none for the token");
    assert!(!stage.token_reads[0].may_refresh);
}

#[test]
fn a_token_request_costs_a_call_and_one_that_was_not_made_costs_none() {
    let mut stage = Stage::begin_with(refreshing(), Vec::new(), None, START);
    for (requested, used) in [(false, 0), (true, 1)] {
        stage.engine.connections[0].token = TokenState::Unread;
        stage.tokens = vec![TokenOutcome::Unavailable { requested: false }, TokenOutcome::Unavailable { requested }];
        stage.token_reads.clear();
        stage.pass(4_000);
        let asked: Vec<bool> = stage.token_reads.iter().map(|read| read.may_refresh).collect();
        assert_eq!((asked.as_slice(), stage.calls_used()), ([false, true].as_slice(), used));
    }
}

#[test]
fn a_token_that_cannot_be_refreshed_in_good_time_works_on() {
    let mut stage = Stage::begin_with(refreshing(), Vec::new(), None, START);
    let soon = Some(UnixMillis(START + 120_000));
    let end = Some(UnixMillis(START + 3_600_000));
    stage.engine.connections[0].token = TokenState::Valid { refresh_at: soon, expires_at: end };
    stage.pass(100_000);
    stage.tokens = vec![TokenOutcome::Valid { refresh_at: soon, expires_at: end }, TokenOutcome::Unavailable { requested: true }];
    stage.token_reads.clear();
    stage.pass(30_000);
    stage.enter("p1");
    assert!(matches!(stage.next_call().request, Request::Import { .. }));
    assert_eq!(stage.token_reads.len(), 2, "the store, then the endpoint");
}

#[test]
fn a_rejection_of_the_token_before_says_nothing_of_the_one_in_use() {
    let mut stage = Stage::begin_with(refreshing(), Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.token_reads.clear();
    stage.refused(&post, 401, Disposition::RefreshToken);
    assert!(stage.token_reads[0].rejected);
    let again = stage.next_call();
    stage.engine.connections[0].token_at = stage.now.mono.plus_ms(1);
    stage.token_reads.clear();
    stage.refused(&again, 401, Disposition::RefreshToken);
    assert!(stage.token_reads.is_empty());
    assert_eq!(stage.engine.snapshot(stage.now).connections[ConnectionId(0).0 as usize].held, None);
}

/// One profile each in activities 1 and 2.
fn two_running() -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let first = stage.next_call();
    stage.enter("p2");
    stage.started(&first, 1);
    let second = stage.next_call();
    stage.started(&second, 2);
    stage
}

#[test]
fn an_activity_on_the_second_page_is_read_there() {
    let mut stage = two_running();
    let poll = stage.next_call();
    assert_eq!(poll.request, Request::Activities { cursor: None });
    let newer = stage.activity(2, ActivityState::Completed, 1, None);
    stage.activities(&poll, vec![newer], Some(Cursor("more".into())));
    let poll = stage.next_call();
    assert_eq!(poll.request, Request::Activities { cursor: Some(Cursor("more".into())) });
    let older = stage.activity(1, ActivityState::Completed, 1, None);
    stage.activities(&poll, vec![older], None);
    stage.pass(300);
    assert_eq!(stage.offset, 2);
}

#[test]
fn an_activity_that_no_page_shows_is_read_by_itself() {
    let mut stage = two_running();
    let poll = stage.next_call();
    let other = stage.activity(2, ActivityState::Processing, 1, None);
    stage.activities(&poll, vec![other.clone()], None);
    let mut poll = stage.next_call();
    if let Request::Activities { .. } = poll.request {
        // The other one is due first.
        stage.activities(&poll, vec![other], None);
        poll = stage.next_call();
    }
    assert_eq!(poll.request, Request::Activity { activity_id: ActivityId::from_u128(1) });
    stage.answered(&poll, stage.activity(1, ActivityState::Completed, 1, None));
    stage.pass(300);
    assert_eq!(stage.offset, 1);
}

#[test]
fn an_activity_that_is_not_shown_is_asked_for_more_and_more_rarely() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    let mut polls = Vec::new();
    let began = stage.now.mono;
    while stage.now.mono.since_ms(began) < 86_400_000 {
        stage.pass(5_000);
        for poll in std::mem::take(&mut stage.calls) {
            stage.refused(&poll, 404, Disposition::NotFound);
            polls.push(stage.now.mono.since_ms(began));
        }
    }
    let in_first_hour = polls.iter().filter(|at| **at < 3_600_000).count();
    assert!((30..50).contains(&in_first_hour), "{in_first_hour} polls in an hour");
    assert!(polls.len() < 200, "{} polls in a day", polls.len());
}

#[test]
fn an_activity_that_hangs_closes_its_account_for_a_quarter_of_an_hour() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for _ in 0..10 {
        stage.engine.connections[0].activity_time.learn(1, UnixMillis(0), UnixMillis(20_000));
    }
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    let began = stage.now.mono;
    let mut posted_at = None;
    let mut seen = None;
    for second in 0..3_600 {
        stage.pass(1_000);
        if second == 60 {
            stage.enter("p2");
        }
        seen = seen.or(stage.engine.snapshot(stage.now).exports[0].decisions.first().map(|decision| decision.standing));
        for call in std::mem::take(&mut stage.calls) {
            if let Request::Import { .. } = &call.request {
                posted_at = posted_at.or(Some(stage.now.mono.since_ms(began)));
                stage.started(&call, 2);
            } else {
                let hangs = [1, 2].map(|id| stage.activity(id, ActivityState::Processing, 1, None));
                if let Request::Activity { .. } = call.request {
                    stage.answered(&call, hangs[0].clone());
                } else {
                    stage.activities(&call, hangs.to_vec(), None);
                }
            }
        }
    }
    assert_eq!(seen, Some(Standing::Overdue));
    let posted_at = posted_at.expect("others go on");
    assert!((900_000..1_300_000).contains(&posted_at), "{posted_at}");
}

#[test]
fn rows_of_more_than_an_hour_ago_are_kept_nowhere() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for round in 0..100 {
        stage.enter(&format!("p{round}"));
        stage.complete(round + 1);
        stage.pass(60_000);
    }
    let records = stage.state.iter().filter_map(|change| match &change.value {
        Some(StateValue::Export(record)) => Some(record.rows_by_minute.len()),
        Some(_) | None => None,
    });
    assert!(records.max().is_some_and(|minutes| (50..=61).contains(&minutes)));
    let view = stage.engine.snapshot(stage.now);
    assert!((50..=61).contains(&view.exports[0].profiles_last_hour), "{}", view.exports[0].profiles_last_hour);
}

#[test]
fn an_exit_of_one_of_two_while_the_row_is_on_its_way_sends_nothing_more() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    stage.record("p2", "gold", ChangeKind::Entered, Some("both@example.com"), Some("Ana"));
    let post = stage.next_call();
    stage.record("p2", "gold", ChangeKind::Exited, None, None);
    stage.started(&post, 1);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(1, ActivityState::Completed, 1, None));
    stage.pass(10_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 3);
}

#[test]
fn a_value_of_megabytes_waits_as_what_is_sent_of_it() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    let long = "x".repeat(4_100_000);
    stage.record("p1", "gold", ChangeKind::Entered, Some("p1@example.com"), Some(&long));
    assert!(stage.engine.snapshot(stage.now).buffered_bytes < 1_000);
    let Request::Import { rows, .. } = stage.next_call().request else { panic!("no import") };
    assert_eq!(rows.rows[0].1.first_name.as_ref().map(Text::len), Some(50));
}

#[test]
fn an_answer_of_another_kind_is_looked_into() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let odd = Outcome::Answered(Answer::Activities(crate::model::call::Page { items: Vec::new(), next: None }));
    stage.engine.handle_input(stage.now, Input::CallEnded { call: post.call, outcome: odd, vendor_time: None });
    stage.drain();
    assert_eq!(stage.next_call().request, Request::Activities { cursor: None });
}
