//! An account whose contract allows so many contacts.

use crate::model::{
    call::{Answer, ContactCounts, Disposition, Lost, Outcome, Request},
    catalog::Catalog,
    event::ChangeKind,
    state::{ConnectionRecord, StateChange, StateKey, StateValue},
};

use super::super::{ContractReached, output::Call, reason::HoldReason};
use super::{START, Stage, backfill::two_exports, catalog};

const MINUTE_MS: u64 = 60_000;

/// Ten contacts are allowed.
fn limited() -> Catalog {
    let mut catalog = catalog();
    catalog.connections[0].contacts_max = Some(10);
    catalog
}

fn stage() -> Stage {
    Stage::begin_with(limited(), Vec::new(), None, START)
}

impl Stage {
    fn asks_for_counts(&mut self) -> Call {
        let call = self.next_call();
        assert_eq!(call.request, Request::ContactCounts);
        call
    }

    fn counted(&mut self, call: &Call, active: u64) {
        let counts = ContactCounts { total: active + 3, implicit: active, unsubscribed: 3, ..ContactCounts::default() };
        self.answer(call, Outcome::Answered(Answer::ContactCounts(counts)));
    }

    /// The next call counts the account's contacts.
    fn counts_contacts(&mut self, active: u64) {
        let call = self.asks_for_counts();
        self.counted(&call, active);
    }

    fn imports(&mut self, id: u128) -> Vec<String> {
        let import = self.complete(id);
        Self::addresses(&import).into_iter().map(|address| address.replace("@example.com", "")).collect()
    }

    fn reached(&self) -> Option<ContractReached> {
        self.engine.snapshot(self.now).exports[0].contract
    }

    fn rests(&mut self, ms: u64) {
        self.pass(ms);
        assert!(self.calls.is_empty() && self.engine.is_quiet(), "{:?}", self.calls);
    }
}

#[test]
fn contacts_are_counted_before_the_first_import_and_not_again_while_there_is_room() {
    let mut stage = stage();
    stage.enter("p1");
    let call = stage.asks_for_counts();
    stage.pass(MINUTE_MS);
    assert!(stage.calls.is_empty(), "nothing goes before");
    stage.counted(&call, 5);
    assert_eq!(stage.imports(1), ["p1"]);
    for (id, profile) in (2..).zip(["p2", "p3", "p4", "p5"]) {
        stage.enter(profile);
        assert_eq!(stage.imports(id), [profile]);
    }
    stage.rests(2 * 60 * MINUTE_MS);
    let view = &stage.engine.snapshot(stage.now).connections[0];
    assert_eq!((view.contacts, view.contacts_max), (Some(10), Some(10)));
}

#[test]
fn a_count_that_fails_is_made_again() {
    let mut stage = stage();
    stage.enter("p1");
    let call = stage.asks_for_counts();
    stage.refused(&call, 503, Disposition::ServerError);
    stage.counts_contacts(9);
    assert_eq!(stage.imports(1), ["p1"]);
}

#[test]
fn an_import_is_cut_to_what_there_is_room_for_and_the_rest_is_parked_and_told() {
    let mut stage = stage();
    for profile in ["p1", "p2", "p3", "p4"] {
        stage.enter(profile);
    }
    stage.counts_contacts(8);
    assert_eq!(stage.imports(1), ["p1", "p2"]);
    stage.pass(2_000);
    assert_eq!(stage.offset, 4, "no watermark waits for it");
    assert_eq!(stage.reached(), Some(ContractReached { adds: 2, contacts: 10, contacts_max: 10 }));
    assert_eq!(stage.held(), Some(HoldReason::ContactsMax));
    let text = stage.engine.snapshot(stage.now).exports[0].explain().expect("it is held");
    assert!(text.starts_with("2 adds wait: the account has up to 10 contacts, and its contract allows 10"), "{text}");
    // Updates and removals go on, and whoever leaves before there is room needs none.
    stage.record("p2", "gold", ChangeKind::Updated, Some("p2@example.com"), Some("Bea"));
    assert_eq!(stage.imports(2), ["p2"]);
    stage.exit("p1");
    let look = stage.next_call();
    stage.contacts(&look, &[("p1", 1)]);
    assert!(matches!(stage.complete(3), Request::Remove { .. }));
    stage.exit("p3");
    stage.pass(2_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.reached().map(|reached| reached.adds), Some(1));
    stage.enter("p5");
    stage.pass(2_000);
    assert_eq!((stage.reached().map(|reached| reached.adds), stage.calls.len()), (Some(2), 0));
}

#[test]
fn while_adds_wait_contacts_are_counted_every_quarter_of_an_hour_and_the_oldest_go_first() {
    let mut stage = stage();
    for profile in ["p1", "p2", "p3"] {
        stage.enter(profile);
    }
    stage.counts_contacts(10);
    stage.pass(14 * MINUTE_MS);
    assert!(stage.calls.is_empty());
    let call = stage.next_call_within(MINUTE_MS);
    stage.counted(&call, 10);
    stage.pass(14 * MINUTE_MS);
    assert!(stage.calls.is_empty());
    stage.enter("p4");
    let call = stage.next_call_within(MINUTE_MS);
    stage.counted(&call, 8);
    assert_eq!(stage.imports(1), ["p1", "p2"]);
    assert_eq!(stage.reached(), Some(ContractReached { adds: 2, contacts: 10, contacts_max: 10 }));
    let call = stage.next_call_within(15 * MINUTE_MS);
    stage.counted(&call, 3);
    assert_eq!((stage.imports(2), stage.reached(), stage.held()), (vec!["p3".to_owned(), "p4".to_owned()], None, None));
    stage.rests(60 * MINUTE_MS);
}

#[test]
fn what_the_estimate_says_is_counted_anew_before_an_add_is_put_aside() {
    let mut stage = stage();
    stage.enter("p1");
    stage.counts_contacts(9);
    assert_eq!(stage.imports(1), ["p1"]);
    stage.pass(MINUTE_MS);
    stage.enter("p2");
    stage.pass(2_000);
    assert_eq!((stage.held(), stage.calls.len()), (Some(HoldReason::ContactsMax), 0), "it was counted a minute ago");
    let call = stage.next_call_within(15 * MINUTE_MS);
    stage.counted(&call, 9);
    assert_eq!(stage.imports(2), ["p2"]);
    // Long after the last count, room is looked for before anybody is told.
    stage.pass(60 * MINUTE_MS);
    stage.enter("p3");
    let call = stage.asks_for_counts();
    assert_eq!(stage.held(), None);
    stage.counted(&call, 7);
    assert_eq!(stage.imports(3), ["p3"]);
}

#[test]
fn what_has_just_been_added_may_not_be_counted_yet_not_by_the_next_term_either() {
    let mut catalog = limited();
    catalog.timing.index_lag_ms = 10 * MINUTE_MS;
    let mut stage = Stage::begin_with(catalog.clone(), Vec::new(), None, START);
    stage.enter("p1");
    stage.enter("p2");
    stage.counts_contacts(8);
    assert_eq!(stage.imports(1), ["p1", "p2"]);
    let (state, offset, wall) = (stage.state, stage.offset, stage.now.wall.0);
    let mut stage = Stage::begin_with(catalog, state, Some(offset), wall + 100_000);
    stage.enter("p3");
    stage.counts_contacts(8);
    stage.pass(2_000);
    assert_eq!(stage.reached(), Some(ContractReached { adds: 1, contacts: 10, contacts_max: 10 }));
    assert!(stage.calls.is_empty() && !stage.engine.is_quiet(), "a later count may tell another");
    let call = stage.next_call_within(15 * MINUTE_MS);
    stage.counted(&call, 9);
    assert_eq!(stage.imports(2), ["p3"]);
}

#[test]
fn whom_an_earlier_term_added_and_took_off_again_may_not_be_counted_yet_either() {
    let mut catalog = limited();
    catalog.timing.index_lag_ms = 10 * MINUTE_MS;
    let this_minute = START.div_euclid(60_000);
    let record =
        ConnectionRecord { adds_by_minute: vec![(this_minute - 20, 5), (this_minute - 1, 2)], ..ConnectionRecord::default() };
    let key = StateKey::Connection { connection: catalog.connections[0].name.clone() };
    let state = vec![StateChange { key, value: Some(StateValue::Connection(record)) }];
    let mut stage = Stage::begin_with(catalog, state, None, START);
    stage.enter("p1");
    stage.enter("p2");
    stage.counts_contacts(7);
    assert_eq!(stage.imports(1), ["p1"]);
    assert_eq!(stage.reached(), Some(ContractReached { adds: 1, contacts: 10, contacts_max: 10 }));
}

#[test]
fn adds_that_wait_are_kept_in_the_state_and_go_once_the_contract_allows_more() {
    let mut stage = stage();
    stage.enter("p1");
    stage.counts_contacts(10);
    stage.pass(2_000);
    assert_eq!(stage.offset, 1);
    let parked = stage.state.iter().rev().find_map(|change| match (&change.key, &change.value) {
        (StateKey::Member { .. }, Some(StateValue::Member(cut))) => Some(cut.row.is_some()),
        (_, _) => None,
    });
    assert_eq!(parked, Some(true));
    let mut larger = limited();
    larger.connections[0].contacts_max = Some(11);
    let mut stage = Stage::begin_with(larger, stage.state, Some(1), stage.now.wall.0 + 100_000);
    stage.counts_contacts(10);
    assert_eq!(stage.imports(1), ["p1"]);
    stage.rests(2_000);
}

#[test]
fn whom_another_list_of_the_account_has_is_no_add() {
    let mut catalog = two_exports();
    catalog.connections[0].contacts_max = Some(10);
    let mut stage = Stage::begin_with(catalog, Vec::new(), None, START);
    stage.enter("p1");
    stage.counts_contacts(9);
    assert_eq!(stage.imports(1), ["p1"]);
    let segment = stage.engine.catalog.exports[1].segments[0].clone();
    stage.record("p1", &segment, ChangeKind::Entered, Some("p1@example.com"), Some("Ana"));
    assert_eq!(stage.imports(2), ["p1"]);
    stage.rests(2_000);
}

#[test]
fn a_batch_that_was_given_up_keeps_the_room_of_its_contacts_and_they_may_take_it() {
    let mut stage = stage();
    stage.enter("p1");
    stage.enter("p2");
    stage.counts_contacts(8);
    let post = stage.next_call();
    assert!(matches!(post.request, Request::Import { .. }));
    stage.answer(&post, Outcome::Unknown(Lost::Timeout));
    // Its names come back, as far as is known, and its own does not.
    for _ in 0..2 {
        let look = stage.next_call();
        assert!(matches!(look.request, Request::Activities { .. }), "{look:?}");
        stage.activities(&look, Vec::new(), None);
    }
    let mut again = stage.next_call();
    while let Request::Activities { .. } = again.request {
        stage.activities(&again, Vec::new(), None);
        again = stage.next_call();
    }
    assert_eq!(Stage::addresses(&again.request), ["p1@example.com", "p2@example.com"]);
    stage.enter("p3");
    stage.pass(2_000);
    assert_eq!(stage.reached().map(|reached| reached.adds), Some(1), "the one that was given up may run after all");
}
