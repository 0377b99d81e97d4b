//! Batches that were given up, and show up after all.

use crate::model::{
    ActivityId, Text,
    activity::{Activity, ActivityState},
    call::{Lost, Outcome, Request},
    event::ChangeKind,
    state::{StateKey, StateValue},
};

use super::{START, Stage};

const DAY_MS: u64 = 86_400_000;

/// A stage whose first import was given up, and whose second one was applied; the name of the first one's file.
fn given_up() -> (Stage, Text) {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import") };
    let file_name = Text::from(name.file_name());
    stage.answer(&post, Outcome::Unknown(Lost::Timeout));
    // Twice by its name, once for whatever has none: it is not known yet whether names come back.
    for _ in 0..3 {
        let look = stage.next_call();
        assert_eq!(look.request, Request::Activities { cursor: None });
        stage.activities(&look, Vec::new(), None);
    }
    stage.complete(2);
    (stage, file_name)
}

fn ghost(stage: &Stage, state: ActivityState, file_name: &Text) -> Activity {
    stage.activity(1, state, 1, Some(file_name.clone()))
}

/// How many records of given-up batches the state holds.
fn kept(stage: &Stage) -> usize {
    let newest: std::collections::BTreeMap<_, _> =
        stage.state.iter().map(|change| (change.key.clone(), change.value.clone())).collect();
    let given_up = |value: &Option<StateValue>| matches!(value, Some(StateValue::Batch(batch)) if batch.given_up);
    newest.iter().filter(|(key, value)| matches!(key, StateKey::Batch { .. }) && given_up(value)).count()
}

/// The next look for it.
fn look(stage: &mut Stage) -> super::super::output::Call {
    let call = stage.next_call_within(4 * 3_600_000);
    assert_eq!(call.request, Request::Activities { cursor: None });
    call
}

#[test]
fn a_ghost_that_ends_after_its_contact_has_left_is_undone() {
    let (mut stage, file_name) = given_up();
    assert_eq!(kept(&stage), 1);
    stage.exit("p1");
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[]);
    stage.pass(1_000);
    assert!(stage.engine.is_quiet(), "it is not on the list, as far as is known");
    let call = look(&mut stage);
    let ended = ghost(&stage, ActivityState::Completed, &file_name);
    stage.activities(&call, vec![ended], None);
    assert_eq!(stage.next_call().request, Request::LookUp { address: "p1@example.com".into() });
    stage.pass(1_000);
    assert_eq!(kept(&stage), 0);
}

#[test]
fn a_ghost_is_known_to_the_next_term_and_what_is_wanted_is_sent_once_more() {
    let (stage, file_name) = given_up();
    let mut stage = stage.crash();
    let call = look(&mut stage);
    let ended = ghost(&stage, ActivityState::Failed, &file_name);
    stage.activities(&call, vec![ended], None);
    assert_eq!(Stage::addresses(&stage.complete(3)), ["p1@example.com"]);
    stage.pass(1_000);
    assert!(stage.engine.is_quiet());
    stage.pass(2 * DAY_MS);
    assert!(stage.calls.is_empty(), "nothing is watched any more");
}

#[test]
fn a_ghost_that_is_seen_running_fences_its_contacts_until_it_ended() {
    let (mut stage, file_name) = given_up();
    let call = look(&mut stage);
    let running = ghost(&stage, ActivityState::Processing, &file_name);
    stage.activities(&call, vec![running.clone()], None);
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Bea"));
    stage.enter("p2");
    let post = stage.next_call();
    assert_eq!(Stage::addresses(&post.request), ["p2@example.com"]);
    stage.started(&post, 3);
    for _ in 0..3 {
        let poll = stage.next_call_within(120_000);
        match &poll.request {
            Request::Activity { activity_id } => {
                assert_eq!(*activity_id, ActivityId::from_u128(3));
                stage.answered(&poll, stage.activity(3, ActivityState::Completed, 1, None));
            }
            Request::Activities { .. } => stage.activities(&poll, vec![running.clone()], None),
            Request::Import { .. }
            | Request::Remove { .. }
            | Request::DeleteContacts { .. }
            | Request::ListMembers { .. }
            | Request::LookUp { .. }
            | Request::Suppressed { .. }
            | Request::FindList { .. }
            | Request::List { .. }
            | Request::CreateList { .. }
            | Request::Lists { .. }
            | Request::DeleteList { .. }
            | Request::ContactCounts => panic!("{poll:?}"),
        }
    }
    let call = look(&mut stage);
    let ended = ghost(&stage, ActivityState::Completed, &file_name);
    stage.activities(&call, vec![ended], None);
    assert_eq!(Stage::addresses(&stage.complete(4)), ["p1@example.com"]);
    assert_eq!(stage.offset, 3);
}

#[test]
fn ten_days_are_watched_at_a_bounded_price_and_then_no_more() {
    let (mut stage, _) = given_up();
    let mut looks = [0; 13];
    for day in &mut looks {
        let end = stage.now.mono.plus_ms(DAY_MS);
        while stage.now.mono < end {
            stage.pass(60_000);
            while !stage.calls.is_empty() {
                let call = stage.calls.remove(0);
                stage.activities(&call, Vec::new(), None);
                *day += 1;
            }
        }
    }
    assert!((20..35).contains(&looks[0]), "{looks:?}");
    assert!(looks[1..10].iter().all(|looks| (1..=2).contains(looks)), "{looks:?}");
    assert_eq!((looks[12], kept(&stage)), (0, 0));
}

/// A stage whose vendor gives no names back, after its first import.
fn nameless() -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.echoes_names = false;
    stage.enter("p1");
    stage.complete(1);
    stage
}

#[test]
fn an_import_without_an_answer_is_repeated_where_names_do_not_come_back() {
    let mut stage = nameless();
    stage.enter("p2");
    let post = stage.next_call();
    let left_at = stage.now.mono;
    stage.answer(&post, Outcome::Unknown(Lost::Reset));
    let again = stage.next_call();
    assert_eq!(again.request, post.request);
    assert!(stage.now.mono.since_ms(left_at) >= 30_000, "its first attempt can arrive no more");
    stage.started(&again, 3);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(3, ActivityState::Completed, 1, None));
    // The first attempt had arrived, and runs.
    stage.exit("p2");
    for _ in 0..3 {
        let look = stage.next_call();
        assert_eq!(look.request, Request::Activities { cursor: None }, "nothing touches the contact meanwhile");
        let running = stage.activity(2, ActivityState::Processing, 1, None);
        stage.activities(&look, vec![running], None);
    }
    let look = stage.next_call();
    let ended = stage.activity(2, ActivityState::Completed, 1, None);
    stage.activities(&look, vec![ended], None);
    assert_eq!(stage.next_call().request, Request::LookUp { address: "p2@example.com".into() });
}

#[test]
fn a_restored_import_without_a_name_is_waited_for() {
    let mut stage = nameless();
    stage.enter("p2");
    let _post = stage.next_call();
    let mut stage = stage.crash();
    stage.enter("p2");
    let look = stage.next_call();
    let running = stage.activity(2, ActivityState::Processing, 1, None);
    stage.activities(&look, vec![running], None);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let ended = stage.activity(2, ActivityState::Completed, 1, None);
    stage.activities(&look, vec![ended], None);
    assert_eq!(Stage::addresses(&stage.next_call().request), ["p2@example.com"]);
}
