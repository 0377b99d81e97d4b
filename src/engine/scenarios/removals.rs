//! Removals: whose ids they name, and when they count.

use crate::model::{
    ContactId,
    activity::ActivityState,
    call::{Disposition, Lost, Outcome, RemovalSource, Request},
};

use super::{START, Stage};

fn ids(request: &Request) -> Vec<u128> {
    let Request::Remove { source: RemovalSource::Contacts(ids), .. } = request else { panic!("no removal: {request:?}") };
    ids.iter().map(|id: &ContactId| id.as_u128()).collect()
}

/// A stage with these profiles on its list.
fn with_members(profiles: &[&str]) -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for profile in profiles {
        stage.enter(profile);
    }
    stage.complete(1);
    stage
}

/// The next removal, with the ids that a scan or look-ups find for it.
fn removal(stage: &mut Stage, contacts: &[(&str, u128)]) -> crate::engine::output::Call {
    loop {
        let call = stage.next_call();
        match &call.request {
            Request::ListMembers { .. } => stage.contacts(&call, contacts),
            Request::LookUp { address } => {
                let known = contacts.iter().filter(|(profile, _)| *address == format!("{profile}@example.com"));
                let known: Vec<_> = known.copied().collect();
                stage.contacts(&call, &known);
            }
            Request::Remove { .. } => return call,
            // Removals before it are followed meanwhile.
            Request::Activity { activity_id } => {
                let running = stage.activity(activity_id.as_u128(), ActivityState::Processing, 2, None);
                stage.answered(&call, running);
            }
            Request::Activities { .. } => stage.activities(&call, Vec::new(), None),
            Request::Import { .. }
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
}

#[test]
fn the_id_of_a_contact_that_left_is_never_used_for_another_one() {
    let mut stage = with_members(&["p1", "p2", "p3", "p4"]);
    stage.exit("p1");
    stage.exit("p2");
    let all = [("p1", 11), ("p2", 12), ("p3", 13), ("p4", 14)];
    let first = removal(&mut stage, &all);
    assert_eq!(ids(&first.request), [11, 12]);
    stage.started(&first, 2);
    // While it runs, the list is paged through again, and still shows them.
    stage.exit("p3");
    stage.exit("p4");
    let second = removal(&mut stage, &all);
    assert_eq!(ids(&second.request), [13, 14]);
    stage.started(&second, 3);
    let poll = stage.next_call();
    let ended = [2, 3].map(|id| stage.activity(id, ActivityState::Completed, 2, None));
    stage.activities(&poll, ended.to_vec(), None);
    stage.pass(1_000);
    // Their places in memory are another contact's now.
    stage.enter("p5");
    stage.enter("p6");
    stage.complete(4);
    stage.exit("p5");
    stage.exit("p6");
    let third = removal(&mut stage, &[("p5", 15), ("p6", 16)]);
    let mut named = ids(&third.request);
    named.sort_unstable();
    assert_eq!(named, [15, 16]);
}

#[test]
fn a_repeat_that_fails_still_waits_for_its_first_attempt() {
    let mut stage = with_members(&["p1"]);
    stage.exit("p1");
    let first = removal(&mut stage, &[("p1", 11)]);
    stage.answer(&first, Outcome::Unknown(Lost::Timeout));
    let repeat = stage.next_call();
    assert_eq!(repeat.request, first.request);
    stage.started(&repeat, 3);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(3, ActivityState::Cancelled, 1, None));
    // The first attempt had arrived, and runs.
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let running = stage.activity(2, ActivityState::Processing, 1, None);
    stage.activities(&look, vec![running], None);
    stage.enter("p1");
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None }, "nothing touches the contact meanwhile");
    let ended = stage.activity(2, ActivityState::Completed, 1, None);
    stage.activities(&look, vec![ended], None);
    assert_eq!(Stage::addresses(&stage.next_call().request), ["p1@example.com"]);
}

#[test]
fn a_repeat_that_is_refused_still_waits_for_its_first_attempt() {
    let mut stage = with_members(&["p1"]);
    stage.exit("p1");
    let first = removal(&mut stage, &[("p1", 11)]);
    stage.answer(&first, Outcome::Unknown(Lost::Timeout));
    let repeat = stage.next_call();
    stage.refused(&repeat, 400, Disposition::Invalid);
    assert_eq!(stage.next_call().request, Request::Activities { cursor: None });
}

#[test]
fn a_removal_that_is_too_large_goes_in_halves_with_their_ids() {
    let mut stage = with_members(&["p1", "p2"]);
    stage.exit("p1");
    stage.exit("p2");
    let whole = removal(&mut stage, &[("p1", 11), ("p2", 12)]);
    assert_eq!(ids(&whole.request), [11, 12]);
    stage.refused(&whole, 413, Disposition::Split);
    let (first, second) = (stage.next_call(), stage.next_call());
    assert_eq!((ids(&first.request), ids(&second.request)), (vec![11], vec![12]));
}

#[test]
fn a_list_that_cannot_be_read_costs_a_call_in_five_minutes() {
    let mut stage = with_members(&["p1", "p2", "p3"]);
    for profile in ["p1", "p2", "p3"] {
        stage.exit(profile);
    }
    let scan = stage.next_call();
    assert!(matches!(scan.request, Request::ListMembers { .. }));
    stage.refused(&scan, 404, Disposition::NotFound);
    stage.pass(290_000);
    assert!(stage.calls.is_empty());
    assert!(matches!(stage.next_call().request, Request::ListMembers { .. }));
}

/// An exit that is looked up within the time that the vendor's index may be late.
fn looked_up_early() -> (Stage, crate::engine::output::Call) {
    let mut config = super::catalog();
    config.timing.index_lag_ms = 600_000;
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.exit("p1");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    (stage, look_up)
}

#[test]
fn an_address_that_is_not_found_is_looked_for_again_once_the_index_must_know_it() {
    let (mut stage, look_up) = looked_up_early();
    stage.contacts(&look_up, &[]);
    stage.pass(580_000);
    assert!(stage.calls.is_empty(), "absence proves nothing yet");
    assert!(!stage.engine.is_quiet());
    assert_eq!(stage.offset, 2, "parked meanwhile");
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[]);
    stage.pass(1_000);
    assert!(stage.engine.is_quiet());
}

#[test]
fn thousands_of_removals_go_in_batches_of_five_hundred() {
    let names: Vec<String> = (0..3_000).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut stage = with_members(&names);
    for name in &names {
        stage.exit(name);
    }
    let scan = stage.next_call();
    assert!(matches!(scan.request, Request::ListMembers { .. }));
    let shown: Vec<(&str, u128)> = names.iter().copied().zip(1..).collect();
    stage.contacts(&scan, &shown);
    for batch in 0..6 {
        let call = removal(&mut stage, &[]);
        assert_eq!(ids(&call.request).len(), 500, "batch {batch}");
        stage.started(&call, 100 + batch);
    }
}

#[test]
fn an_answer_that_is_read_late_tells_what_was_so_when_it_was_asked_for() {
    let (mut stage, look_up) = looked_up_early();
    // The process stands still, and reads the answer only then: the index did not know the contact yet.
    let ms = 700_000;
    stage.now.mono = stage.now.mono.plus_ms(ms);
    stage.now.wall = stage.now.wall.plus_ms(i64::try_from(ms).expect("small"));
    stage.contacts(&look_up, &[]);
    stage.pass(1_000);
    let view = stage.engine.snapshot(stage.now);
    assert_eq!((view.exports[0].waiting, view.exports[0].members), (1, 1), "it settles nothing");
    stage.pass(600_000);
    let again = removal(&mut stage, &[("p1", 11)]);
    assert_eq!(ids(&again.request), [11]);
}
