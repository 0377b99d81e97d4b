//! Members that a list had before Listkeeper first sent to it.

use crate::model::{
    call::{Answer, Contact, ContactStatus, Cursor, Outcome, Page, Request},
    event::ChangeKind,
    time::UnixMillis,
};

use super::super::reason::HoldReason;
use super::{ContactId, LIST, START, Stage, catalog};

fn page(profiles: &[&str], next: Option<&str>) -> Outcome {
    let items = profiles.iter().map(|profile| Contact {
        contact_id: ContactId::from_u128(1),
        address: format!("{profile}@example.com").into(),
        status: ContactStatus::Active,
        lists: vec![LIST],
    });
    let next = next.map(|cursor| Cursor(cursor.into()));
    Outcome::Answered(Answer::Contacts(Page { items: items.collect(), next }))
}

#[test]
fn who_was_on_the_list_before_is_updated_and_never_removed() {
    let mut stage = Stage::begin_bare(catalog(), Vec::new(), None, START);
    stage.enter("p1");
    stage.enter("p2");
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::ListUnread));
    let first = stage.next_call();
    assert_eq!(first.request, Request::ListMembers { list: LIST, cursor: None });
    stage.answer(&first, page(&["somebody", "p1"], Some("2")));
    let second = stage.next_call();
    assert_eq!(second.request, Request::ListMembers { list: LIST, cursor: Some(Cursor("2".into())) });
    stage.answer(&second, page(&["nobody"], None));
    let import = stage.complete(1);
    assert_eq!(Stage::addresses(&import), ["p1@example.com", "p2@example.com"], "fields are sent to both");

    // Another owner knows it too.
    let mut stage = stage.crash();
    stage.exit("p1");
    stage.exit("p2");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p2@example.com".into() });
    stage.contacts(&look_up, &[("p2", 12)]);
    stage.complete(2);
    stage.pass(60_000);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.offset, 4);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0, "nothing of them is kept");
}

#[test]
fn a_page_that_is_refused_is_asked_for_again_and_a_cursor_that_is_gone_begins_anew() {
    let mut stage = Stage::begin_bare(catalog(), Vec::new(), None, START);
    stage.enter("p1");
    let first = stage.next_call();
    stage.answer(&first, page(&["p1"], Some("2")));
    let second = stage.next_call();
    stage.refused(&second, 503, crate::model::call::Disposition::ServerError);
    let again = stage.next_call();
    assert_eq!(again.request, second.request);
    stage.refused(&again, 400, crate::model::call::Disposition::Invalid);
    stage.pass(300_000);
    let anew = stage.next_call();
    assert_eq!(anew.request, first.request);
    stage.answer(&anew, page(&[], None));
    stage.complete(1);
    stage.exit("p1");
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "it was there when the list was read first");
}

#[test]
fn a_state_of_before_does_not_take_our_own_members_for_others() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("p1@example.com"), None);
    stage.complete(1);
    let mut state = stage.state.clone();
    for change in &mut state {
        if let Some(crate::model::state::StateValue::Export(record)) = &mut change.value {
            record.existing_read = false;
        }
    }
    let mut stage = Stage::begin_bare(catalog(), state, Some(stage.offset), START + 100_000);
    stage.exit("p1");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    assert!(stage.now.wall > UnixMillis(START));
}
