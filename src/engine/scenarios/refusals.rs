//! Rows that the vendor refuses, and what is told of them.

use crate::model::{
    activity::{ActivityCounts, ActivityState},
    call::Request,
    dead_letter::LetterReason,
    event::{ChangeKind, DecodeFault, RawRecord, RecordContent, Undecodable},
};

use super::{START, Stage};

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
