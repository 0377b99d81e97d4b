//! Scenarios that a person can read: one engine, hand-written answers, virtual time.

use std::sync::Arc;

use crate::model::{
    ActivityId, ContactId, ListId, Text,
    activity::{Activity, ActivityCounts, ActivityState},
    call::{Answer, Contact, ContactStatus, Lost, Outcome, Page, Request},
    catalog::{
        Application, ApplicationId, Catalog, ClientIdHash, Connection, ConnectionId, Consent, Export, FieldId, ListRef, Mapping,
        NoAddress, OnExit, RemovalStrategy, Timing,
    },
    event::{ChangeKind, RecordContent, SegmentEvent, SourceRecord},
    position::{NextOffset, PartitionId, Position},
    state::StateChange,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Beginning, Engine, Input, Output, PartitionBeginning,
    input::TokenOutcome,
    output::{Call, Commit},
};

const P: PartitionId = PartitionId(0);
const LIST: ListId = ListId::from_u128(7);
const START: i64 = 1_790_000_000_000;

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog {
        applications: vec![Application {
            name: "app".into(),
            client_id_hash: ClientIdHash(1),
            calls_per_second: Some(4),
            calls_per_day: Some(10_000),
            reserved_for_others_percent: 0,
        }],
        connections: vec![Connection {
            name: "news".into(),
            application: ApplicationId(0),
            consent: Some(Consent { accepted_by: "ana".into(), accepted_at: UnixMillis(0), text: "v1".into() }),
            refreshes: false,
        }],
        exports: vec![Export {
            name: "vip".into(),
            connection: ConnectionId(0),
            list: ListRef::Id(LIST),
            segments: vec!["gold".into(), "platinum".into()],
            mapping: Mapping {
                email: FieldId(0),
                first_name: Some(FieldId(1)),
                last_name: None,
                custom: Vec::new(),
                custom_names: Arc::from([]),
                hash: 1,
            },
            no_address: NoAddress::Skip,
            on_exit: OnExit::Remove,
            removal_strategies: vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
            profiles_per_hour_max: Some(1_000_000),
            weight: 1,
            starts_at_once: true,
        }],
        fields: vec!["profile.email".into(), "profile.first_name".into()],
        timing: Timing { index_lag_ms: 0, ..Timing::default() },
        profiles_max: 1_000_000,
    })
}

/// An engine, its clock, the state that was committed and what it asked for.
struct Stage {
    engine: Engine,
    now: Now,
    state: Vec<StateChange>,
    offset: i64,
    calls: Vec<Call>,
    commits: Vec<Commit>,
    next_record: i64,
}

impl Stage {
    fn begin(state: Vec<StateChange>, offset: Option<i64>, wall: i64) -> Self {
        let mut engine = Engine::new(catalog(), 1);
        for change in &state {
            engine.restore(change.clone());
        }
        let now = Now { mono: Mono(1_000_000), wall: UnixMillis(wall) };
        let start = NextOffset { partition: P, offset: offset.unwrap_or(0) };
        let partition = PartitionBeginning { start, committed: offset.is_some(), log_start: 0, log_end: 1_000 };
        let begun = engine.begin(now, &Beginning { partitions: vec![partition], fenced_at: now.mono });
        assert_eq!(begun, Ok(vec![start]));
        let offset = start.offset;
        let mut stage = Self { engine, now, state, offset, calls: Vec::new(), commits: Vec::new(), next_record: offset };
        stage.drain();
        stage
    }

    /// Confirms transactions and hands out the token at once; calls wait for the scenario.
    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Call(call) => self.calls.push(call),
                Output::Commit(commit) => self.commits.push(commit),
                Output::ReadToken(read) => {
                    let token = TokenOutcome::Valid { refresh_at: None, expires_at: None };
                    let input = Input::TokenRead { refresh: read.refresh, connection: read.connection, token };
                    self.engine.handle_input(self.now, input);
                }
                Output::Event(_) | Output::Pause { .. } | Output::Resume { .. } | Output::Drained => {}
            }
        }
        if !self.commits.is_empty() {
            let commit = self.commits.remove(0);
            self.state.extend(commit.changes);
            self.offset = commit.offsets[0].offset;
            self.engine.handle_input(self.now, Input::Committed { commit: commit.commit, began: self.now.mono });
            self.drain();
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now.mono.plus_ms(ms);
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until) {
            let step = at.since_ms(self.now.mono).max(1);
            self.now = Now { mono: self.now.mono.plus_ms(step), wall: self.now.wall.plus_ms(i64::try_from(step).unwrap()) };
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        let rest = until.since_ms(self.now.mono);
        self.now = Now { mono: until, wall: self.now.wall.plus_ms(i64::try_from(rest).unwrap()) };
        self.engine.handle_timeout(self.now);
        self.drain();
    }

    fn record(&mut self, profile: &str, segment: &str, change: ChangeKind, email: Option<&str>, first_name: Option<&str>) {
        let values = [email.map(Text::from), first_name.map(Text::from)];
        let event = SegmentEvent {
            profile_id: profile.into(),
            segment_id: Some(segment.into()),
            change,
            occurred_at: None,
            values: Box::new(values),
        };
        let position = Position { partition: P, offset: self.next_record };
        self.next_record += 1;
        let record = SourceRecord { position, timestamp: self.now.wall, hash: 0, content: RecordContent::Event(event) };
        self.engine.handle_input(self.now, Input::Records(vec![record]));
        self.drain();
    }

    fn enter(&mut self, profile: &str) {
        let email = format!("{profile}@example.com");
        self.record(profile, "gold", ChangeKind::Entered, Some(&email), Some("Ana"));
    }

    fn exit(&mut self, profile: &str) {
        self.record(profile, "gold", ChangeKind::Exited, None, None);
    }

    /// The next call, waited for in virtual time.
    fn next_call(&mut self) -> Call {
        for _ in 0..500 {
            if !self.calls.is_empty() {
                return self.calls.remove(0);
            }
            self.pass(500);
        }
        panic!("no call in 250 s");
    }

    fn answer(&mut self, call: &Call, outcome: Outcome) {
        let vendor_time = matches!(outcome, Outcome::Answered(_)).then(|| UnixMillis(self.now.wall.0 / 1_000 * 1_000));
        self.engine.handle_input(self.now, Input::CallEnded { call: call.call, outcome, vendor_time });
        self.drain();
    }

    fn activity(&self, id: u128, state: ActivityState, rows: u64, name: Option<Text>) -> Activity {
        Activity {
            activity_id: ActivityId::from_u128(id),
            state,
            source_file_name: name,
            created_at: Some(self.now.wall),
            completed_at: Some(self.now.wall),
            counts: ActivityCounts { items_total: Some(rows), ..ActivityCounts::default() },
            error_lines: Vec::new(),
            error_texts: 0,
        }
    }

    fn answered(&mut self, call: &Call, activity: Activity) {
        self.answer(call, Outcome::Answered(Answer::Activity(Box::new(activity))));
    }

    /// Sees a batch through: the POST is answered, then the poll.
    fn complete(&mut self, id: u128) -> Request {
        let post = self.next_call();
        self.answered(&post, self.activity(id, ActivityState::Initialized, 0, None));
        let poll = self.next_call();
        assert_eq!(poll.request, Request::Activity { activity_id: ActivityId::from_u128(id) });
        let rows = if let Request::Import { rows, .. } = &post.request { rows.rows.len() } else { 0 };
        self.answered(&poll, self.activity(id, ActivityState::Completed, rows as u64, None));
        self.pass(300);
        post.request
    }

    fn addresses(request: &Request) -> Vec<&str> {
        let Request::Import { rows, .. } = request else { panic!("no import: {request:?}") };
        rows.rows.iter().map(|(address, _)| address.as_str()).collect()
    }
}

#[test]
fn an_entry_is_committed_only_after_its_activity_completed() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    assert_eq!(Stage::addresses(&post.request), ["p1@example.com"]);
    assert_eq!(stage.offset, 0);
    stage.answered(&post, stage.activity(9, ActivityState::Initialized, 0, None));
    stage.pass(1_000);
    assert_eq!(stage.offset, 0, "201 is not success");
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(9, ActivityState::Completed, 1, None));
    stage.pass(300);
    assert_eq!(stage.offset, 1);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
}

#[test]
fn an_entry_and_an_exit_cancel_before_anything_is_sent() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.exit("p1");
    stage.pass(5_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 2);
    assert!(stage.engine.is_quiet());
}

#[test]
fn a_contact_leaves_only_with_the_last_of_its_segments() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.record("p1", "platinum", ChangeKind::Entered, Some("p1@example.com"), Some("Ana"));
    stage.exit("p1");
    stage.pass(5_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 3);
    stage.record("p1", "platinum", ChangeKind::Exited, None, None);
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p1@example.com".into() });
    let contact = Contact {
        contact_id: ContactId::from_u128(5),
        address: "p1@example.com".into(),
        status: ContactStatus::Active,
        lists: vec![LIST],
    };
    stage.answer(&look_up, Outcome::Answered(Answer::Contacts(Page { items: vec![contact], next: None })));
    stage.complete(2);
    assert_eq!(stage.offset, 4);
    assert!(stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].profiles, 0);
}

#[test]
fn an_exit_waits_until_the_add_of_the_same_contact_has_ended() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.exit("p1");
    stage.pass(500);
    assert!(stage.calls.is_empty(), "fenced");
    stage.answered(&post, stage.activity(9, ActivityState::Initialized, 0, None));
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(9, ActivityState::Completed, 1, None));
    let look_up = stage.next_call();
    assert!(matches!(look_up.request, Request::LookUp { .. }));
}

#[test]
fn a_changed_address_takes_the_old_one_off_the_list() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.record("p1", "gold", ChangeKind::Updated, Some("new@example.com"), Some("Ana"));
    let (mut joins, mut leaves) = (None, None);
    while joins.is_none() || leaves.is_none() {
        let call = stage.next_call();
        if let Request::LookUp { address } = &call.request {
            assert_eq!(address, "p1@example.com");
            leaves = Some(call);
        } else {
            joins = Some(call);
        }
    }
    let (Some(joins), Some(leaves)) = (joins, leaves) else { return };
    assert_eq!(Stage::addresses(&joins.request), ["new@example.com"]);
    stage.answered(&joins, stage.activity(2, ActivityState::Initialized, 0, None));
    let poll = stage.next_call();
    stage.answered(&poll, stage.activity(2, ActivityState::Completed, 1, None));
    stage.pass(1_000);
    assert_eq!(stage.offset, 1, "the old address is still on the list");
    stage.answer(&leaves, Outcome::Answered(Answer::Contacts(Page { items: Vec::new(), next: None })));
    stage.pass(1_000);
    assert_eq!(stage.offset, 2);
    assert!(stage.engine.is_quiet());
}

#[test]
fn a_lost_answer_is_found_by_its_file_name() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import") };
    let file_name = Text::from(name.file_name());
    stage.answer(&post, Outcome::Unknown(Lost::Timeout));
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    let activity = stage.activity(3, ActivityState::Completed, 1, Some(file_name));
    stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: vec![activity], next: None })));
    stage.pass(300);
    assert_eq!(stage.offset, 1);
}

#[test]
fn after_a_crash_an_open_batch_is_looked_for_and_its_contacts_are_sent_again() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    let Request::Import { name, .. } = &post.request else { panic!("no import") };
    let file_name = Text::from(name.file_name());
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.enter("p1");
    let look = stage.next_call();
    assert!(stage.now.mono >= Mono(1_036_000), "requests of the last term may still be under way");
    let activity = stage.activity(3, ActivityState::Completed, 1, Some(file_name));
    stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: vec![activity], next: None })));
    let again = stage.complete(4);
    assert_eq!(Stage::addresses(&again), ["p1@example.com"]);
    assert_eq!(stage.offset, 1);
    assert!(stage.engine.is_quiet());
}

#[test]
fn after_a_crash_an_exit_that_the_fold_cancels_is_still_sent_explicitly() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let _post = stage.next_call();
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.enter("p1");
    stage.exit("p1");
    for _ in 0..2 {
        let look = stage.next_call();
        assert_eq!(look.request, Request::Activities { cursor: None });
        stage.answer(&look, Outcome::Answered(Answer::Activities(Page { items: Vec::new(), next: None })));
    }
    assert_eq!(stage.offset, 0);
    let look_up = stage.next_call();
    assert!(matches!(look_up.request, Request::LookUp { .. }));
}

#[test]
fn a_restart_sends_nothing_that_was_applied() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    let mut stage = Stage::begin(stage.state.clone(), Some(stage.offset), START + 100_000);
    stage.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some("Ana"));
    stage.pass(60_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.offset, 2);
}

#[test]
fn a_list_that_is_missing_is_created_although_the_pace_leaves_no_slot_at_once() {
    let mut config = (*catalog()).clone();
    config.applications[0].calls_per_second = Some(1);
    config.exports[0].list = ListRef::Named { name: "VIP".into(), create: true };
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.engine = Engine::new(Arc::new(config), 1);
    let start = NextOffset { partition: P, offset: 0 };
    let partition = PartitionBeginning { start, committed: false, log_start: 0, log_end: 1_000 };
    let begun = stage.engine.begin(stage.now, &Beginning { partitions: vec![partition], fenced_at: stage.now.mono });
    assert!(begun.is_ok());
    stage.drain();
    stage.enter("p1");
    let find = stage.next_call();
    assert_eq!(find.request, Request::FindList { name: "VIP".into() });
    stage.answer(&find, Outcome::Answered(Answer::Lists(Page { items: Vec::new(), next: None })));
    assert_eq!(stage.next_call().request, Request::CreateList { name: "VIP".into() });
}
