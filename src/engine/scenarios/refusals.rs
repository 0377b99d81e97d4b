//! Rows that the vendor refuses, and what is told of them.

use crate::model::{
    activity::{Activity, ActivityCounts, ActivityState},
    call::{Disposition, Request},
    dead_letter::LetterReason,
    event::{ChangeKind, DecodeFault, RawRecord, RecordContent, Undecodable},
};

use super::super::{Event, limits::SEARCH_IMPORTS_MAX};
use super::{Call, START, Stage};

impl Stage {
    /// Sees a batch through whose activity names these lines as wrong (line 2 is the first row).
    fn complete_refusing(&mut self, id: u128, lines: &[u32]) -> Request {
        let post = self.next_call();
        self.started(&post, id);
        self.refuse(id, &post.request, lines);
        post.request
    }

    fn refuse(&mut self, id: u128, request: &Request, lines: &[u32]) {
        let poll = self.next_call();
        let rows = Self::addresses(request).len() as u64;
        let mut activity = self.activity(id, ActivityState::Completed, rows, None);
        activity.counts = ActivityCounts { error: Some(lines.len() as u64), ..activity.counts };
        activity.error_lines = lines.to_vec();
        self.answered(&poll, activity);
        self.pass(300);
    }

    /// Sees imports through until nothing is to be done: these addresses are refused, and the texts of an import name so
    /// many of its lines. The addresses of each import.
    pub(super) fn complete_picky(&mut self, is_bad: impl Fn(&str) -> bool, lines_max: usize) -> Vec<Vec<String>> {
        let mut ended: Vec<Activity> = Vec::new();
        let mut imports = Vec::new();
        while !self.engine.is_quiet() {
            // Activities that nobody waits for are read minutes after their end.
            if self.calls.is_empty() {
                assert!(imports.len() < 1_000, "it comes to no end");
                self.pass(10_000);
                continue;
            }
            let call = self.calls.remove(0);
            match &call.request {
                Request::Import { .. } => {
                    let id = 100 + ended.len() as u128;
                    let addresses: Vec<String> = Self::addresses(&call.request).into_iter().map(str::to_owned).collect();
                    let bad: Vec<u32> =
                        (2..).zip(&addresses).filter(|(_, address)| is_bad(address)).map(|(line, _)| line).collect();
                    let mut activity = self.activity(id, ActivityState::Completed, addresses.len() as u64, None);
                    activity.counts.error = Some(bad.len() as u64);
                    activity.error_lines = bad.into_iter().take(lines_max).collect();
                    ended.push(activity);
                    imports.push(addresses);
                    self.started(&call, id);
                }
                Request::Activity { activity_id } => {
                    let activity = ended.iter().find(|activity| activity.activity_id == *activity_id).expect("it was started");
                    self.answered(&call, activity.clone());
                }
                Request::Activities { .. } => self.activities(&call, ended.clone(), None),
                // Who was refused, and may be on the list as another row, is to leave it: it is not there.
                Request::LookUp { .. } => self.contacts(&call, &[]),
                Request::Remove { .. }
                | Request::ListMembers { .. }
                | Request::Suppressed { .. }
                | Request::FindList { .. }
                | Request::List { .. }
                | Request::CreateList { .. }
                | Request::Lists { .. }
                | Request::DeleteContacts { .. }
                | Request::DeleteList { .. }
                | Request::ContactCounts => panic!("neither an import nor a poll: {call:?}"),
            }
        }
        imports
    }

    /// The next call of an export that may be held for minutes.
    fn next_call_after_a_hold(&mut self) -> Call {
        if self.calls.is_empty() {
            self.pass(600_000);
        }
        self.next_call()
    }

    /// How many are on the list, are kept because the search for refused rows is spent, and became letters.
    pub(super) fn outcome(&self) -> (u64, u64, usize) {
        let export = &self.engine.snapshot(self.now).exports[0];
        (export.members, export.search_spent, self.letters.len())
    }
}

/// So many profiles enter at once.
fn entered(profiles: usize) -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for profile in 0..profiles {
        stage.enter(&format!("p{profile}"));
    }
    stage
}

/// Whether the profile of an address has one of these numbers.
fn is_one_of(address: &str, has: impl Fn(usize) -> bool) -> bool {
    let number = address.strip_prefix('p').and_then(|rest| rest.split('@').next()).and_then(|number| number.parse().ok());
    number.is_some_and(has)
}

/// Every second of 64 rows is refused, and no text says which.
fn spent() -> Stage {
    let mut stage = entered(64);
    let imports = stage.complete_picky(|address| is_one_of(address, |number| number % 2 == 1), 0);
    assert_eq!(imports.len(), 1 + SEARCH_IMPORTS_MAX as usize);
    stage
}

#[test]
fn an_address_that_another_profile_has_on_the_list_stays_when_that_one_leaves_although_an_earlier_row_was_refused() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("bad@example.com"), Some("Ana"));
    stage.complete_refusing(1, &[2]);
    stage.record("p2", "gold", ChangeKind::Entered, Some("good@example.com"), Some("Ana"));
    stage.complete(2);
    // Nothing is to be sent for it: the address is there.
    stage.record("p1", "gold", ChangeKind::Entered, Some("good@example.com"), Some("Ana"));
    stage.pass(60_000);
    let mut stage = stage.crash();
    stage.record("p2", "gold", ChangeKind::Exited, None, None);
    stage.pass(60_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "p1 wants it: {:?}", stage.calls);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
}

#[test]
fn a_row_that_is_refused_while_a_newer_one_waits_is_no_reason_not_to_send_that() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("p1@example.com"), Some("Bad"));
    let post = stage.next_call();
    stage.started(&post, 1);
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Good"));
    stage.refuse(1, &post.request, &[2]);
    let Request::Import { rows, .. } = stage.complete(2) else { panic!("no import") };
    assert_eq!(rows.rows[0].1.first_name.as_deref(), Some("Good"));
    assert_eq!((stage.offset, stage.letters.len()), (2, 0), "what a later row carries is not lost");
}

#[test]
fn a_letter_of_what_nobody_can_read_goes_with_the_offset_that_passes_it() {
    let nonsense = || {
        RecordContent::Undecodable(Box::new(Undecodable {
            kind: DecodeFault::Malformed,
            detail: "the value ends early".into(),
            original: RawRecord::default(),
        }))
    };
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.arrives(nonsense());
    stage.pass(300);
    assert_eq!((stage.offset, stage.letters.len()), (0, 0), "an older record holds the offset back");
    let mut stage = stage.crash();
    stage.enter("p1");
    stage.arrives(nonsense());
    stage.complete(1);
    assert_eq!(stage.offset, 2);
    let reasons: Vec<LetterReason> = stage.letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [LetterReason::Decode(DecodeFault::Malformed)]);
}

#[test]
fn rows_that_are_named_are_sent_apart_until_the_names_explain_what_was_refused() {
    let mut stage = entered(40);
    let imports = stage.complete_picky(|address| is_one_of(address, |number| number % 6 == 0), 3);
    // Three of seven are named, then three of the other four, then the last.
    assert_eq!(imports.iter().map(Vec::len).collect::<Vec<_>>(), [40, 3, 37, 3, 34]);
    assert_eq!(stage.outcome(), (33, 0, 7));
    let offsets: Vec<i64> = stage.letters.iter().map(|letter| letter.position.offset).collect();
    assert_eq!(offsets, [0, 6, 12, 18, 24, 30, 36]);
}

#[test]
fn a_row_that_was_named_is_not_refused_when_its_own_import_completes() {
    let mut stage = entered(2);
    let post = stage.next_call();
    stage.started(&post, 1);
    let poll = stage.next_call();
    let mut activity = stage.activity(1, ActivityState::Completed, 2, None);
    (activity.counts.error, activity.error_lines) = (Some(2), vec![2]);
    stage.answered(&poll, activity);
    let imports = stage.complete_picky(|address| address.starts_with("p1"), 0);
    assert_eq!(imports, [["p0@example.com"], ["p1@example.com"]]);
    assert_eq!(stage.outcome(), (1, 0, 1));
    assert_eq!(stage.letters[0].position.offset, 1);
}

#[test]
fn one_refused_row_among_many_costs_no_more_calls_than_the_search_may() {
    let mut stage = entered(1_000);
    let imports = stage.complete_picky(|address| address.starts_with("p777@"), 0);
    assert_eq!(imports.len(), 1 + SEARCH_IMPORTS_MAX as usize);
    // Five times half of them were found to be without a fault.
    let (members, kept, letters) = stage.outcome();
    assert_eq!((members + kept, letters), (1_000, 0));
    assert!(kept <= 32, "{kept}");
}

#[test]
fn rows_among_which_refused_ones_were_not_found_are_neither_applied_nor_refused() {
    let stage = spent();
    let (members, kept, letters) = stage.outcome();
    assert_eq!((members, kept, letters), (0, 64, 0), "half of them are refused, and nobody knows which");
    assert_eq!(stage.offset, 64, "they are parked");
    let mut told: Vec<(u32, u64)> = Vec::new();
    for event in &stage.events {
        if let Event::SearchSpent { contacts, refused, .. } = event {
            told.push((*contacts, *refused));
        }
    }
    assert_eq!(told.iter().map(|(contacts, _)| contacts).sum::<u32>(), 64, "{told:?}");
    assert_eq!(told.iter().map(|(_, refused)| refused).sum::<u64>(), 32, "{told:?}");
}

#[test]
fn a_restart_does_not_search_again() {
    let mut stage = spent().crash();
    assert_eq!(stage.outcome(), (0, 64, 0));
    stage.record("p3", "platinum", ChangeKind::Entered, Some("p3@example.com"), Some("Ana"));
    stage.pass(600_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "{:?}", stage.calls);
    assert_eq!((stage.offset, stage.outcome()), (65, (0, 64, 0)), "the same row as before");
    let mut stage = stage.crash();
    stage.pass(600_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet(), "{:?}", stage.calls);
    assert_eq!(stage.outcome(), (0, 64, 0));
}

#[test]
fn another_row_of_a_profile_is_sent_and_one_that_leaves_is_removed_although_a_search_was_spent_on_them() {
    let mut stage = spent().crash();
    stage.record("p2", "gold", ChangeKind::Updated, Some("p2@example.com"), Some("Eva"));
    stage.record("p5", "gold", ChangeKind::Updated, Some("p5@example.com"), Some("Eva"));
    let imports = stage.complete_picky(|address| address.starts_with("p5@"), 100);
    assert_eq!(imports, [["p2@example.com", "p5@example.com"]]);
    assert_eq!(stage.outcome(), (1, 62, 1));
    assert_eq!(stage.letters[0].position.offset, 65);
    stage.exit("p4");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p4@example.com".into() });
    stage.contacts(&look_up, &[("p4", 4)]);
    assert!(matches!(stage.complete(200), Request::Remove { .. }));
    assert_eq!(stage.outcome(), (1, 61, 1));
    // It is surely not on the list now: the row is sent as if it had never been.
    stage.enter("p4");
    let imports = stage.complete_picky(|_| false, 0);
    assert_eq!(imports, [["p4@example.com"]]);
    let stage = stage.crash();
    assert_eq!(stage.outcome(), (2, 61, 0), "the letters of this term alone");
}

#[test]
fn members_stay_members_although_a_search_was_spent_on_their_new_rows() {
    let mut stage = entered(64);
    stage.complete_picky(|_| false, 0);
    let update = |stage: &mut Stage, profiles: std::ops::Range<usize>, name: &str| {
        for profile in profiles {
            let email = format!("p{profile}@example.com");
            stage.record(&format!("p{profile}"), "gold", ChangeKind::Updated, Some(&email), Some(name));
        }
    };
    update(&mut stage, 0..64, "Eva");
    stage.complete_picky(|address| is_one_of(address, |number| number % 2 == 1), 0);
    assert_eq!(stage.outcome(), (64, 64, 0));
    let mut stage = stage.crash();
    assert_eq!(stage.outcome(), (64, 64, 0));
    // Nobody knows which of two rows is there: also the one before is sent.
    update(&mut stage, 0..1, "Ana");
    // One that is refused after all leaves the list as it is.
    update(&mut stage, 1..2, "Bad");
    // The search has sent them so often that they wait for a day.
    let mut imports = stage.complete_picky(|address| address.starts_with("p1@"), 100);
    imports[0].sort();
    assert_eq!(imports, [["p0@example.com", "p1@example.com"]]);
    assert_eq!(stage.outcome(), (64, 62, 1));
}

#[test]
fn a_part_of_an_import_that_is_not_sent_again_may_be_on_the_list_since_that_import() {
    let mut stage = entered(4);
    let post = stage.next_call();
    stage.started(&post, 1);
    let poll = stage.next_call();
    let mut activity = stage.activity(1, ActivityState::Completed, 4, None);
    activity.counts.error = Some(1);
    stage.answered(&poll, activity);
    let first = stage.next_call();
    assert_eq!(Stage::addresses(&first.request), ["p0@example.com", "p1@example.com"]);
    stage.exit("p0");
    stage.refused(&first, 400, Disposition::Invalid);
    // Its export is held, and goes on later.
    let look_up = loop {
        let call = stage.next_call_after_a_hold();
        match &call.request {
            Request::LookUp { address } if address == "p0@example.com" => break call,
            Request::Import { .. } => stage.started(&call, 2),
            Request::Activity { .. } => {
                let activity = stage.activity(2, ActivityState::Completed, 2, None);
                stage.answered(&call, activity);
            }
            Request::Activities { .. } => {
                let activity = stage.activity(2, ActivityState::Completed, 2, None);
                stage.activities(&call, vec![activity], None);
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
    };
    stage.contacts(&look_up, &[("p0", 10)]);
    assert!(matches!(stage.next_call().request, Request::Remove { .. }));
}

#[test]
fn a_batch_is_followed_after_a_restart_although_the_first_owner_of_an_address_in_it_is_gone() {
    let address = Some("shared@example.com");
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, address, Some("Ana"));
    stage.complete_refusing(1, &[2]);
    stage.record("p2", "gold", ChangeKind::Entered, address, Some("Ben"));
    stage.complete_refusing(2, &[2]);
    stage.exit("p1");
    stage.pass(60_000);
    stage.record("p2", "gold", ChangeKind::Updated, address, Some("Eva"));
    let post = stage.next_call();
    stage.started(&post, 3);
    let stage = stage.crash();
    let export = &stage.engine.snapshot(stage.now).exports[0];
    assert_eq!((export.profiles, export.in_flight), (1, 1));
}
