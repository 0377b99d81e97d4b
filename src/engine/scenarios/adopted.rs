//! `existing_members: adopt`: who was on a list before is ours.

use crate::model::{
    call::{RemovalSource, Request},
    catalog::{Catalog, RemovalBrake},
    position::NextOffset,
    state::{ADOPTED_PREFIX, StateKey},
};

use super::super::{Event, PartitionBeginning, reason::HoldReason};
use super::{ContactId, Input, LIST, P, START, Stage, catalog};

fn adopts() -> Catalog {
    let mut catalog = catalog();
    catalog.exports[0].adopts_existing = true;
    catalog
}

/// The source has four records when the term begins.
fn begin(catalog: Catalog) -> Stage {
    let start = NextOffset { partition: P, offset: 0 };
    let partition = PartitionBeginning { start, committed: false, log_start: 0, log_end: 4, settled_hash: None };
    Stage::begin_at(catalog, Vec::new(), vec![partition], START)
}

impl Stage {
    fn reads_to(&mut self, offset: i64) {
        self.engine.handle_input(self.now, Input::ReaderAt(vec![NextOffset { partition: P, offset }]));
        self.drain();
    }

    /// Another owner takes over, when the source ends at `log_end`.
    fn adopts_again(self, catalog: Catalog, log_end: i64) -> Self {
        let start = NextOffset { partition: P, offset: self.offset };
        let partition = PartitionBeginning { start, committed: true, log_start: 0, log_end, settled_hash: None };
        Self::begin_at(catalog, self.state, vec![partition], self.now.wall.0 + 100_000)
    }
}

const MEMBERS: [(&str, u128); 3] = [("old1", 1), ("old2", 2), ("p1", 3)];

#[test]
fn who_was_there_before_leaves_once_the_source_is_known_unless_a_segment_wants_it() {
    let mut stage = begin(adopts());
    let read = stage.next_call();
    assert_eq!(read.request, Request::ListMembers { list: LIST, cursor: None }, "although nothing waits");
    stage.contacts(&read, &MEMBERS);
    assert!(stage.events.iter().any(|event| matches!(event, Event::ExistingMembersAdopted { contacts: 3, .. })));
    stage.enter("p1");
    stage.enter("p2");
    assert_eq!(Stage::addresses(&stage.complete(1)), ["p1@example.com", "p2@example.com"], "its row is sent once");
    stage.pass(60_000);
    assert!(stage.calls.is_empty(), "old1 or old2 may be told of in what is not read yet: {:?}", stage.calls);
    stage.enter("old2");
    stage.reads_to(4);
    let sent = stage.serve(&[]);
    let removed = Request::Remove { source: RemovalSource::Contacts(vec![ContactId::from_u128(1)]), targets: vec![LIST] };
    assert!(sent.len() == 2 && sent.contains(&removed), "its id is known from the page: {sent:?}");
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 3);
    let adopted = |change: &&crate::model::state::StateChange| matches!(&change.key, StateKey::Member { profile, .. } if profile.starts_with(ADOPTED_PREFIX));
    let mut newest = std::collections::BTreeMap::new();
    for change in stage.state.iter().filter(adopted) {
        newest.insert(change.key.clone(), change.value.is_some());
    }
    assert!(newest.len() == 2 && newest.values().all(|kept| !kept), "nothing stands for them any more: {newest:?}");
}

#[test]
fn another_owner_goes_on_and_removes_nobody_before_it_has_read_as_far() {
    let mut stage = begin(adopts());
    let read = stage.next_call();
    stage.contacts(&read, &MEMBERS);
    stage.pass(1_000);
    let mut stage = stage.adopts_again(adopts(), 6);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 3);
    stage.pass(120_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    stage.reads_to(6);
    let sent = stage.serve(&MEMBERS);
    assert!(matches!(&sent[..], [Request::Remove { source: RemovalSource::Contacts(ids), .. }] if ids.len() == 3), "{sent:?}");
}

#[test]
fn the_brake_guards_those_who_were_adopted() {
    let mut catalog = adopts();
    catalog.exports[0].removal_brake = Some(RemovalBrake { percent: 20, contacts_min: 2 });
    let mut stage = begin(catalog);
    let read = stage.next_call();
    stage.contacts(&read, &MEMBERS);
    stage.reads_to(4);
    stage.pass(60_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake));
}

#[test]
fn who_was_adopted_is_protected_again_when_the_configuration_says_so() {
    let mut stage = begin(adopts());
    let read = stage.next_call();
    stage.contacts(&read, &MEMBERS);
    stage.pass(1_000);
    let mut stage = stage.adopts_again(catalog(), 0);
    stage.pass(120_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0, "nothing of theirs is kept but who they are");
    // And who was protected is adopted, once the list was read again.
    let mut stage = stage.adopts_again(adopts(), 0);
    stage.reads_to(0);
    let read = stage.next_call();
    assert_eq!(read.request, Request::ListMembers { list: LIST, cursor: None });
    stage.contacts(&read, &MEMBERS);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 3);
}
