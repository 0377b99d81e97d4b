//! A plan's run: load, engine, Kafka and vendor, event after event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::{
    Report, Scenario, bound,
    catalog::{catalog, list_of},
    load::{self, Load, PARTITION},
    measure::{Distribution, GroupMeasure, HourMax},
    report,
    sends::Sends,
    vendor::{self, Vendor},
};
use crate::engine::{
    Beginning, Engine, Event, Input, Output, PartitionBeginning,
    input::TokenOutcome,
    limits,
    output::{Call, CallId, CommitId, RefreshId},
    reason::HoldReason,
    staging_name,
};
use crate::model::{
    ListId,
    batch::Operation,
    call::{Outcome, RemovalSource, Request},
    catalog::{Catalog, ConnectionId, RemovalStrategy},
    position::{NextOffset, Position},
    state::{
        Applied, ConnectionRecord, ExportRecord, Header, LedgerRecord, MemberCut, PartitionHeader, RoutedExport, STATE_FORMAT,
        StagingListRecord, StateChange, StateKey, StateValue,
    },
    time::{DAY_MS, Mono, Now, UnixMillis},
    whole,
};

/// One way to the vendor or back.
const WAY_MS: u64 = 100;
/// What a transaction takes.
const COMMIT_MS: u64 = 100;
/// Records are handed over this often, as a reader's poll does.
const READ_EVERY_MS: u64 = 200;
/// Records of one hand-over.
const RECORDS_MAX: usize = 20_000;
/// A day whose calls are spent so long before its end had too few.
const SPENT_EARLY_MS: u64 = 600_000;
/// So few changes that wait are no backlog.
const BACKLOG_MIN: u64 = 100;
/// The monotonic clock when the run begins.
const BEGAN: Mono = Mono(1_000_000);

/// Something that happens outside the engine.
#[derive(Debug)]
enum Happening {
    Arrives(Call),
    Answered(CallId, Outcome, UnixMillis),
    Token(RefreshId, ConnectionId),
    Committed(CommitId, Mono),
    OthersCall,
}

/// One run.
struct Run {
    catalog: Arc<Catalog>,
    engine: Engine,
    vendor: Vendor,
    load: Load,
    now: Mono,
    began: UnixMillis,
    queue: BinaryHeap<Reverse<(Mono, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    paused: bool,
    groups: Vec<[GroupMeasure; 2]>,
    confirmation: Distribution,
    sent_in_an_hour: Vec<HourMax>,
    held: BTreeSet<&'static str>,
    held_others: bool,
    applied_by: BTreeMap<i64, u64>,
    sends: Option<Sends>,
}

fn header(catalog: &Catalog, next: NextOffset, at: UnixMillis) -> Header {
    let routed = catalog.exports.iter().enumerate().map(|(index, export)| RoutedExport {
        export: export.name.clone(),
        connection: catalog.connection(export.connection).name.clone(),
        list: list_of(index).to_string().into(),
        mapping_hash: export.mapping.hash,
        segments: export.segments.clone(),
    });
    Header {
        format: STATE_FORMAT,
        written_at: at,
        ended: true,
        partitions: vec![PartitionHeader { next, last_settled: None }],
        routed: routed.collect(),
        stopped: Vec::new(),
        grown: Vec::new(),
    }
}

/// The staging list of that number.
fn staging_of(number: u8) -> ListId {
    ListId::from_u128((1 << 63) + u128::from(number))
}

/// Removals by staging lists of each connection in a day, at the best rates.
fn rounds_per_day(scenario: &Scenario, catalog: &Catalog) -> Vec<f64> {
    let flushes = bound::flushes_per_second(&report::groups(scenario, catalog), scenario.calls_for_us() / 86_400.0);
    let mut rounds = vec![0.0; catalog.connections.len()];
    for (export, flushes) in catalog.exports.iter().zip(flushes.chunks_exact(2)) {
        if export.removal_strategies.contains(&RemovalStrategy::StagingList) {
            rounds[usize::from(export.connection.0)] += flushes[1] * 86_400.0;
        }
    }
    rounds
}

/// Runs a plan.
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    let catalog = Arc::new(catalog(scenario));
    // A day like any other; the vendor's clock and ours agree.
    let began = UnixMillis(20_700 * DAY_MS + scenario.start_ms);
    let segments = catalog.exports.iter().map(|export| export.segments[0].clone()).collect();
    let load = Load::new(scenario, segments, began);
    let mut vendor = Vendor::new(
        scenario.vendor,
        catalog.connections.len(),
        Some(scenario.calls_per_day),
        scenario.spent_calls,
        began,
        !scenario.staging,
        scenario.seed,
    );
    let mut engine = Engine::new(Arc::clone(&catalog), scenario.seed);
    let before = began.plus_ms(-DAY_MS);
    for (export, profile) in load.members() {
        let address = load::address(profile);
        let list = list_of(usize::from(export.0));
        vendor.put_on_list(usize::from(catalog.export(export).connection.0), list, profile);
        let cut = MemberCut {
            segments: catalog.export(export).segments.clone(),
            address: Some(address.clone()),
            positions: vec![Position { partition: PARTITION, offset: i64::from(profile) }],
            changed_at: before,
            applied: vec![Applied { address, list, row_hash: 0, at: before }],
            ..MemberCut::default()
        };
        let key = StateKey::Member { export: catalog.export(export).name.clone(), profile: load::profile_id(profile) };
        engine.restore(StateChange { key, value: Some(StateValue::Member(cut)) });
    }
    let next = NextOffset { partition: PARTITION, offset: load.next_offset() };
    let ledger = LedgerRecord { day: began.day(), calls: scenario.spent_calls, calls_next_day: 0 };
    let mut state = vec![
        (StateKey::Header, StateValue::Header(header(&catalog, next, before))),
        (StateKey::Ledger { application: catalog.applications[0].client_id_hash }, StateValue::Ledger(ledger)),
    ];
    // As after days at work: what comes usually and what the vendor's activities take is known, and staging lists were made.
    let groups = report::groups(scenario, &catalog);
    for (index, (export, groups)) in catalog.exports.iter().zip(groups.chunks_exact(2)).enumerate() {
        let record = ExportRecord {
            list: Some(list_of(index)),
            existing_read: true,
            arrivals_per_hour: [0, 1].map(|direction| whole(groups[direction].per_second * 3_600.0)),
            ..ExportRecord::default()
        };
        state.push((StateKey::Export { export: export.name.clone() }, StateValue::Export(record)));
    }
    let rounds_per_day = rounds_per_day(scenario, &catalog);
    for (index, connection) in catalog.connections.iter().enumerate() {
        let lists = limits::staging_lists_usual(rounds_per_day[index]);
        let lists = (1..).take(lists).map(|number| StagingListRecord { list: staging_of(number), number, condemned: false });
        let staging_lists: Vec<_> = lists.collect();
        staging_lists.iter().for_each(|known| vendor.make_list(index, known.list, staging_name(known.number)));
        let record = ConnectionRecord {
            suppressed_read_at: Some(before),
            names_echoed: Some(true),
            activity_start_ms: vendor::START_MS,
            activity_row_us: vendor::ROW_US,
            removes_from_source: Some(true),
            staging_lists,
            ..ConnectionRecord::default()
        };
        state.push((StateKey::Connection { connection: connection.name.clone() }, StateValue::Connection(record)));
    }
    for (key, value) in state {
        engine.restore(StateChange { key, value: Some(value) });
    }
    let partition =
        PartitionBeginning { start: next, committed: true, log_start: next.offset, log_end: next.offset, settled_hash: None };
    let now = Now { mono: BEGAN, wall: began };
    let began_well = engine.begin(now, &Beginning { partitions: vec![partition], fenced_at: Mono(0) });
    assert!(began_well.is_ok(), "a made-up state agrees with itself: {began_well:?}");
    let exports = catalog.exports.len();
    let sends = scenario.flaps_per_day.map(|_| Sends::new(&load.flapping(), began));
    let mut run = Run {
        catalog,
        engine,
        vendor,
        load,
        now: BEGAN,
        began,
        queue: BinaryHeap::new(),
        happenings: BTreeMap::new(),
        next_happening: 0,
        paused: false,
        groups: vec![<[GroupMeasure; 2]>::default(); exports],
        confirmation: Distribution::default(),
        sent_in_an_hour: (0..exports).map(|_| HourMax::default()).collect(),
        held: BTreeSet::new(),
        held_others: false,
        applied_by: BTreeMap::new(),
        sends,
    };
    run.others(scenario);
    // What waits rises and falls with each batch: one instant alone would tell little.
    let mut at_percent = |percent: i64| run.go(began.plus_ms(scenario.duration_ms() * percent / 100));
    let half = (45..=55).map(&mut at_percent).max().unwrap_or(0);
    let end = (95..=100).map(&mut at_percent).min().unwrap_or(0);
    let backlog = run.go(began.plus_ms(scenario.duration_ms() + scenario.after_ms));
    run.report(scenario, backlog, backlog.min(end) <= half.max(BACKLOG_MIN))
}

fn index_of(operation: Operation) -> usize {
    match operation {
        Operation::Import => 0,
        Operation::Remove => 1,
    }
}

/// The export of a list; of one that is no export's, some number beyond.
fn index_of_list(list: ListId) -> usize {
    usize::try_from(list.as_u128()).unwrap_or(usize::MAX).wrapping_sub(1)
}

impl Run {
    fn wall(&self) -> UnixMillis {
        self.began.plus_ms(i64::try_from(self.now.since_ms(BEGAN)).unwrap_or(i64::MAX))
    }

    fn mono(&self, at: UnixMillis) -> Mono {
        BEGAN.plus_ms(at.since_ms(self.began))
    }

    fn after(&mut self, ms: u64, happening: Happening) {
        self.at(self.now.plus_ms(ms), happening);
    }

    fn at(&mut self, at: Mono, happening: Happening) {
        self.next_happening += 1;
        self.happenings.insert(self.next_happening, happening);
        self.queue.push(Reverse((at, self.next_happening)));
    }

    /// What others spend, evenly over the day.
    fn others(&mut self, scenario: &Scenario) {
        let calls = u64::from(scenario.spent_by_others_calls);
        for call in 0..calls {
            let at = DAY_MS.unsigned_abs() * call / calls;
            self.at(BEGAN.plus_ms(at), Happening::OthersCall);
        }
    }

    /// Goes on until then; how many changes are not applied.
    fn go(&mut self, until: UnixMillis) -> u64 {
        let until = self.mono(until);
        self.drain();
        loop {
            let read = self.load.next_at().filter(|_| !self.paused).map(|at| {
                let at = self.mono(at).max(self.now);
                Mono(at.0.next_multiple_of(READ_EVERY_MS)).max(self.now.plus_ms(u64::from(at == self.now)))
            });
            let happens = self.queue.peek().map(|Reverse((at, _))| *at);
            let wakes = self.engine.poll_timeout().map(|at| at.max(self.now.plus_ms(1)));
            let Some(next) = [read, happens, wakes].into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = until;
                return self.groups.iter().flatten().map(GroupMeasure::unapplied).sum();
            };
            self.now = next.max(self.now);
            let now = Now { mono: self.now, wall: self.wall() };
            if happens.is_some_and(|at| at <= self.now) {
                let Some(Reverse((_, number))) = self.queue.pop() else { continue };
                if let Some(happening) = self.happenings.remove(&number) {
                    self.happen(now, happening);
                }
            } else if read.is_some_and(|at| at <= self.now) {
                self.read(now);
            } else {
                self.engine.handle_timeout(now);
            }
            self.drain();
        }
    }

    fn read(&mut self, now: Now) {
        let mut records = Vec::new();
        while records.len() < RECORDS_MAX && self.load.next_at().is_some_and(|at| at <= now.wall) {
            let Some((arrival, record)) = self.load.take() else { break };
            let group = &mut self.groups[usize::from(arrival.export.0)][usize::from(!arrival.enters)];
            group.arrive(arrival.at);
            if let Some(sends) = &mut self.sends {
                sends.arrive(arrival);
            }
            records.push(record);
        }
        self.engine.handle_input(now, Input::Records(records));
    }

    fn happen(&mut self, now: Now, happening: Happening) {
        let input = match happening {
            Happening::Arrives(call) => {
                let outcome = self.vendor.answer(now.wall, usize::from(call.connection.0), call.request);
                let date = UnixMillis(now.wall.0.div_euclid(1_000) * 1_000);
                self.after(WAY_MS, Happening::Answered(call.call, outcome, date));
                return;
            }
            Happening::OthersCall => {
                self.vendor.spent_by_others(1);
                return;
            }
            Happening::Answered(call, outcome, date) => Input::CallEnded { call, outcome, vendor_time: Some(date) },
            Happening::Token(refresh, connection) => {
                Input::TokenRead { refresh, connection, token: TokenOutcome::Valid { refresh_at: None, expires_at: None } }
            }
            Happening::Committed(commit, began) => Input::Committed { commit, began },
        };
        self.engine.handle_input(now, input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Call(call) => {
                    self.note_sent(&call);
                    self.after(WAY_MS, Happening::Arrives(call));
                }
                Output::ReadToken(read) => self.after(1, Happening::Token(read.refresh, read.connection)),
                Output::Commit(commit) => {
                    let began = self.now;
                    self.after(COMMIT_MS, Happening::Committed(commit.commit, began));
                }
                Output::Pause { .. } => self.paused = true,
                Output::Resume { .. } => self.paused = false,
                Output::Event(event) => self.note(&event),
                Output::Controlled { .. } | Output::Drained => {}
            }
        }
    }

    /// Rows count for the hour in which they are sent.
    fn note_sent(&mut self, call: &Call) {
        let at = self.wall();
        let account = usize::from(call.connection.0);
        match (&mut self.sends, &call.request) {
            (Some(sends), Request::Import { lists, rows, .. }) => {
                // To be on its list, or on a staging list to be taken off it.
                let joins = lists.iter().any(|list| index_of_list(*list) < self.sent_in_an_hour.len());
                let profiles = rows.rows.iter().filter_map(|(address, _)| load::profile_of(address));
                profiles.for_each(|profile| sends.send(at, profile, joins));
            }
            (Some(sends), Request::Remove { source: RemovalSource::Contacts(ids), .. }) => {
                let profiles = ids.iter().filter_map(|id| load::Profile::try_from(id.as_u128()).ok());
                profiles.for_each(|profile| sends.send(at, profile, false));
            }
            _ => {}
        }
        let targets = match &call.request {
            Request::Import { lists, rows, .. } => Some((lists, rows.rows.len() as u64)),
            Request::Remove { source: RemovalSource::Contacts(ids), targets } => Some((targets, ids.len() as u64)),
            Request::Remove { source: RemovalSource::Lists(lists), targets } => {
                Some((targets, lists.iter().map(|list| self.vendor.members_of(at, account, *list)).sum()))
            }
            Request::DeleteContacts { .. }
            | Request::Activity { .. }
            | Request::Activities { .. }
            | Request::ListMembers { .. }
            | Request::LookUp { .. }
            | Request::Suppressed { .. }
            | Request::FindList { .. }
            | Request::List { .. }
            | Request::CreateList { .. }
            | Request::Lists { .. }
            | Request::DeleteList { .. }
            | Request::ContactCounts => None,
        };
        if let Some((lists, rows)) = targets {
            for list in lists {
                if let Some(hour) = self.sent_in_an_hour.get_mut(index_of_list(*list)) {
                    hour.add(at, rows);
                }
            }
        }
    }

    fn note(&mut self, event: &Event) {
        if let Event::Held { reason, until, .. } = event {
            self.held.insert(reason.as_str());
            // All of a day's calls are to be spent, and nobody foresees the last of them to the minute.
            let day_ends =
                *reason == HoldReason::QuotaSpent && until.is_some_and(|at| at.since_ms(self.wall()) <= SPENT_EARLY_MS);
            let usual = matches!(reason, HoldReason::ProfilesPerHour | HoldReason::SuppressionUnread);
            self.held_others |= !usual && !day_ends;
        }
        let Event::Applied { export, adds, updates, removals, at, vendor_ms, freshness_ms } = event else { return };
        let operation = if *removals > 0 { Operation::Remove } else { Operation::Import };
        let group = &mut self.groups[usize::from(export.0)][index_of(operation)];
        for age_ms in freshness_ms {
            group.apply(*at, u64::from(*age_ms), *vendor_ms);
        }
        let rows = u64::from(adds + updates + removals);
        *self.applied_by.entry(at.0.div_euclid(60_000)).or_default() += rows;
        self.confirmation.add_many(self.wall().since_ms(*at), rows);
    }

    fn report(mut self, scenario: &Scenario, backlog: u64, keeps_up: bool) -> Report {
        let now = self.wall();
        for group in self.groups.iter_mut().flatten() {
            group.end(now);
        }
        report::report(
            scenario,
            &report::Measured {
                catalog: &self.catalog,
                groups: &self.groups,
                confirmation: &self.confirmation,
                vendor: &self.vendor,
                profiles_in_an_hour_max: self.sent_in_an_hour.iter().map(|hour| hour.max).max().unwrap_or(0),
                held: &self.held,
                held_others: self.held_others,
                backlog,
                keeps_up,
                applied_by_minute: &self.applied_by,
                began: self.began,
                sends: self.sends.as_ref(),
                behind: self.sends.as_ref().map_or(0, |sends| sends.behind(&self.load.flapping())),
            },
        )
    }
}
