//! Scenarios that a person can read: one engine, hand-written answers, virtual time.

mod adopted;
mod ahead;
mod backfill;
mod brake;
mod calls;
mod contract;
mod control;
mod erasure;
mod existing;
mod flapping;
mod full_queue;
mod ghosts;
mod life;
mod lists;
mod moving;
mod order;
mod parking;
mod pressure;
mod probes;
mod refusals;
mod removals;
mod removed;
mod restart;
mod staging;
mod suppression;

use std::sync::Arc;

use crate::model::{
    ActivityId, ContactId, ListId, Text,
    activity::{Activity, ActivityCounts, ActivityState},
    call::{Answer, Contact, ContactStatus, Cursor, Disposition, Outcome, Page, Refusal, Request},
    catalog::{
        Application, ApplicationId, Backfill, Catalog, ClientIdHash, Connection, ConnectionId, Consent, Export, FieldId, ListRef,
        Mapping, NoAddress, OnErasure, OnExit, RemovalStrategy, Timing,
    },
    control::ControlOutcome,
    dead_letter::DeadLetter,
    event::{ChangeKind, RecordContent, SegmentEvent, SourceRecord},
    position::{NextOffset, PartitionId, Position},
    state::{ExportRecord, StateChange, StateKey, StateValue},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Beginning, Engine, Event, Input, Output, PartitionBeginning,
    input::TokenOutcome,
    output::{Call, Commit, ReadToken},
};

const P: PartitionId = PartitionId(0);
const LIST: ListId = ListId::from_u128(7);
const START: i64 = 1_790_000_000_000;

fn catalog() -> Catalog {
    Catalog {
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
            on_erasure: OnErasure::RemoveFromLists,
            contacts_max: None,
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
            backfill: Backfill::FromSource,
            removal_strategies: vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
            adopts_existing: false,
            removal_brake: None,
            profiles_per_hour_max: Some(1_000_000),
            weight: 1,
            starts_at_once: true,
        }],
        fields: vec!["profile.email".into(), "profile.first_name".into()],
        timing: Timing { index_lag_ms: 0, ..Timing::default() },
        profiles_max: 1_000_000,
    }
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
    /// What was written to the source through this stage.
    log: Vec<SourceRecord>,
    events: Vec<Event>,
    letters: Vec<DeadLetter>,
    /// What the looks for a token find, in turn; after these, one that lasts.
    tokens: Vec<TokenOutcome>,
    token_reads: Vec<ReadToken>,
    /// Readings of suppressed contacts wait for the scenario; otherwise there are none.
    reads_suppressed: bool,
    /// Activities show their file's name.
    echoes_names: bool,
    drained: bool,
    controlled: Vec<ControlOutcome>,
    /// The offsets that were committed last, and what the reader was told to go on with.
    committed: Vec<NextOffset>,
    resumed: Vec<PartitionId>,
}

fn event(profile: &str, segment: &str, change: ChangeKind, email: Option<&str>, first_name: Option<&str>) -> RecordContent {
    RecordContent::Event(SegmentEvent {
        profile_id: profile.into(),
        segment_id: Some(segment.into()),
        change,
        occurred_at: None,
        values: Box::new([email.map(Text::from), first_name.map(Text::from)]),
    })
}

impl Stage {
    fn begin(state: Vec<StateChange>, offset: Option<i64>, wall: i64) -> Self {
        Self::begin_with(catalog(), state, offset, wall)
    }

    /// Lists whose members from before were read.
    fn begin_with(catalog: Catalog, state: Vec<StateChange>, offset: Option<i64>, wall: i64) -> Self {
        let read = ExportRecord { existing_read: true, ..ExportRecord::default() };
        let known = |name: &Text| state.iter().any(|change| change.key == StateKey::Export { export: name.clone() });
        let exports = catalog.exports.iter().map(|export| export.name.clone()).filter(|name| !known(name));
        let read =
            exports.map(|export| StateChange { key: StateKey::Export { export }, value: Some(StateValue::Export(read.clone())) });
        let state = read.collect::<Vec<_>>().into_iter().chain(state).collect();
        Self::begin_bare(catalog, state, offset, wall)
    }

    fn begin_bare(catalog: Catalog, state: Vec<StateChange>, offset: Option<i64>, wall: i64) -> Self {
        let start = NextOffset { partition: P, offset: offset.unwrap_or(0) };
        let partition =
            PartitionBeginning { start, committed: offset.is_some(), log_start: 0, log_end: 1_000, settled_hash: None };
        Self::begin_at(catalog, state, vec![partition], wall)
    }

    /// The first of the partitions is [`P`].
    fn begin_at(catalog: Catalog, state: Vec<StateChange>, partitions: Vec<PartitionBeginning>, wall: i64) -> Self {
        let mut engine = Engine::new(Arc::new(catalog), 1);
        for change in &state {
            engine.restore(change.clone());
        }
        let now = Now { mono: Mono(1_000_000), wall: UnixMillis(wall) };
        let start = partitions[0].start;
        let begun = engine.begin(now, &Beginning { partitions, fenced_at: now.mono });
        let reads_from = begun.expect("state and source agree")[0].offset;
        let mut stage = Self {
            engine,
            now,
            state,
            offset: start.offset,
            calls: Vec::new(),
            commits: Vec::new(),
            next_record: reads_from,
            log: Vec::new(),
            events: Vec::new(),
            letters: Vec::new(),
            tokens: Vec::new(),
            token_reads: Vec::new(),
            reads_suppressed: false,
            echoes_names: true,
            drained: false,
            controlled: Vec::new(),
            committed: Vec::new(),
            resumed: Vec::new(),
        };
        stage.drain();
        stage
    }

    /// The process dies, and another one begins later from what was committed.
    fn crash(self) -> Self {
        Self::begin(self.state, Some(self.offset), self.now.wall.0 + 100_000)
    }

    /// Confirms transactions and hands out the token at once; calls wait for the scenario.
    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Call(call) if matches!(call.request, Request::Suppressed { .. }) && !self.reads_suppressed => {
                    self.suppressed(&call, &[]);
                }
                Output::Call(call) => self.calls.push(call),
                Output::Commit(commit) => self.commits.push(commit),
                Output::ReadToken(read) => {
                    self.token_reads.push(read);
                    let lasting = TokenOutcome::Valid { refresh_at: None, expires_at: None };
                    let token = if self.tokens.is_empty() { lasting } else { self.tokens.remove(0) };
                    let input = Input::TokenRead { refresh: read.refresh, connection: read.connection, token };
                    self.engine.handle_input(self.now, input);
                }
                Output::Controlled { outcome, .. } => self.controlled.push(outcome),
                Output::Drained => self.drained = true,
                Output::Event(event) => self.events.push(event),
                Output::Pause { .. } => {}
                Output::Resume { partitions } => self.resumed.extend(partitions),
            }
        }
        if !self.commits.is_empty() {
            let commit = self.commits.remove(0);
            self.state.extend(commit.changes);
            self.letters.extend(commit.letters);
            self.offset = commit.offsets[0].offset;
            self.committed = commit.offsets;
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

    /// Lets time pass to the next instant that the engine names, and no further: as a driver does.
    fn pass_to_wake(&mut self) {
        let at = self.engine.poll_timeout().expect("the engine waits for something");
        let step = at.since_ms(self.now.mono).max(1);
        self.now = Now { mono: self.now.mono.plus_ms(step), wall: self.now.wall.plus_ms(i64::try_from(step).unwrap()) };
        self.engine.handle_timeout(self.now);
        self.drain();
    }

    fn record(&mut self, profile: &str, segment: &str, change: ChangeKind, email: Option<&str>, first_name: Option<&str>) {
        self.arrives(event(profile, segment, change, email, first_name));
    }

    /// The entry of a new profile, as the source has it next.
    fn next_entry(&mut self) -> SourceRecord {
        let profile = format!("n{}", self.next_record);
        let email = format!("{profile}@example.com");
        self.next_source_record(event(&profile, "gold", ChangeKind::Entered, Some(&email), None))
    }

    fn erase(&mut self, profile: &str) {
        self.arrives(RecordContent::Erasure { profile_id: profile.into() });
    }

    fn next_source_record(&mut self, content: RecordContent) -> SourceRecord {
        let position = Position { partition: P, offset: self.next_record };
        self.next_record += 1;
        let record = SourceRecord { position, timestamp: self.now.wall, hash: 0, content };
        self.log.push(record.clone());
        record
    }

    fn arrives(&mut self, content: RecordContent) {
        let record = self.next_source_record(content);
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

    /// The same, where it is known to come soon after a long wait.
    fn next_call_within(&mut self, ms: u64) -> Call {
        self.pass(ms);
        assert!(!self.calls.is_empty(), "no call in {ms} ms");
        self.calls.remove(0)
    }

    fn answer(&mut self, call: &Call, outcome: Outcome) {
        let vendor_time = matches!(outcome, Outcome::Answered(_)).then(|| UnixMillis(self.now.wall.0 / 1_000 * 1_000));
        self.engine.handle_input(self.now, Input::CallEnded { call: call.call, outcome, vendor_time });
        self.drain();
    }

    fn refused(&mut self, call: &Call, status: u16, disposition: Disposition) {
        let refusal = Refusal { status, error_key: None, disposition, retry_after_ms: None };
        let vendor_time = Some(UnixMillis(self.now.wall.0 / 1_000 * 1_000));
        self.engine.handle_input(self.now, Input::CallEnded { call: call.call, outcome: Outcome::Refused(refusal), vendor_time });
        self.drain();
    }

    fn started(&mut self, post: &Call, id: u128) {
        self.answered(post, self.activity(id, ActivityState::Initialized, 0, None));
    }

    fn contacts(&mut self, call: &Call, contacts: &[(&str, u128)]) {
        let items = contacts.iter().map(|(profile, id)| Contact {
            contact_id: ContactId::from_u128(*id),
            address: format!("{profile}@example.com").into(),
            status: ContactStatus::Active,
            lists: vec![LIST],
        });
        self.answer(call, Outcome::Answered(Answer::Contacts(Page { items: items.collect(), next: None })));
    }

    /// The last page of a reading: these have unsubscribed.
    fn suppressed(&mut self, call: &Call, profiles: &[&str]) {
        let items = profiles.iter().map(|profile| Contact {
            contact_id: ContactId::from_u128(1),
            address: format!("{profile}@example.com").into(),
            status: ContactStatus::Unsubscribed,
            lists: Vec::new(),
        });
        self.answer(call, Outcome::Answered(Answer::Contacts(Page { items: items.collect(), next: None })));
    }

    fn activities(&mut self, call: &Call, items: Vec<Activity>, next: Option<Cursor>) {
        self.answer(call, Outcome::Answered(Answer::Activities(Page { items, next })));
    }

    fn calls_used(&self) -> u32 {
        self.engine.snapshot(self.now).applications[0].calls_used
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
        let named = if let Request::Import { name, .. } = &post.request { Some(Text::from(name.file_name())) } else { None };
        let name = named.filter(|_| self.echoes_names);
        self.answered(&poll, self.activity(id, ActivityState::Completed, rows as u64, name));
        self.pass(300);
        post.request
    }

    fn addresses(request: &Request) -> Vec<&str> {
        let Request::Import { rows, .. } = request else { panic!("no import: {request:?}") };
        rows.rows.iter().map(|(address, _)| address.as_str()).collect()
    }
}
