//! An export that gets another list in the same account.

use crate::model::{
    ContactId, ListId, Text,
    activity::ActivityState,
    call::{Answer, Contact, ContactStatus, List, Outcome, Page, RemovalSource, Request},
    catalog::{Catalog, ListRef, RemovalStrategy},
    event::ChangeKind,
    state::StateKey,
};

use super::super::{Event, reason::HoldReason};
use super::{Call, LIST, START, Stage, backfill::two_exports, catalog};

const NEW: ListId = ListId::from_u128(99);

/// The export with the old list; who leaves is looked up.
fn old() -> Catalog {
    let mut catalog = catalog();
    catalog.exports[0].removal_strategies = vec![RemovalStrategy::LookUp];
    catalog
}

/// The export with the new list.
fn moved() -> Catalog {
    let mut catalog = old();
    catalog.exports[0].list = ListRef::Id(NEW);
    catalog
}

impl Stage {
    /// The list that the header names.
    fn list_routed(&self) -> Text {
        self.header().routed[0].list.clone()
    }

    /// A look-up finds somebody on these lists.
    fn found_on(&mut self, look_up: &Call, (profile, id): (&str, u128), lists: &[ListId]) {
        let contact = Contact {
            contact_id: ContactId::from_u128(id),
            address: format!("{profile}@example.com").into(),
            status: ContactStatus::Active,
            lists: lists.to_vec(),
        };
        self.answer(look_up, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
    }

    /// Those who wait to leave are looked up and leave; the list that they left, and who.
    fn leave(&mut self, profiles: &[(&str, u128)], activity: u128) -> (ListId, Vec<ContactId>) {
        for _ in profiles {
            let look_up = self.next_call();
            let Request::LookUp { address } = &look_up.request else { panic!("no look-up: {:?}", look_up.request) };
            let known = profiles.iter().find(|(profile, _)| address.starts_with(profile)).expect("somebody who leaves");
            self.found_on(&look_up, *known, &[LIST, NEW]);
        }
        let removal = self.complete(activity);
        let Request::Remove { source: RemovalSource::Contacts(ids), targets } = removal else {
            panic!("no removal: {removal:?}")
        };
        (targets[0], ids)
    }

    /// Nobody was on the new list before but these.
    fn new_list_has(&mut self, profiles: &[&str]) {
        let read = self.next_call();
        assert_eq!(read.request, Request::ListMembers { list: NEW, cursor: None });
        let items = profiles.iter().map(|profile| Contact {
            contact_id: ContactId::from_u128(1),
            address: format!("{profile}@example.com").into(),
            status: ContactStatus::Active,
            lists: vec![NEW],
        });
        self.answer(&read, Outcome::Answered(Answer::Contacts(Page { items: items.collect(), next: None })));
    }

    /// The next import: its list, and its addresses, sorted.
    fn joins(&mut self, activity: u128) -> (ListId, Vec<String>) {
        let import = self.complete(activity);
        let Request::Import { lists, rows, .. } = &import else { panic!("no import: {import:?}") };
        assert!(rows.has_first_name, "their rows are sent, not their addresses alone");
        let mut addresses: Vec<String> = rows.rows.iter().map(|(address, _)| address.to_string()).collect();
        addresses.sort_unstable();
        (lists[0], addresses)
    }
}

fn two_members() -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.enter("p2");
    stage.complete(1);
    stage
}

#[test]
fn ours_leave_the_old_list_and_join_the_new_one() {
    let mut stage = two_members().reconfigured(moved());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, None);
    let old_list = stage.list_routed();
    assert_eq!(old_list, format!("{LIST}"));
    assert_eq!(stage.leave(&[("p1", 11), ("p2", 12)], 2).0, LIST);
    stage.new_list_has(&["p2", "somebody"]);
    assert_eq!(stage.joins(3), (NEW, vec!["p1@example.com".to_owned(), "p2@example.com".to_owned()]));
    assert_eq!(stage.list_routed(), format!("{NEW}"));
    assert!(stage.events.iter().any(|event| matches!(event, Event::MoveEnded { .. })));
    // p2 was on the new list before: it stays there.
    stage.exit("p1");
    stage.exit("p2");
    assert_eq!(stage.leave(&[("p1", 11)], 4), (NEW, vec![ContactId::from_u128(11)]));
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
}

#[test]
fn who_changes_while_ours_leave_is_what_it_is_now_on_the_new_list() {
    let mut stage = two_members().reconfigured(moved());
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Bea"));
    stage.exit("p2");
    stage.enter("p3");
    assert_eq!(stage.leave(&[("p1", 11), ("p2", 12)], 2).0, LIST);
    stage.new_list_has(&[]);
    let import = stage.complete(3);
    let Request::Import { rows, .. } = &import else { panic!("no import: {import:?}") };
    let mut sent: Vec<(&str, &str)> = Vec::new();
    for (address, row) in rows.rows.iter() {
        sent.push((address, row.first_name.as_deref().unwrap_or_default()));
    }
    sent.sort_unstable();
    assert_eq!(sent, [("p1@example.com", "Bea"), ("p3@example.com", "Ana")]);
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.offset, 5);
}

#[test]
fn a_crash_at_any_point_goes_on_where_it_was() {
    // While they leave.
    let mut stage = two_members().reconfigured(moved());
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p1", 11)]);
    let mut stage = stage.reconfigured(moved());
    assert_eq!(stage.list_routed(), format!("{LIST}"));
    stage.leave(&[("p1", 11), ("p2", 12)], 2);
    // Before anybody has joined.
    let mut stage = stage.reconfigured(moved());
    assert_eq!(stage.list_routed(), format!("{NEW}"));
    let post = loop {
        let call = stage.next_call();
        if let Request::ListMembers { list, .. } = call.request {
            assert_eq!(list, NEW);
            stage.contacts(&call, &[]);
            continue;
        }
        break call;
    };
    // While they join.
    let Request::Import { name, .. } = &post.request else { unreachable!() };
    let file = name.file_name();
    let mut stage = stage.reconfigured(moved());
    let look = stage.next_call();
    let done = stage.activity(7, ActivityState::Completed, 2, Some(file.into()));
    stage.activities(&look, vec![done], None);
    assert_eq!(stage.joins(8).0, NEW);
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 2);
}

#[test]
fn back_to_the_old_file_while_they_leave_puts_them_back() {
    let mut stage = two_members().reconfigured(moved());
    for who in [("p1", 11), ("p2", 12)] {
        let look_up = stage.next_call();
        stage.contacts(&look_up, &[who]);
    }
    let post = stage.next_call();
    stage.started(&post, 2);
    let mut stage = stage.reconfigured(old());
    let repeat = stage.next_call();
    assert_eq!(repeat.request, post.request, "a removal without an answer is repeated");
    stage.started(&repeat, 3);
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(3, ActivityState::Completed, 2, None));
    let look = stage.next_call();
    stage.activities(&look, Vec::new(), None);
    assert_eq!(stage.joins(4), (LIST, vec!["p1@example.com".to_owned(), "p2@example.com".to_owned()]));
    assert_eq!(stage.list_routed(), format!("{LIST}"));
}

#[test]
fn back_to_the_old_file_after_the_move_moves_back() {
    let mut stage = two_members().reconfigured(moved());
    stage.leave(&[("p1", 11), ("p2", 12)], 2);
    stage.new_list_has(&["somebody"]);
    stage.joins(3);
    let protected = |stage: &Stage| {
        let key = StateKey::Protected { export: "vip".into(), bucket: 0 };
        stage.state.iter().rev().find(|change| change.key == key).is_some_and(|change| change.value.is_some())
    };
    assert!(protected(&stage));
    let mut stage = stage.reconfigured(old());
    assert_eq!(stage.leave(&[("p1", 11), ("p2", 12)], 4).0, NEW);
    assert!(!protected(&stage), "who was on the list that was left is forgotten");
    let read = stage.next_call();
    assert_eq!(read.request, Request::ListMembers { list: LIST, cursor: None });
    stage.contacts(&read, &[]);
    assert_eq!(stage.joins(5), (LIST, vec!["p1@example.com".to_owned(), "p2@example.com".to_owned()]));
}

#[test]
fn nobody_leaves_before_the_new_list_is_found_and_the_same_list_is_no_move() {
    let mut named = old();
    named.exports[0].list = ListRef::Named { name: "VIP".into(), create: false };
    let mut stage = two_members().reconfigured(named.clone());
    let find = stage.next_call();
    assert_eq!(find.request, Request::FindList { name: "VIP".into() });
    stage.answer(&find, Outcome::Answered(Answer::Lists(Page { items: Vec::new(), next: None })));
    stage.pass(60_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].held, Some(HoldReason::ListMissing));
    // Its name is another now, and it is the same list.
    let mut stage = stage.reconfigured(named);
    let find = stage.next_call();
    let list = List { list_id: LIST, name: "VIP".into(), membership_count: Some(2) };
    stage.answer(&find, Outcome::Answered(Answer::Lists(Page { items: vec![list], next: None })));
    stage.pass(60_000);
    assert_eq!(stage.list_routed(), "name:VIP");
    for call in std::mem::take(&mut stage.calls) {
        assert!(matches!(call.request, Request::Import { .. }), "{:?}", call.request);
    }
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 2);
}

#[test]
fn a_list_is_not_read_for_members_from_before_while_ours_may_still_be_shown_there() {
    let mut catalog = moved();
    catalog.timing.index_lag_ms = 600_000;
    let mut stage = two_members().reconfigured(catalog);
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p1", 11)]);
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p2", 12)]);
    stage.complete(2);
    stage.pass(590_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    stage.new_list_has(&[]);
}

#[test]
fn a_move_goes_on_at_once_when_the_last_is_found_to_have_left_already() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let mut stage = stage.reconfigured(moved());
    let look_up = stage.next_call();
    let before = stage.now.mono;
    stage.found_on(&look_up, ("p1", 11), &[]);
    while !stage.events.iter().any(|event| matches!(event, Event::MoveEnded { .. })) {
        stage.pass_to_wake();
        assert!(stage.now.mono.since_ms(before) < 5_000, "nothing else has to happen for it");
    }
    assert!(!stage.engine.is_quiet());
}

#[test]
fn rows_on_which_a_search_for_refused_ones_was_spent_are_sent_to_the_new_list() {
    let mut stage = Stage::begin_with(old(), Vec::new(), None, START);
    (0..8).for_each(|profile| stage.enter(&format!("p{profile}")));
    stage.complete_picky(|address| ["p1", "p3", "p5", "p7"].iter().any(|bad| address.starts_with(bad)), 0);
    assert_eq!(stage.outcome(), (2, 4, 2));
    let mut stage = stage.reconfigured(moved());
    let ours = [("p0", 10), ("p2", 12), ("p4", 14), ("p5", 15), ("p6", 16), ("p7", 17)];
    let (list, left) = stage.leave(&ours, 2);
    assert_eq!((list, left.len()), (LIST, 6));
    stage.new_list_has(&[]);
    let (list, joined) = stage.joins(3);
    assert_eq!((list, joined), (NEW, ours.map(|(profile, _)| format!("{profile}@example.com")).to_vec()));
    assert_eq!(stage.outcome(), (6, 0, 0));
}

#[test]
fn one_that_is_taken_away_before_its_segments_are_read_again_still_knows_its_old_list_when_it_comes_back() {
    let both = || {
        let mut catalog = two_exports();
        catalog.exports[0].removal_strategies = vec![RemovalStrategy::LookUp];
        catalog
    };
    let mut moves = both();
    moves.exports[0].list = ListRef::Id(NEW);
    let mut gone = both();
    gone.exports.remove(0);
    let mut stage = Stage::begin_with(both(), Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let stage = stage.begun_again(moves.clone());
    assert!(stage.header().routed[0].segments.is_empty(), "they are being read again");
    let stage = stage.begun_again(gone.clone()).begun_again(gone);
    let mut stage = stage.reconfigured(moves);
    assert_eq!(stage.leave(&[("p1", 11)], 2).0, LIST);
    stage.new_list_has(&[]);
    assert_eq!(stage.joins(3), (NEW, vec!["p1@example.com".to_owned()]));
}
