//! Removals by staging lists: what they are made of, and when they count.

use crate::engine::{Event, event::RoundEnd, event::StagingListChange, output::Call};
use crate::model::{
    ListId,
    activity::{Activity, ActivityCounts, ActivityState},
    call::{Answer, Contact, ContactStatus, Disposition, List, Lost, Outcome, Page, RemovalSource, Request},
    catalog::{Catalog, RemovalStrategy},
    state::{ConnectionRecord, StagingListRecord, StateChange, StateKey, StateValue},
};

use super::{LIST, START, Stage};

pub(super) const STAGING: ListId = ListId::from_u128(70);
const OTHER: ListId = ListId::from_u128(71);

pub(super) fn catalog() -> Catalog {
    let mut catalog = super::catalog();
    catalog.exports[0].removal_strategies = vec![RemovalStrategy::StagingList];
    catalog
}

/// What the state says of the connection: these staging lists, and whether one removal may name both lists.
pub(super) fn connection(removes_from_source: Option<bool>, lists: &[ListId]) -> StateChange {
    let staging_lists = lists.iter().zip(1..).map(|(list, number)| StagingListRecord { list: *list, number, condemned: false });
    let record = ConnectionRecord { removes_from_source, staging_lists: staging_lists.collect(), ..ConnectionRecord::default() };
    StateChange { key: StateKey::Connection { connection: "news".into() }, value: Some(StateValue::Connection(record)) }
}

/// A stage with these profiles on its list, all of whom leave.
pub(super) fn leaving(state: Vec<StateChange>, profiles: &[&str]) -> Stage {
    let mut stage = Stage::begin_with(catalog(), state, None, START);
    for profile in profiles {
        stage.enter(profile);
    }
    stage.complete(1);
    for profile in profiles {
        stage.exit(profile);
    }
    stage
}

fn list(list_id: ListId, count: u64) -> List {
    List { list_id, name: "Listkeeper staging".into(), membership_count: Some(count) }
}

impl Stage {
    pub(super) fn counts(&mut self, call: &Call, lists: &[(ListId, u64)]) {
        assert_eq!(call.request, Request::Lists { cursor: None });
        let items = lists.iter().map(|(id, count)| list(*id, *count)).collect();
        self.answer(call, Outcome::Answered(Answer::Lists(Page { items, next: None })));
    }

    fn made(&mut self, call: &Call, id: ListId) {
        let Request::CreateList { name } = &call.request else { panic!("{call:?}") };
        assert!(name.starts_with("Listkeeper staging 0"));
        self.answer(call, Outcome::Answered(Answer::List(list(id, 0))));
    }

    /// The activity of a call that was just made runs, and completes with these counts.
    fn runs(&mut self, post: &Call, id: u128, counts: ActivityCounts, lines: &[u32]) {
        self.started(post, id);
        let poll = self.next_call();
        let name = if let Request::Import { name, .. } = &post.request { Some(name.file_name().into()) } else { None };
        let completed = self.activity(id, ActivityState::Completed, 0, name);
        self.answered(&poll, Activity { counts, error_lines: lines.to_vec(), ..completed });
    }

    fn import_runs(&mut self, id: u128, total: u64) -> Call {
        let import = self.next_call();
        assert!(matches!(&import.request, Request::Import { lists, .. } if lists[..] == [STAGING]), "{import:?}");
        self.runs(&import, id, ActivityCounts { items_total: Some(total), ..ActivityCounts::default() }, &[]);
        import
    }

    fn removal_runs(&mut self, id: u128, left: u64, targets: &[ListId]) {
        let removal = self.next_call();
        let source = RemovalSource::Lists(vec![STAGING]);
        assert_eq!(removal.request, Request::Remove { source, targets: targets.to_vec() });
        let counts = ActivityCounts { items_total: Some(left), items_completed: Some(left), ..ActivityCounts::default() };
        self.runs(&removal, id, counts, &[]);
    }

    /// One address is looked up: it is on these lists.
    fn looked_up(&mut self, call: &Call, lists: &[ListId]) {
        let Request::LookUp { address } = &call.request else { panic!("{call:?}") };
        let contact = Contact {
            contact_id: crate::model::ContactId::from_u128(5),
            address: address.clone(),
            status: ContactStatus::Active,
            lists: lists.to_vec(),
        };
        self.answer(call, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
    }

    pub(super) fn members(&self) -> u64 {
        self.engine.snapshot(self.now).exports[0].members
    }

    pub(super) fn ends(&self) -> Vec<RoundEnd> {
        let ends =
            self.events.iter().filter_map(|event| if let Event::RoundEnded { end, .. } = event { Some(*end) } else { None });
        ends.collect()
    }

    pub(super) fn condemned(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::StagingList { change: StagingListChange::Condemned, .. }))
    }
}

#[test]
fn the_first_round_of_a_connection_makes_its_list_and_sees_whether_both_lists_are_left() {
    let mut stage = leaving(Vec::new(), &["p1", "p2", "p3"]);
    let create = stage.next_call();
    stage.made(&create, STAGING);
    let import = stage.import_runs(2, 3);
    assert_eq!(Stage::addresses(&import.request), ["p1@example.com", "p2@example.com", "p3@example.com"]);
    let Request::Import { rows, .. } = &import.request else { panic!("no import") };
    assert!(rows.rows.iter().all(|(_, row)| row.is_empty()), "the address alone");
    let before = stage.next_call();
    stage.looked_up(&before, &[LIST, STAGING]);
    stage.removal_runs(3, 3, &[LIST, STAGING]);
    assert_eq!(stage.members(), 3, "nobody knows yet whether they have left");
    let count = stage.next_call();
    assert_eq!(count.request, Request::List { list: STAGING });
    stage.answer(&count, Outcome::Answered(Answer::List(list(STAGING, 0))));
    let after = stage.next_call();
    stage.looked_up(&after, &[]);
    stage.pass(1_000);
    assert_eq!((stage.members(), stage.ends()), (0, vec![RoundEnd::Applied]));
    assert!(stage.engine.is_quiet() && stage.calls.is_empty());
    let known = stage.state.iter().rev().find_map(|change| match &change.value {
        Some(StateValue::Connection(record)) => Some(record.clone()),
        Some(_) | None => None,
    });
    assert_eq!(known.map(|record| (record.removes_from_source, record.staging_lists.len())), Some((Some(true), 1)));
}

#[test]
fn a_list_is_used_again_once_nobody_is_on_it() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1", "p2"]);
    // A list that an earlier term has used is not trusted unread.
    let counts = stage.next_call();
    stage.counts(&counts, &[(LIST, 2), (STAGING, 0)]);
    stage.import_runs(2, 2);
    stage.removal_runs(3, 2, &[LIST, STAGING]);
    stage.pass(1_000);
    assert_eq!((stage.members(), stage.ends()), (0, vec![RoundEnd::Applied]));
    assert!(stage.calls.is_empty(), "its count is read when it is needed");
    stage.enter("p4");
    stage.complete(4);
    stage.exit("p4");
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 1)]);
    // Somebody is on it: whoever that is would leave the list as well.
    assert!(stage.condemned());
    let delete = stage.next_call();
    assert_eq!(delete.request, Request::DeleteList { list: STAGING });
    stage.answered(&delete, stage.activity(9, ActivityState::Initialized, 0, None));
    let create = stage.next_call();
    stage.made(&create, OTHER);
    let import = stage.next_call();
    assert!(matches!(&import.request, Request::Import { lists, .. } if lists[..] == [OTHER]));
}

#[test]
fn contacts_of_a_round_count_for_the_hour_from_when_they_leave() {
    let mut known = connection(Some(true), &[STAGING]);
    if let Some(StateValue::Connection(record)) = &mut known.value {
        (record.activity_start_ms, record.activity_row_us) = (20_000, 1_000);
    }
    let mut stage = leaving(vec![known], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(LIST, 2), (STAGING, 0)]);
    let last_hour = |stage: &Stage| stage.engine.snapshot(stage.now).exports[0].profiles_last_hour;
    let import = stage.next_call();
    assert_eq!(last_hour(&stage), 2, "those that were added");
    stage.runs(&import, 2, ActivityCounts { items_total: Some(2), ..ActivityCounts::default() }, &[]);
    stage.removal_runs(3, 2, &[LIST, STAGING]);
    assert_eq!(last_hour(&stage), 4);
}

#[test]
fn a_removal_that_counts_fewer_than_were_staged_settles_nobody() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    stage.import_runs(2, 2);
    stage.removal_runs(3, 1, &[LIST, STAGING]);
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Failed]);
    assert!(stage.condemned(), "nobody knows who is on the list");
    assert!(!stage.engine.is_quiet());
}

#[test]
fn where_both_lists_are_refused_the_target_is_left_first() {
    let mut stage = leaving(vec![connection(None, &[STAGING])], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    stage.import_runs(2, 2);
    let before = stage.next_call();
    stage.looked_up(&before, &[LIST]);
    let both = stage.next_call();
    assert!(matches!(&both.request, Request::Remove { targets, .. } if targets.len() == 2));
    stage.refused(&both, 400, Disposition::Invalid);
    stage.removal_runs(3, 2, &[LIST]);
    assert_eq!(stage.members(), 2, "its contacts are fenced until the staging list is empty");
    stage.removal_runs(4, 2, &[STAGING]);
    stage.pass(1_000);
    assert_eq!((stage.members(), stage.ends()), (0, vec![RoundEnd::Applied]));
    assert!(!stage.condemned() && stage.engine.is_quiet());
}

#[test]
fn where_the_source_is_emptied_first_nobody_has_left_the_target() {
    let mut stage = leaving(vec![connection(None, &[STAGING])], &["p1"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    stage.import_runs(2, 1);
    let before = stage.next_call();
    stage.looked_up(&before, &[LIST]);
    stage.removal_runs(3, 1, &[LIST, STAGING]);
    let count = stage.next_call();
    stage.answer(&count, Outcome::Answered(Answer::List(list(STAGING, 0))));
    for _ in 0..2 {
        let after = stage.next_call();
        stage.looked_up(&after, &[LIST]);
    }
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Failed]);
    assert!(stage.events.iter().any(|event| matches!(event, Event::RemovesFromSource { removes: false, .. })));
}

#[test]
fn an_erased_contact_is_never_staged() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1", "p2"]);
    stage.enter("p3");
    let counts = stage.next_call();
    // The round waits for its list, and meanwhile one is erased.
    stage.erase("p1");
    stage.counts(&counts, &[(STAGING, 0)]);
    let (mut imports, mut looked_up) = (Vec::new(), false);
    for _ in 0..6 {
        let call = stage.next_call();
        match &call.request {
            Request::Import { lists, .. } if lists[..] == [STAGING] => imports.push(call),
            Request::LookUp { address } => {
                assert_eq!(address, "p1@example.com");
                looked_up = true;
                break;
            }
            Request::Import { .. } => stage.started(&call, 7),
            Request::Remove { .. }
            | Request::DeleteContacts { .. }
            | Request::Activity { .. }
            | Request::Activities { .. }
            | Request::Suppressed { .. }
            | Request::CreateList { .. }
            | Request::Lists { .. }
            | Request::ContactCounts => {}
            Request::ListMembers { .. } | Request::FindList { .. } | Request::List { .. } | Request::DeleteList { .. } => {
                panic!("{call:?}")
            }
        }
    }
    assert!(looked_up, "although no other way is named");
    assert!(imports.iter().all(|import| !Stage::addresses(&import.request).contains(&"p1@example.com")));
}

#[test]
fn whom_the_vendor_does_not_import_is_looked_up() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    let import = stage.next_call();
    let faults = ActivityCounts { items_total: Some(2), correctable: Some(1), ..ActivityCounts::default() };
    stage.runs(&import, 2, faults, &[3]);
    stage.removal_runs(3, 1, &[LIST, STAGING]);
    assert_eq!(stage.next_call().request, Request::LookUp { address: "p2@example.com".into() });
    assert_eq!(stage.ends(), [RoundEnd::Applied]);
    assert!(stage.letters.is_empty(), "no event was refused");
}

#[test]
fn a_removal_without_an_answer_is_repeated_and_settles_nobody() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    stage.import_runs(2, 1);
    let removal = stage.next_call();
    stage.answer(&removal, Outcome::Unknown(Lost::Timeout));
    let repeat = stage.next_call();
    assert_eq!(repeat.request, removal.request);
    let counts = ActivityCounts { items_total: Some(0), ..ActivityCounts::default() };
    stage.runs(&repeat, 4, counts, &[]);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None }, "the first attempt may still run");
    stage.activities(&look, Vec::new(), None);
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Failed]);
    assert!(stage.condemned());
}

#[test]
fn a_round_that_is_found_after_a_crash_is_followed_and_its_list_is_deleted() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    let import = stage.next_call();
    let Request::Import { name, .. } = &import.request else { panic!("{import:?}") };
    let name = name.file_name();
    let (state, offset, wall) = (stage.state, stage.offset, stage.now.wall.0 + 100_000);
    let mut stage = Stage::begin_with(catalog(), state, Some(offset), wall);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let found = stage.activity(2, ActivityState::Completed, 1, Some(name.into()));
    stage.exit("p1");
    stage.activities(&look, vec![found], None);
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Followed]);
    let delete = stage.next_call();
    assert_eq!(delete.request, Request::DeleteList { list: STAGING }, "its contacts are still on it");
    stage.answered(&delete, stage.activity(9, ActivityState::Initialized, 0, None));
    assert!(matches!(stage.next_call().request, Request::CreateList { .. }));
}

#[test]
fn a_removal_step_that_is_found_after_a_crash_is_sent_again_as_it_was() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    stage.import_runs(2, 1);
    let removal = stage.next_call();
    let (state, offset, wall) = (stage.state, stage.offset, stage.now.wall.0 + 100_000);
    let mut stage = Stage::begin_with(catalog(), state, Some(offset), wall);
    assert_eq!(stage.next_call().request, removal.request);
}

#[test]
fn a_list_that_is_there_already_is_found_by_its_name() {
    let mut stage = leaving(Vec::new(), &["p1"]);
    let create = stage.next_call();
    let Request::CreateList { name } = create.request.clone() else { panic!("{create:?}") };
    stage.refused(&create, 409, Disposition::Conflict);
    let find = stage.next_call();
    assert_eq!(find.request, Request::FindList { name: name.clone() });
    let items = vec![List { list_id: STAGING, name, membership_count: Some(0) }];
    stage.answer(&find, Outcome::Answered(Answer::Lists(Page { items, next: None })));
    stage.import_runs(2, 1);
}

#[test]
fn rounds_that_fail_are_left_for_a_while() {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING, OTHER, ListId::from_u128(72)])], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0), (OTHER, 0), (ListId::from_u128(72), 0)]);
    let mut failed = 0;
    let mut id = 10;
    while failed < 3 {
        let call = stage.next_call();
        match &call.request {
            Request::Import { .. } => {
                id += 1;
                stage.started(&call, id);
            }
            Request::Activity { activity_id } => {
                let ended = stage.activity(activity_id.as_u128(), ActivityState::Failed, 0, None);
                stage.answered(&call, ended);
            }
            Request::Activities { .. } => {
                let ended = (11..=id).map(|id| stage.activity(id, ActivityState::Failed, 0, None)).collect();
                stage.activities(&call, ended, None);
            }
            Request::DeleteList { .. } => stage.refused(&call, 400, Disposition::Invalid),
            Request::CreateList { .. } => stage.made(&call, ListId::from_u128(80 + id)),
            Request::Remove { .. }
            | Request::DeleteContacts { .. }
            | Request::ListMembers { .. }
            | Request::LookUp { .. }
            | Request::Suppressed { .. }
            | Request::FindList { .. }
            | Request::List { .. }
            | Request::Lists { .. }
            | Request::ContactCounts => panic!("{call:?}"),
        }
        stage.pass(50);
        failed = stage.ends().len();
    }
    stage.events.clear();
    while !stage.calls.is_empty() {
        let call = stage.calls.remove(0);
        assert!(!matches!(call.request, Request::Import { .. } | Request::LookUp { .. }), "{call:?}");
        if let Request::DeleteList { .. } = call.request {
            stage.refused(&call, 400, Disposition::Invalid);
        }
    }
    stage.pass(600_000);
    let sent = stage.calls.iter().filter(|call| matches!(call.request, Request::Import { .. } | Request::LookUp { .. }));
    assert_eq!(sent.count(), 0, "no other way is allowed");
}

#[test]
fn whoever_opts_out_before_the_import_is_taken_out_of_the_round() {
    let mut stage = Stage::begin_with(catalog(), vec![connection(Some(true), &[STAGING])], None, START);
    stage.enter("p1");
    stage.enter("p2");
    stage.complete(1);
    stage.pass(400_000);
    stage.reads_suppressed = true;
    stage.exit("p1");
    stage.exit("p2");
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    // An import for a list may leave within 15 minutes of the last look, one for a staging list may not.
    let look = stage.next_call();
    assert!(matches!(look.request, Request::Suppressed { .. }), "{look:?}");
    stage.suppressed(&look, &["p1"]);
    let import = stage.next_call();
    assert!(matches!(&import.request, Request::Import { lists, .. } if lists[..] == [STAGING]), "{import:?}");
    assert_eq!(Stage::addresses(&import.request), ["p2@example.com"]);
    assert_eq!(stage.ends(), [RoundEnd::TakenBack]);
    assert_eq!(stage.members(), 1, "who has opted out is off the list by itself");
}
