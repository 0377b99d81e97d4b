//! Lists that are found by name, created, or missing.

use crate::model::{
    call::{Answer, Cursor, Disposition, Outcome, Page, Request},
    catalog::{Catalog, ListRef},
};

use super::{START, Stage, catalog};

fn named(create: bool) -> Catalog {
    let mut config = catalog();
    config.exports[0].list = ListRef::Named { name: "VIP".into(), create };
    config
}

fn none(next: Option<Cursor>) -> Outcome {
    Outcome::Answered(Answer::Lists(Page { items: Vec::new(), next }))
}

#[test]
fn a_list_that_is_missing_is_created_although_the_pace_leaves_no_slot_at_once() {
    let mut config = named(true);
    config.applications[0].calls_per_second = Some(1);
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    stage.enter("p1");
    let find = stage.next_call();
    assert_eq!(find.request, Request::FindList { name: "VIP".into() });
    stage.answer(&find, none(None));
    assert_eq!(stage.next_call().request, Request::CreateList { name: "VIP".into() });
}

#[test]
fn a_name_that_is_taken_and_not_found_waits_for_a_person_instead_of_spending_the_day() {
    let mut stage = Stage::begin_with(named(true), Vec::new(), None, START);
    stage.enter("p1");
    let find = stage.next_call();
    stage.answer(&find, none(None));
    let create = stage.next_call();
    stage.refused(&create, 409, Disposition::Conflict);
    let find = stage.next_call();
    assert_eq!(find.request, Request::FindList { name: "VIP".into() });
    stage.answer(&find, none(None));
    stage.pass(200_000);
    assert!(stage.calls.is_empty(), "held for five minutes");
    assert!(stage.engine.snapshot(stage.now).exports[0].held.is_some());
}

#[test]
fn a_page_with_others_behind_it_proves_no_absence() {
    let mut stage = Stage::begin_with(named(true), Vec::new(), None, START);
    stage.enter("p1");
    let find = stage.next_call();
    stage.answer(&find, none(Some(Cursor("next".into()))));
    stage.pass(200_000);
    assert!(stage.calls.is_empty(), "nothing is created");
}
