//! One world: an event heap in virtual time, between an engine that dies now and then and a vendor that never does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use url::Url;

use crate::constant_contact::{request, response};
use crate::engine::{
    Engine, Input, Output, Promise,
    input::TokenOutcome,
    output::{Call, Commit, CommitId, ReadToken},
};
use crate::model::{
    ListId,
    call::{Answer, Lost, NotSent, Outcome, Request},
    catalog::{Catalog, ConnectionId, ListRef},
    position::{NextOffset, PartitionId},
    time::{Mono, Now, UnixMillis},
};

use super::{
    broker::Broker,
    constant_contact::{ActivityTime, PlantedContact, Vendor, VendorConfig},
    faults::{Fault, Faults},
    fold::Fold,
    network::{self, BadEndings, Parcel},
    oracles::{Oracles, Sight},
    report::{Failure, WorldReport},
    trace::Trace,
    workload::{ListPlan, Scenario},
};

/// A world that does not come to rest within this time after its last event never will.
const REST_MS: u64 = 30 * 86_400_000;
/// More mutations than this at one instant: the engine asks to be woken in the past, again and again.
const MUTATIONS_AT_AN_INSTANT_MAX: u32 = 10_000;
/// Records of one partition that one read hands on.
const READ_RECORDS_MAX: usize = 50;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    Arrival(usize),
    Marker(PartitionId),
    Read { term: u32 },
    Leaves(Box<Parcel>),
    Arrives(Box<Parcel>),
    Answers { term: u32, call: crate::engine::output::CallId, outcome: Box<Outcome>, vendor_time: Option<UnixMillis> },
    Token { term: u32, read: ReadToken },
    Lands { term: u32, commit: Box<Commit>, began: Mono },
    Confirmed { term: u32, commit: CommitId, began: Mono },
    Drain,
    DrainEnds { term: u32 },
    Crash,
    Begin,
    Heal,
}

/// A promise that was broken.
#[derive(Debug)]
struct Broken {
    promise: &'static str,
    detail: String,
}

/// A process that runs the engine.
#[derive(Debug)]
struct Term {
    engine: Engine,
    /// Its monotonic clock at the world's `started_ms`.
    base: u64,
    started_ms: u64,
    skew_ms: i64,
    reader: BTreeMap<PartitionId, i64>,
    paused: BTreeSet<PartitionId>,
    reading: bool,
    calls_open: u64,
    last_landing_ms: u64,
}

/// A world.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    catalog: Arc<Catalog>,
    scenario: Scenario,
    faults: Faults,
    vendors: Vec<Vendor>,
    bad_endings: BadEndings,
    broker: Broker,
    fold: Fold,
    oracles: Oracles,
    trace: Trace,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    now_ms: u64,
    at_this_instant: u32,
    term: Option<Term>,
    terms: u32,
    on_the_way: u64,
    records_to_come: usize,
    healed: bool,
    rest_by_ms: u64,
    api: Url,
    broken: Option<Broken>,
}

impl World {
    /// A world before its first instant.
    ///
    /// # Errors
    /// The model's own address is none: a fault of this program.
    pub fn new(seed: u64, keep_trace: bool) -> Result<Self, url::ParseError> {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut rng);
        let faults = Faults::draw(&mut rng);
        let mut catalog = scenario.catalog.clone();
        let vendors = vendors(&mut rng, &scenario, &mut catalog);
        let mut world = Self {
            fold: Fold::new(&catalog),
            oracles: Oracles::new(&catalog, &scenario),
            broker: Broker::new(&scenario.starts),
            trace: Trace::new(keep_trace),
            catalog: Arc::new(catalog),
            vendors,
            bad_endings: BadEndings::default(),
            agenda: BTreeMap::new(),
            sequence: 0,
            now_ms: 0,
            at_this_instant: 0,
            term: None,
            terms: 0,
            on_the_way: 0,
            records_to_come: scenario.arrivals.len(),
            healed: false,
            rest_by_ms: 0,
            api: Url::parse("http://constant-contact.simulated/v3")?,
            broken: None,
            rng,
            scenario,
            faults,
        };
        world.plan();
        Ok(world)
    }

    /// Lets it live until it rests or a promise is broken.
    #[must_use]
    pub fn run(mut self, seed: u64) -> WorldReport {
        while self.broken.is_none() && !self.rests() {
            self.step();
        }
        if self.broken.is_none() {
            let checked = self.oracles.at_rest(&Sight {
                catalog: &self.catalog,
                scenario: &self.scenario,
                fold: &self.fold,
                broker: &self.broker,
                vendors: &self.vendors,
            });
            self.judge(checked);
        }
        if let Some(broken) = &self.broken {
            let line = format!("BROKEN {}: {}", broken.promise, broken.detail);
            self.trace.line(self.now_ms, format_args!("{line}"));
        }
        WorldReport {
            failure: self.broken.map(|broken| Failure::new(seed, broken.promise, broken.detail)),
            digest: self.trace.digest(),
            faults_reached: self.faults.reached().clone(),
            virtual_ms: self.now_ms,
            trace: self.trace.into_lines(),
        }
    }

    /// Puts everything on the agenda that is known from the beginning.
    fn plan(&mut self) {
        let last_ms = self.scenario.last_arrival_ms();
        let heal_ms = last_ms + self.rng.u64(..900_000);
        self.rest_by_ms = heal_ms + REST_MS;
        self.at(0, Happening::Begin);
        for index in 0..self.scenario.arrivals.len() {
            self.at(self.scenario.arrivals[index].at_ms, Happening::Arrival(index));
        }
        for start in self.scenario.starts.clone() {
            if self.rng.bool() {
                let at = self.rng.u64(..=last_ms);
                self.at(at, Happening::Marker(start.partition));
            }
        }
        for (fault, times) in [(Fault::Crash, 4), (Fault::Drain, 2)] {
            if self.faults.has(fault) {
                for _ in 0..self.rng.u32(1..=times) {
                    let at = self.rng.u64(..heal_ms.max(1));
                    self.at(at, if fault == Fault::Crash { Happening::Crash } else { Happening::Drain });
                }
            }
        }
        self.at(heal_ms, Happening::Heal);
    }

    fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((at_ms.max(self.now_ms), self.sequence), happening);
    }

    fn after(&mut self, ms: u64, happening: Happening) {
        self.at(self.now_ms.saturating_add(ms), happening);
    }

    fn vendor_time(&self) -> UnixMillis {
        self.scenario.wall_start.plus_ms(i64::try_from(self.now_ms).unwrap_or(i64::MAX))
    }

    fn clock(&self, term: &Term) -> Now {
        let mono = Mono(term.base + (self.now_ms - term.started_ms));
        Now { mono, wall: self.vendor_time().plus_ms(term.skew_ms) }
    }

    fn break_promise(&mut self, promise: &'static str, detail: String) {
        self.broken.get_or_insert(Broken { promise, detail });
    }

    fn judge(&mut self, verdict: Result<(), (Promise, String)>) {
        if let Err((promise, detail)) = verdict {
            self.break_promise(promise.as_str(), detail);
        }
    }

    /// Whether nothing is left to happen and nothing is left to do.
    fn rests(&self) -> bool {
        let Some(term) = &self.term else { return false };
        self.healed
            && self.records_to_come == 0
            && self.on_the_way == 0
            && self.broker.is_caught_up()
            && self.broker.ends().iter().all(|end| term.reader.get(&end.partition).is_some_and(|at| *at >= end.offset))
            && term.engine.is_quiet()
    }

    /// The next thing that happens: from the agenda, or the engine's own time.
    fn step(&mut self) {
        let head = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wake = self.term.as_ref().and_then(|term| {
            term.engine.poll_timeout().map(|at| (term.started_ms + at.0.saturating_sub(term.base)).max(self.now_ms))
        });
        let next = match (head, wake) {
            (None, None) => {
                self.break_promise("liveness", format!("nothing will ever happen again: {}", self.standing()));
                return;
            }
            (Some(head), Some(wake)) => head.min(wake),
            (Some(at), None) | (None, Some(at)) => at,
        };
        if next > self.rest_by_ms {
            self.break_promise(
                "liveness",
                format!("no rest {} days after the last fault: {}", REST_MS / 86_400_000, self.standing()),
            );
            return;
        }
        self.at_this_instant = if next == self.now_ms { self.at_this_instant + 1 } else { 0 };
        if self.at_this_instant > MUTATIONS_AT_AN_INSTANT_MAX {
            self.break_promise(Promise::Bounded.as_str(), format!("time stands still: {}", self.standing()));
            return;
        }
        self.now_ms = next;
        if head.is_some_and(|head| head <= next) {
            if let Some((_, happening)) = self.agenda.pop_first() {
                self.happen(happening);
            }
        } else {
            self.mutate(None);
        }
    }

    /// What the engine says of itself, for a failure's text.
    fn standing(&self) -> String {
        let Some(term) = &self.term else { return "no engine runs".to_owned() };
        let view = term.engine.snapshot(self.clock(term));
        let exports: Vec<String> = view
            .exports
            .iter()
            .map(|export| {
                format!("{}: {} waiting, {} in flight, held {:?}", export.name, export.waiting, export.in_flight, export.held)
            })
            .collect();
        let held: Vec<_> = view.connections.iter().map(|connection| connection.held).collect();
        let calls: Vec<_> = view.applications.iter().map(|application| (application.calls_left, application.held)).collect();
        format!(
            "{} records unsettled, watermarks {:?}, reader {:?}, paused {:?}, exports [{}], connections held {held:?}, applications {calls:?}",
            view.records_unsettled,
            view.watermarks,
            view.reader,
            view.paused,
            exports.join("; ")
        )
    }

    fn happen(&mut self, happening: Happening) {
        let current = self.terms;
        let alive = |term: u32| term == current;
        match happening {
            Happening::Arrival(index) => self.record_arrives(index),
            Happening::Marker(partition) => {
                self.broker.append_marker(partition);
                self.read_soon();
            }
            Happening::Read { term } if alive(term) => self.read(),
            Happening::Leaves(parcel) => self.leaves(parcel),
            Happening::Arrives(parcel) => self.arrives(*parcel),
            Happening::Answers { term, call, outcome, vendor_time } => {
                self.on_the_way -= 1;
                if alive(term) && self.term.is_some() {
                    self.trace.line(self.now_ms, format_args!("in  call {} {}", call.0, describe(&outcome)));
                    self.mutate(Some(Input::CallEnded { call, outcome: *outcome, vendor_time }));
                }
            }
            Happening::Token { term, read } if alive(term) => self.token(read),
            Happening::Lands { term, commit, began } if alive(term) => self.lands(*commit, began),
            Happening::Confirmed { term, commit, began } if alive(term) => {
                self.mutate(Some(Input::Committed { commit, began }));
            }
            Happening::Drain => self.drain(),
            Happening::DrainEnds { term } if alive(term) => {
                self.trace.line(self.now_ms, format_args!("the stop takes too long: killed"));
                self.die();
            }
            Happening::Crash => {
                if self.term.is_some() && !self.healed {
                    self.faults.count(Fault::Crash);
                    self.trace.line(self.now_ms, format_args!("CRASH"));
                    self.die();
                }
            }
            Happening::Begin => self.begin(),
            Happening::Heal => {
                self.trace.line(self.now_ms, format_args!("nothing goes wrong any more"));
                self.healed = true;
                self.faults.heal();
            }
            Happening::Read { .. }
            | Happening::Token { .. }
            | Happening::Lands { .. }
            | Happening::Confirmed { .. }
            | Happening::DrainEnds { .. } => {}
        }
    }

    fn record_arrives(&mut self, index: usize) {
        let arrival = &self.scenario.arrivals[index];
        let mut record = arrival.record.clone();
        record.timestamp = self.vendor_time();
        record.position = self.broker.append(arrival.partition, arrival.gap, record.clone());
        self.fold.record(&self.catalog, &record);
        self.records_to_come -= 1;
        self.read_soon();
    }

    fn read_soon(&mut self) {
        let ms = self.rng.u64(1..30);
        let current = self.terms;
        if let Some(term) = &mut self.term
            && !term.reading
        {
            term.reading = true;
            self.after(ms, Happening::Read { term: current });
        }
    }

    fn read(&mut self) {
        let Some(term) = &mut self.term else { return };
        term.reading = false;
        let (mut records, mut positions, mut more) = (Vec::new(), Vec::new(), false);
        for (partition, offset) in &mut term.reader {
            if term.paused.contains(partition) {
                continue;
            }
            let from = NextOffset { partition: *partition, offset: *offset };
            let (read, next) = self.broker.read(from, READ_RECORDS_MAX);
            more |= read.len() == READ_RECORDS_MAX;
            records.extend(read);
            if next != from {
                *offset = next.offset;
                positions.push(next);
            }
        }
        if more {
            self.read_soon();
        }
        if !records.is_empty() {
            self.trace.line(self.now_ms, format_args!("in  {} records", records.len()));
            self.mutate(Some(Input::Records(records)));
        }
        if !positions.is_empty() {
            self.mutate(Some(Input::ReaderAt(positions)));
        }
    }

    /// One mutation of the engine, and everything it asks for.
    fn mutate(&mut self, input: Option<Input>) {
        let Some(mut term) = self.term.take() else { return };
        let now = self.clock(&term);
        match input {
            Some(input) => term.engine.handle_input(now, input),
            None => term.engine.handle_timeout(now),
        }
        self.outputs(term);
    }

    fn outputs(&mut self, mut term: Term) {
        let mut count = 0_u32;
        while let Some(output) = term.engine.poll_output() {
            count += 1;
            let effect = matches!(output, Output::Call(_) | Output::Commit(_));
            let dies = effect && self.faults.strikes(&mut self.rng, Fault::CrashAtEffect);
            let before = dies && self.rng.bool();
            let drained = matches!(output, Output::Drained);
            if !before {
                self.perform(&mut term, output);
            }
            if dies || drained {
                let how = if dies { "CRASH at an effect" } else { "the term ends in order" };
                self.trace.line(self.now_ms, format_args!("{how}"));
                self.die_of(term);
                return;
            }
        }
        let verdict = self.oracles.after_mutation(&term.engine, self.clock(&term), count, term.calls_open);
        self.term = Some(term);
        self.judge(verdict);
    }

    fn perform(&mut self, term: &mut Term, output: Output) {
        match output {
            Output::Call(call) => self.send(term, call),
            Output::ReadToken(read) => {
                let ms = self.rng.u64(1..200);
                self.after(ms, Happening::Token { term: self.terms, read });
            }
            Output::Commit(commit) => {
                let slow = self.faults.strikes(&mut self.rng, Fault::SlowCommit);
                let ms = if slow { self.rng.u64(500..9_000) } else { self.rng.u64(5..60) };
                let at = (self.now_ms + ms).max(term.last_landing_ms + 1);
                term.last_landing_ms = at;
                let offsets: Vec<i64> = commit.offsets.iter().map(|next| next.offset).collect();
                self.trace.line(
                    self.now_ms,
                    format_args!("out commit {} of {} changes, offsets {offsets:?}", commit.commit.0, commit.changes.len()),
                );
                let began = self.clock(term).mono;
                self.at(at, Happening::Lands { term: self.terms, commit: Box::new(commit), began });
            }
            Output::Pause { partitions, reason } => {
                self.trace.line(self.now_ms, format_args!("out pause {}", reason.as_str()));
                term.paused.extend(partitions);
            }
            Output::Resume { partitions } => {
                for partition in &partitions {
                    term.paused.remove(partition);
                }
                if !term.reading {
                    term.reading = true;
                    self.after(1, Happening::Read { term: self.terms });
                }
            }
            Output::Event(event) => {
                let text = format!("{event:?}");
                let verdict = self.oracles.private.text(&text);
                self.trace.line(self.now_ms, format_args!("    {text}"));
                self.judge(verdict);
            }
            Output::Drained => {}
        }
    }

    fn send(&mut self, term: &mut Term, call: Call) {
        let (wait_ms, ways_ms, fate) = network::draw_fate(&mut self.rng, &mut self.faults);
        self.trace.line(
            self.now_ms,
            format_args!(
                "out call {} {} to {}{}",
                call.call.0,
                call.kind().as_str(),
                call.connection.0,
                fate.map_or(String::new(), |fate| format!(" ({})", fate.as_str()))
            ),
        );
        self.on_the_way += 1;
        term.calls_open += 1;
        let parcel = Parcel {
            term: self.terms,
            call: call.call,
            connection: call.connection,
            request: call.request,
            left_ms: 0,
            deadline_ms: call.deadline_ms,
            not_after: call.not_after,
            ways_ms,
            fate,
        };
        self.after(wait_ms, Happening::Leaves(Box::new(parcel)));
    }

    /// The first byte is to be written: by a process that still lives, within its lease.
    fn leaves(&mut self, mut parcel: Box<Parcel>) {
        let Some(term) = self.term.as_ref().filter(|_| parcel.term == self.terms) else {
            self.on_the_way -= 1;
            return;
        };
        parcel.left_ms = self.now_ms;
        if self.clock(term).mono > parcel.not_after {
            self.answer(&parcel, 0, Outcome::NotSent(NotSent::TooLate), None);
            return;
        }
        if let Some((ms, outcome)) = network::lost(&mut self.rng, &parcel) {
            self.answer(&parcel, ms, outcome, None);
            return;
        }
        self.after(parcel.ways_ms.0.min(parcel.deadline_ms), Happening::Arrives(parcel));
    }

    fn answer(&mut self, parcel: &Parcel, after_ms: u64, outcome: Outcome, vendor_time: Option<UnixMillis>) {
        if parcel.term == self.terms
            && let Some(term) = &mut self.term
        {
            term.calls_open = term.calls_open.saturating_sub(1);
        }
        let answers = Happening::Answers { term: parcel.term, call: parcel.call, outcome: Box::new(outcome), vendor_time };
        self.after(after_ms, answers);
    }

    /// A request comes to the vendor, whether or not its sender still lives.
    fn arrives(&mut self, parcel: Parcel) {
        let now = self.vendor_time();
        let verdict = self.oracles.quota.request(&self.catalog, parcel.connection, now);
        self.judge(verdict);
        let early = network::answered_before(&mut self.rng, parcel.fate, now);
        let response = early.unwrap_or_else(|| {
            let mut request = request::encode(&self.api, &parcel.request, self.now_ms);
            let bearer = http::HeaderValue::from_static("Bearer simulated");
            request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
            let response = self.vendors[usize::from(parcel.connection.0)].handle(now, &request);
            self.after_post(&parcel, &response);
            if parcel.fate == Some(Fault::ServerErrorExecuted) { network::answered_after(now) } else { response }
        });
        let mut outcome = response::decode(&parcel.request, &response);
        self.bad_endings.show(&mut outcome);
        let vendor_time = response::vendor_time(response.headers());
        let takes_ms = (self.now_ms - parcel.left_ms) + parcel.ways_ms.1;
        let rest_ms = parcel.deadline_ms.saturating_sub(self.now_ms - parcel.left_ms);
        if parcel.fate == Some(Fault::AnswerLost) && self.rng.bool() {
            self.answer(&parcel, parcel.ways_ms.1.min(rest_ms), Outcome::Unknown(Lost::Reset), None);
        } else if parcel.fate == Some(Fault::AnswerLost) || takes_ms > parcel.deadline_ms {
            self.answer(&parcel, rest_ms, Outcome::Unknown(Lost::Timeout), None);
        } else {
            self.answer(&parcel, parcel.ways_ms.1, outcome, vendor_time);
        }
    }

    /// Looks at what a request that starts an activity did, and decides how the activity will end.
    fn after_post(&mut self, parcel: &Parcel, response: &http::Response<bytes::Bytes>) {
        let (Request::Import { .. } | Request::Remove { .. }) = &parcel.request else { return };
        let Outcome::Answered(Answer::Activity(activity)) = response::decode(&parcel.request, response) else { return };
        if self.faults.strikes(&mut self.rng, Fault::ActivityFails) {
            self.bad_endings.add(&mut self.rng, activity.activity_id);
        }
        let open = self.vendors[usize::from(parcel.connection.0)].activities_open();
        let verdict = self.oracles.one_in_flight.started(&open, activity.activity_id);
        self.judge(verdict);
    }

    fn token(&mut self, read: ReadToken) {
        let Some(term) = &self.term else { return };
        let unavailable = self.faults.strikes(&mut self.rng, Fault::TokenUnavailable);
        let token = if unavailable {
            TokenOutcome::Unavailable { requested: read.may_refresh && self.rng.bool() }
        } else {
            let refreshes = self.catalog.connection(read.connection).refreshes;
            let wall = self.clock(term).wall;
            TokenOutcome::Valid {
                refresh_at: refreshes.then(|| wall.plus_ms(69_120_000)),
                expires_at: refreshes.then(|| wall.plus_ms(86_400_000)),
            }
        };
        self.mutate(Some(Input::TokenRead { refresh: read.refresh, connection: read.connection, token }));
    }

    fn lands(&mut self, commit: Commit, began: Mono) {
        let fails = self.faults.strikes(&mut self.rng, Fault::CommitFails);
        let happens = !fails || self.rng.bool();
        let id = commit.commit;
        if happens {
            self.commit(&commit);
        }
        if fails {
            self.trace.line(self.now_ms, format_args!("commit {} is not confirmed: the term ends", id.0));
            self.die();
        } else {
            let ms = self.rng.u64(1..20);
            self.after(ms, Happening::Confirmed { term: self.terms, commit: id, began });
        }
    }

    /// A transaction takes effect.
    fn commit(&mut self, commit: &Commit) {
        let now = self.vendor_time();
        for vendor in &mut self.vendors {
            vendor.advance(now);
        }
        for index in 0..self.vendors.len() {
            let applied = self.vendors[index].drain_applied();
            self.oracles.applied.steps(index, applied, &self.bad_endings);
        }
        let before = self.broker.committed().clone();
        if let Err(detail) = self.broker.commit(commit) {
            self.break_promise(Promise::NothingLost.as_str(), detail);
            return;
        }
        let sight = Sight {
            catalog: &self.catalog,
            scenario: &self.scenario,
            fold: &self.fold,
            broker: &self.broker,
            vendors: &self.vendors,
        };
        let verdict = self.oracles.at_commit(&sight, commit, &before);
        self.judge(verdict);
    }

    fn drain(&mut self) {
        let Some(term) = &self.term else { return };
        if self.healed {
            return;
        }
        self.faults.count(Fault::Drain);
        let wait_ms = self.catalog.timing.drain_ms;
        let deadline = self.clock(term).mono.plus_ms(wait_ms);
        self.trace.line(self.now_ms, format_args!("in  drain"));
        self.after(wait_ms + 15_000, Happening::DrainEnds { term: self.terms });
        self.mutate(Some(Input::Drain { deadline }));
    }

    fn die(&mut self) {
        if let Some(term) = self.term.take() {
            self.die_of(term);
        }
    }

    /// The process is gone. What it had handed to Kafka may still happen, in order; another process begins later.
    fn die_of(&mut self, term: Term) {
        drop(term);
        let lands: Vec<(u64, u64)> =
            self.agenda.iter().filter(|(_, h)| matches!(h, Happening::Lands { .. })).map(|(key, _)| *key).collect();
        let kept = self.rng.usize(..=lands.len());
        for key in lands.into_iter().take(kept) {
            if let Some(Happening::Lands { commit, .. }) = self.agenda.remove(&key) {
                self.commit(&commit);
            }
        }
        // Answers, confirmations and landings of this term find nobody from here on.
        self.terms += 1;
        let ms_max = if self.rng.u32(..4) == 0 { 900_000 } else { 20_000 };
        let ms = self.rng.u64(200..ms_max);
        self.after(ms, Happening::Begin);
    }

    fn begin(&mut self) {
        if self.term.is_some() {
            return;
        }
        let mut engine = Engine::new(Arc::clone(&self.catalog), self.rng.u64(..));
        let compacted = self.rng.bool();
        match self.broker.restore(compacted) {
            Ok(changes) => changes.into_iter().for_each(|change| engine.restore(change)),
            Err(detail) => {
                self.break_promise(Promise::NothingLost.as_str(), detail);
                return;
            }
        }
        let skewed = self.faults.strikes(&mut self.rng, Fault::ClockSkew);
        let skew_ms = if skewed { self.rng.i64(-7_200_000..7_200_000) } else { self.rng.i64(-400..400) };
        let mut term = Term {
            engine,
            base: self.rng.u64(60_000..1 << 40),
            started_ms: self.now_ms,
            skew_ms,
            reader: BTreeMap::new(),
            paused: BTreeSet::new(),
            reading: false,
            calls_open: 0,
            last_landing_ms: 0,
        };
        let now = self.clock(&term);
        self.trace.line(self.now_ms, format_args!("BEGIN of term {}, its wall clock {} ms off", self.terms, term.skew_ms));
        match term.engine.begin(now, &self.broker.beginning(now.mono)) {
            Ok(starts) => term.reader = starts.iter().map(|next| (next.partition, next.offset)).collect(),
            Err(reason) => {
                self.break_promise("liveness", format!("a term does not begin: {}", reason.as_str()));
                return;
            }
        }
        self.outputs(term);
        self.read_soon();
    }
}

/// Accounts with the lists and contacts of a plan; lists by id get their ids.
fn vendors(rng: &mut Rng, scenario: &Scenario, catalog: &mut Catalog) -> Vec<Vendor> {
    let mut vendors = Vec::new();
    for (index, connection) in catalog.connections.iter().enumerate() {
        let application = &catalog.applications[usize::from(connection.application.0)];
        let base_ms_max = if rng.u32(..5) == 0 { 600_000 } else { 6_000 };
        let activity_ms = ActivityTime {
            queued_ms: rng.u64(..2_000),
            base_ms: rng.u64(100..base_ms_max),
            per_1000_rows_ms: rng.u64(..5_000),
            jitter_percent: rng.u8(..100),
        };
        let config = VendorConfig {
            calls_per_second: application.calls_per_second,
            calls_per_day: application.calls_per_day,
            activity_ms,
            seed: rng.u64(..),
            observed: true,
            ..VendorConfig::default()
        };
        let mut vendor = Vendor::new(config, scenario.wall_start);
        let id = ConnectionId(u16::try_from(index).unwrap_or(u16::MAX));
        let mut ids: BTreeMap<usize, ListId> = BTreeMap::new();
        for (number, (export, list)) in catalog.exports.iter_mut().zip(&scenario.lists).enumerate() {
            if export.connection != id {
                continue;
            }
            match list {
                ListPlan::ById(name) => {
                    let list = vendor.plant_list(name);
                    export.list = ListRef::Id(list);
                    ids.insert(number, list);
                }
                ListPlan::ByName(name) => {
                    ids.insert(number, vendor.plant_list(name));
                }
                ListPlan::Created(_) => {}
            }
        }
        for planted in &scenario.contacts[index] {
            let lists = planted.export.and_then(|export| ids.get(&export).copied()).into_iter().collect();
            vendor.plant_contact(&PlantedContact { address: planted.address.clone(), status: planted.status, lists });
        }
        vendors.push(vendor);
    }
    vendors
}

/// An outcome in a few words, without anything personal.
fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(Answer::Activity(activity)) => format!("activity {} {:?}", activity.activity_id, activity.state),
        Outcome::Answered(Answer::Activities(page)) => format!("{} activities", page.items.len()),
        Outcome::Answered(Answer::Contacts(page)) => format!("{} contacts", page.items.len()),
        Outcome::Answered(Answer::Lists(page)) => format!("{} lists", page.items.len()),
        Outcome::Answered(Answer::List(list)) => format!("list {}", list.list_id),
        Outcome::Refused(refusal) => format!("{} {:?}", refusal.status, refusal.disposition),
        Outcome::Unknown(lost) => format!("{lost:?}"),
        Outcome::NotSent(not_sent) => format!("{not_sent:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lived(seed: u64, keep_trace: bool) -> WorldReport {
        World::new(seed, keep_trace).unwrap().run(seed)
    }

    #[test]
    fn the_same_seed_lives_the_same_life() {
        let [first, again, unkept] = [true, true, false].map(|keep| lived(3, keep));
        assert_eq!(first.trace, again.trace);
        assert_eq!((first.digest, first.virtual_ms), (unkept.digest, unkept.virtual_ms));
        assert!(first.trace.len() > 20 && unkept.trace.is_empty());
    }

    #[test]
    fn promises_hold_in_some_worlds() {
        for seed in 0..16 {
            assert_eq!(lived(seed, false).failure, None);
        }
    }
}
