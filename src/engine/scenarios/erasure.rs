//! Erasures that delete the contact: of members, of those that have left, and never of somebody else's address.

use crate::model::{
    ContactId, ListId,
    call::{Answer, Contact, ContactStatus, Outcome, Page, Request},
    catalog::{Catalog, ConnectionId, ListRef, OnErasure},
    event::ChangeKind,
    state::{ROW_LEFT, StateChange, StateKey, StateValue},
};

use super::{Call, START, Stage};

fn deleting() -> Catalog {
    let mut catalog = super::catalog();
    catalog.connections[0].on_erasure = OnErasure::DeleteContact;
    catalog
}

fn stage() -> Stage {
    Stage::begin_with(deleting(), Vec::new(), None, START)
}

fn look_up(address: &str) -> Request {
    Request::LookUp { address: address.into() }
}

/// The address is looked up, the contact that is found is deleted, and the vendor says so.
fn deleted(stage: &mut Stage, profile: &str) {
    let call = stage.next_call();
    assert_eq!(call.request, look_up(&format!("{profile}@example.com")));
    stage.contacts(&call, &[(profile, 5)]);
    assert_eq!(stage.complete(90), Request::DeleteContacts { contacts: vec![ContactId::from_u128(5)] });
    assert!(stage.engine.is_quiet());
}

/// Whoever is on the list leaves it by the ordinary way.
fn leaves(stage: &mut Stage, profile: &str) {
    stage.exit(profile);
    let call = stage.next_call();
    stage.contacts(&call, &[(profile, 5)]);
    assert!(matches!(stage.complete(80), Request::Remove { .. }));
}

/// The hashes of what the state says was applied of a profile.
fn applied(stage: &Stage) -> Vec<u64> {
    let cut = stage.state.iter().rev().find_map(|change: &StateChange| match &change.value {
        Some(StateValue::Member(cut)) => Some(cut),
        _ => None,
    });
    cut.map(|cut| cut.applied.iter().map(|applied| applied.row_hash).collect()).unwrap_or_default()
}

#[test]
fn a_member_that_is_erased_is_deleted_and_never_imported_again() {
    let mut stage = stage();
    stage.enter("p1");
    stage.complete(1);
    stage.erase("p1");
    deleted(&mut stage, "p1");
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 0);
    stage.enter("p1");
    stage.pass(10_000);
    assert!(stage.calls.is_empty(), "an import might revive it: {:?}", stage.calls);
    assert_eq!(stage.offset, 3);
}

#[test]
fn who_has_left_is_deleted_when_the_erasure_comes_also_after_a_restart() {
    let mut stage = stage();
    stage.enter("p1");
    stage.complete(1);
    leaves(&mut stage, "p1");
    assert_eq!(applied(&stage), [ROW_LEFT]);
    let mut stage = Stage::begin_with(deleting(), stage.state, Some(stage.offset), stage.now.wall.0 + 100_000);
    stage.pass(10_000);
    assert!(stage.calls.is_empty(), "nothing is to be done of it yet: {:?}", stage.calls);
    stage.erase("p1");
    deleted(&mut stage, "p1");
    let next = Stage::begin_with(deleting(), stage.state, Some(stage.offset), stage.now.wall.0 + 100_000);
    assert_eq!(next.engine.exports[0].members.profiles(), 0, "its records are gone");
}

#[test]
fn who_has_left_is_forgotten_where_an_erasure_does_not_delete() {
    let mut stage = stage();
    stage.enter("p1");
    stage.complete(1);
    leaves(&mut stage, "p1");
    let mut stage = Stage::begin(stage.state, Some(stage.offset), stage.now.wall.0 + 100_000);
    stage.erase("p1");
    stage.pass(10_000);
    assert!(stage.calls.is_empty());
}

#[test]
fn an_address_that_another_profile_wants_is_not_deleted() {
    let mut catalog = deleting();
    let mut other = catalog.exports[0].clone();
    other.name = "other".into();
    other.segments = vec!["silver".into()];
    other.list = ListRef::Id(ListId::from_u128(8));
    other.connection = ConnectionId(0);
    catalog.exports.push(other);
    let mut stage = Stage::begin_with(catalog, Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.record("p2", "silver", ChangeKind::Entered, Some("p1@example.com"), Some("Ana"));
    stage.complete(2);
    stage.erase("p1");
    let call = stage.next_call();
    stage.contacts(&call, &[("p1", 5)]);
    assert!(matches!(stage.complete(3), Request::Remove { targets, .. } if targets == [super::LIST]));
    // Once it has left there is nothing that a later erasure of the first profile could mean.
    stage.erase("p2");
    deleted(&mut stage, "p1");
    assert!(stage.engine.is_quiet());
}

/// The account has the contact of `p1`, on no list.
fn shown_as(stage: &mut Stage, call: &Call, status: ContactStatus) {
    let (contact_id, address) = (ContactId::from_u128(5), "p1@example.com".into());
    let contact = Contact { contact_id, address, status, lists: Vec::new() };
    stage.answer(call, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
}

#[test]
fn a_contact_that_the_account_has_as_deleted_is_done() {
    let mut stage = stage();
    stage.enter("p1");
    stage.complete(1);
    stage.erase("p1");
    let call = stage.next_call();
    shown_as(&mut stage, &call, ContactStatus::Deleted);
    stage.pass(1_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.offset, 2);
}

#[test]
fn one_that_has_unsubscribed_is_deleted_all_the_same() {
    let mut stage = stage();
    stage.enter("p1");
    stage.complete(1);
    stage.erase("p1");
    let call = stage.next_call();
    shown_as(&mut stage, &call, ContactStatus::Unsubscribed);
    assert!(matches!(stage.complete(2), Request::DeleteContacts { .. }));
}

#[test]
fn a_member_from_before_stays_when_another_profile_comes_to_want_its_address_meanwhile() {
    let mut catalog = deleting();
    let other = catalog.exports[0].clone();
    let list = ListRef::Id(ListId::from_u128(8));
    catalog.exports.push(crate::model::catalog::Export { name: "other".into(), segments: vec!["silver".into()], list, ..other });
    let address = "p1@example.com";
    let before = StateChange {
        key: StateKey::Protected { export: "vip".into(), bucket: 0 },
        value: Some(StateValue::Protected(vec![crate::model::hash::text_hash(address)])),
    };
    let mut stage = Stage::begin_with(catalog, vec![before], None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.erase("p1");
    let call = stage.next_call();
    assert_eq!(call.request, look_up(address));
    // It was to be deleted, and now is not; and nobody may take it off the list.
    stage.record("p2", "silver", ChangeKind::Entered, Some(address), Some("Ana"));
    stage.contacts(&call, &[("p1", 5)]);
    assert_eq!(Stage::addresses(&stage.complete(2)), [address]);
    stage.pass(10_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "{:?}", stage.calls);
}
