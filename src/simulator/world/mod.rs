//! One world: an event heap in virtual time, between engines that die, stand still and lose their shard now and then, and
//! a vendor that never does.
//!
//! `group` says which process owns the shard, `process` performs what an engine asks for, `transactions` is the way to
//! Kafka, `delivery` the way to the vendor, `tokens` the token stores, `accounts` what stands in the accounts at first,
//! `operator` what is ordered.

mod accounts;
mod delivery;
mod group;
mod operator;
mod process;
mod tokens;
mod transactions;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fastrand::Rng;
use url::Url;

use crate::engine::{
    Input, Promise,
    output::{CallId, CommitId, ReadToken},
};
use crate::model::{
    Text,
    call::Outcome,
    catalog::{Catalog, ConnectionId, ListRef},
    control::ControlAction,
    position::{NextOffset, PartitionId},
    time::{DAY_MS, Mono, Now, UnixMillis},
};

use super::{
    broker::Broker,
    constant_contact::Vendor,
    faults::{Fault, Faults},
    fold::Fold,
    network::Parcel,
    oracles::{Oracles, Sight},
    report::{Failure, WorldReport},
    sometimes::{Reached, Sometimes},
    trace::Trace,
    workload::Scenario,
};

use self::{
    group::Group,
    operator::Operator,
    process::Process,
    tokens::{StoredToken, Tokens},
    transactions::Landing,
};

/// What a world may take to come to rest beside its calls and its activities: waits before calls, sessions, people who
/// sign in, and whatever is looked at hourly.
const REST_SLACK_MS: u64 = 6 * 3_600_000;
/// More mutations than this at one instant: the engine asks to be woken in the past, again and again.
const MUTATIONS_AT_AN_INSTANT_MAX: u32 = 10_000;
/// Records of one partition that one read hands on.
const READ_RECORDS_MAX: usize = 50;

/// Something that will happen. What names a term happens in its process: it waits while the process stands still, and
/// finds nobody once the term has ended.
#[derive(Debug)]
enum Happening {
    Arrival(usize),
    /// Somebody opts out, or is deleted.
    Departs(usize),
    Marker(PartitionId),
    /// A process starts, and asks to be a member of the group.
    Starts(usize),
    /// The group hears nothing of a member any more.
    Expires {
        process: usize,
        joined: u32,
    },
    /// A process hears that the shard is its own.
    Assigned {
        process: usize,
        assignment: u32,
    },
    /// A term hears that the shard is another's.
    Revoked {
        term: u32,
    },
    /// The shard goes to another member.
    Rebalance,
    /// A takeover has fenced the terms before, and fetched the offsets.
    Fences {
        term: u32,
    },
    /// A takeover has read the state.
    Restores {
        term: u32,
    },
    Read {
        term: u32,
    },
    Leaves(Box<Parcel>),
    Arrives(Box<Parcel>),
    Answers {
        term: u32,
        call: CallId,
        outcome: Box<Outcome>,
        vendor_time: Option<UnixMillis>,
    },
    Token {
        term: u32,
        read: ReadToken,
    },
    TokenAnswers {
        term: u32,
        read: ReadToken,
        fresh: Option<StoredToken>,
    },
    /// A person signs in again.
    SignsIn(usize),
    /// The broker decides a transaction; one that was not asked to commit yet waits for its process.
    Lands {
        term: u32,
        landing: Box<Landing>,
    },
    Confirmed {
        term: u32,
        commit: CommitId,
        began: Mono,
    },
    /// A producer is of no use any more.
    Fails {
        term: u32,
    },
    Drain,
    DrainEnds {
        term: u32,
    },
    Crash,
    Suspends,
    Wakes(usize),
    ClockJumps,
    /// The file holds another configuration.
    Configured(usize),
    /// A process whose configuration is not the newest is started anew.
    Renews(usize),
    Heal,
    /// Somebody orders something of an export.
    Orders(Text, ControlAction),
    /// The operator looks for what waits for an order.
    OperatorLooks,
    /// A term is to end in order, for an order that the next one begins with.
    Anew {
        term: u32,
    },
}

impl Happening {
    /// The term in whose process it happens.
    fn term(&self) -> Option<u32> {
        match self {
            Self::Revoked { term }
            | Self::Fences { term }
            | Self::Restores { term }
            | Self::Read { term }
            | Self::Answers { term, .. }
            | Self::Token { term, .. }
            | Self::TokenAnswers { term, .. }
            | Self::Confirmed { term, .. }
            | Self::Fails { term }
            | Self::DrainEnds { term }
            | Self::Anew { term } => Some(*term),
            Self::Lands { term, landing } => (!landing.asked).then_some(*term),
            Self::Leaves(parcel) => Some(parcel.term),
            Self::Arrival(_)
            | Self::Departs(_)
            | Self::Marker(_)
            | Self::Starts(_)
            | Self::Expires { .. }
            | Self::Assigned { .. }
            | Self::Rebalance
            | Self::Arrives(_)
            | Self::SignsIn(_)
            | Self::Drain
            | Self::Crash
            | Self::Suspends
            | Self::Wakes(_)
            | Self::ClockJumps
            | Self::Configured(_)
            | Self::Renews(_)
            | Self::Orders(..)
            | Self::OperatorLooks
            | Self::Heal => None,
        }
    }
}

/// A promise that was broken.
#[derive(Debug)]
struct Broken {
    promise: &'static str,
    detail: String,
}

/// A world.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    /// Everything that is ever configured. Each process carries its own configuration.
    catalog: Arc<Catalog>,
    /// What the file holds, one after the other, and which of them it holds now.
    configurations: Vec<Arc<Catalog>>,
    newest: usize,
    /// For each export, the list that some configurations name instead of the catalog's.
    other_lists: Vec<ListRef>,
    scenario: Scenario,
    faults: Faults,
    vendors: Vec<Vendor>,
    tokens: Tokens,
    broker: Broker,
    fold: Fold,
    oracles: Oracles,
    trace: Trace,
    reached: Reached,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    now_ms: u64,
    at_this_instant: u32,
    processes: Vec<Process>,
    group: Group,
    operator: Operator,
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
        let faults = scenario.faults(&mut rng);
        let mut catalog = scenario.catalog.clone();
        let (vendors, other_lists) = accounts::vendors(&mut rng, &scenario, &mut catalog);
        let operator = Operator::draw(seed, &scenario, &mut catalog);
        let catalog = Arc::new(catalog);
        let mut configurations: Vec<_> =
            scenario.changes.iter().map(|change| Arc::new(change.of(&catalog, &other_lists))).collect();
        if configurations.is_empty() {
            configurations.push(Arc::clone(&catalog));
        }
        let count = [1, 1, 2, 3][rng.usize(..4)];
        let processes = (0..count).map(|_| Process::new(Arc::clone(&configurations[0]))).collect();
        let mut world = Self {
            configurations,
            newest: 0,
            other_lists,
            fold: Fold::new(&catalog),
            oracles: Oracles::new(&catalog, &scenario),
            broker: Broker::new(&scenario.starts),
            trace: Trace::new(keep_trace),
            tokens: Tokens::draw(&mut rng, catalog.connections.len()),
            reached: Reached::default(),
            group: Group::draw(&mut rng),
            operator,
            processes,
            catalog,
            vendors,
            agenda: BTreeMap::new(),
            sequence: 0,
            now_ms: 0,
            at_this_instant: 0,
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
        world.holds_spent();
        world.plan();
        Ok(world)
    }

    /// The whole life of a seed's world; a broken assumption in it is a failure like any other.
    #[must_use]
    pub fn life(seed: u64, keep_trace: bool) -> WorldReport {
        let lived = catch_unwind(AssertUnwindSafe(|| Self::new(seed, keep_trace).map(|world| world.run(seed))));
        match lived {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => WorldReport::failed(Failure::new(seed, "liveness", error.to_string())),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let text = text.unwrap_or_else(|| "a broken assumption".to_owned());
                WorldReport::failed(Failure::new(seed, "panicked", text))
            }
        }
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
                configured: &self.configurations[self.newest],
                other_lists: &self.other_lists,
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
            sometimes: self.reached,
            virtual_ms: self.now_ms,
            trace: self.trace.into_lines(),
        }
    }

    /// Puts everything on the agenda that is known from the beginning.
    fn plan(&mut self) {
        let last_ms = self.scenario.last_arrival_ms();
        let heal_ms = last_ms + self.rng.u64(..900_000);
        self.rest_by_ms = heal_ms + DAY_MS.unsigned_abs();
        for process in 0..self.processes.len() {
            let at = if process == 0 { 0 } else { self.rng.u64(..20_000) };
            self.at(at, Happening::Starts(process));
        }
        for index in 0..self.scenario.arrivals.len() {
            self.at(self.scenario.arrivals[index].at_ms, Happening::Arrival(index));
        }
        for index in 0..self.scenario.departures.len() {
            self.at(self.scenario.departures[index].at_ms, Happening::Departs(index));
        }
        for index in 1..self.scenario.changes.len() {
            self.at(self.scenario.changes[index].at_ms, Happening::Configured(index));
        }
        for start in self.scenario.starts.clone() {
            if self.rng.bool() {
                let at = self.rng.u64(..=last_ms);
                self.at(at, Happening::Marker(start.partition));
            }
        }
        let planned = [
            (Fault::Crash, 4, (|| Happening::Crash) as fn() -> Happening),
            (Fault::Drain, 2, || Happening::Drain),
            (Fault::Suspension, 3, || Happening::Suspends),
            (Fault::Rebalance, 3, || Happening::Rebalance),
            (Fault::ClockJump, 3, || Happening::ClockJumps),
        ];
        for (fault, times, happening) in planned {
            if self.faults.has(fault) {
                for _ in 0..self.rng.u32(1..=times) {
                    let at = self.rng.u64(..heal_ms.max(1));
                    self.at(at, happening());
                }
            }
        }
        self.plan_orders(heal_ms);
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

    fn clock(&self, process: usize) -> Now {
        let clock = &self.processes[process].clock;
        let mono = Mono(clock.base + (self.now_ms - clock.since_ms));
        Now { mono, wall: self.vendor_time().plus_ms(clock.skew_ms) }
    }

    /// The process that runs, or takes over, this term.
    fn process_of(&self, term: u32) -> Option<usize> {
        self.processes.iter().position(|process| process.current() == Some(term))
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
        let owner = self.group.owner.and_then(|owner| self.processes[owner].term.as_ref());
        let Some(term) = owner.filter(|term| term.epoch == self.broker.epoch()) else { return false };
        self.healed
            && self.group.owner.is_some_and(|owner| self.is_newest(owner))
            && self.records_to_come == 0
            && self.on_the_way == 0
            && self.broker.is_caught_up()
            && self.broker.ends().iter().all(|end| term.reader.get(&end.partition).is_some_and(|at| *at >= end.offset))
            && term.engine.is_quiet()
            && self.operator_rests(term.id)
    }

    /// How long everything that is left may take: the calls that it needs over those of a day, begun after the midnight
    /// that may have to be waited for, behind the activities that still run.
    fn drains_within_ms(&self) -> u64 {
        let now = self.vendor_time();
        let mut days_max = 0;
        for (index, application) in self.catalog.applications.iter().enumerate() {
            let mine = |connection: ConnectionId| usize::from(self.catalog.connection(connection).application.0) == index;
            // Each profile comes and goes once more, and is looked up, or staged, for it; polls and lists go with them.
            let calls = (0..).zip(&self.catalog.exports).filter(|(_, export)| mine(export.connection));
            let calls: u64 = calls.map(|(number, _)| 8 * self.fold.export(number).len() as u64 + 60).sum();
            let ours_percent = u64::from(100 - application.reserved_for_others_percent);
            let day = application.calls_per_day.map_or(u64::MAX, |calls| u64::from(calls) * ours_percent / 100);
            // A day for contacts that flap.
            days_max = days_max.max(2 + calls.div_ceil(day.max(1)));
        }
        let activities_ms = self.vendors.iter().map(|vendor| vendor.last_end().since_ms(now)).max().unwrap_or(0);
        days_max * DAY_MS.unsigned_abs() + activities_ms + REST_SLACK_MS
    }

    /// When, and in which process, an engine wants to be woken next.
    fn wake(&self) -> Option<(u64, usize)> {
        let wakes = self.processes.iter().enumerate().filter_map(|(index, process)| {
            let at = process.term.as_ref().filter(|_| !process.suspended)?.engine.poll_timeout()?;
            let clock = &process.clock;
            Some(((clock.since_ms + at.0.saturating_sub(clock.base)).max(self.now_ms), index))
        });
        wakes.min()
    }

    /// The next thing that happens: from the agenda, or an engine's own time.
    fn step(&mut self) {
        let head = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wake = self.wake();
        let next = match (head, wake) {
            (None, None) => {
                self.break_promise("liveness", format!("nothing will ever happen again: {}", self.standing()));
                return;
            }
            (Some(head), Some((wake, _))) => head.min(wake),
            (Some(at), None) | (None, Some((at, _))) => at,
        };
        if next > self.rest_by_ms {
            self.break_promise("liveness", format!("no rest within what its calls take: {}", self.standing()));
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
        } else if let Some((_, process)) = wake {
            self.mutate(process, None);
        }
    }

    /// What the engine says of itself, for a failure's text.
    fn standing(&self) -> String {
        let owner = self.group.owner.or_else(|| self.processes.iter().position(|process| process.term.is_some()));
        let Some((owner, term)) = owner.and_then(|owner| Some((owner, self.processes[owner].term.as_ref()?))) else {
            return format!("no engine runs; {:?}", self.group);
        };
        let view = term.engine.snapshot(self.clock(owner));
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
        let process = happening.term().and_then(|term| self.process_of(term));
        if let Some(process) = process
            && self.processes[process].suspended
        {
            self.processes[process].waits.push(happening);
            return;
        }
        match (happening, process) {
            (Happening::Arrival(index), _) => self.record_arrives(index),
            (Happening::Departs(index), _) => self.departs(index),
            (Happening::Marker(partition), _) => {
                self.broker.append_marker(partition);
                self.read_soon();
            }
            (Happening::Starts(process), _) => self.starts(process),
            (Happening::Expires { process, joined }, _) => self.expires(process, joined),
            (Happening::Assigned { process, assignment }, _) => self.assigned(process, assignment),
            (Happening::Revoked { .. }, Some(process)) => self.revoked(process),
            (Happening::Rebalance, _) => self.rebalance(),
            (Happening::Fences { .. }, Some(process)) => self.fences(process),
            (Happening::Restores { .. }, Some(process)) => self.restores(process),
            (Happening::Read { .. }, Some(process)) => self.read(process),
            (Happening::Leaves(parcel), Some(process)) => self.leaves(process, parcel),
            (Happening::Leaves(_), None) => self.on_the_way -= 1,
            (Happening::Arrives(parcel), _) => self.arrives(*parcel),
            (Happening::Answers { call, outcome, vendor_time, .. }, process) => {
                self.on_the_way -= 1;
                if let Some(process) = process {
                    self.trace.line(self.now_ms, format_args!("in  call {} {}", call.0, delivery::describe(&outcome)));
                    self.mutate(process, Some(Input::CallEnded { call, outcome: *outcome, vendor_time }));
                }
            }
            (Happening::Token { read, .. }, Some(process)) => self.token(process, read),
            (Happening::TokenAnswers { read, fresh, .. }, Some(process)) => self.token_answers(process, read, fresh),
            (Happening::SignsIn(connection), _) => self.signs_in(connection),
            (Happening::Lands { term, landing }, process) => self.lands(term, process, *landing),
            (Happening::Confirmed { commit, began, .. }, Some(process)) => {
                self.mutate(process, Some(Input::Committed { commit, began }));
            }
            (Happening::Fails { .. }, Some(process)) => self.fails(process),
            (Happening::Drain, _) => self.drain(),
            (Happening::DrainEnds { .. }, Some(process)) => {
                self.trace.line(self.now_ms, format_args!("the stop takes too long: killed"));
                self.die(process);
            }
            (Happening::Crash, _) => self.crash(),
            (Happening::Suspends, _) => self.suspends(),
            (Happening::Wakes(process), _) => self.wakes(process),
            (Happening::ClockJumps, _) => self.clock_jumps(),
            (Happening::Configured(index), _) => self.configured(index),
            (Happening::Renews(process), _) => self.renews(process),
            (Happening::Orders(export, action), _) => self.orders(&export, action),
            (Happening::OperatorLooks, _) => self.operator_looks(),
            (Happening::Anew { .. }, Some(process)) => self.drains(process),
            (Happening::Heal, _) => {
                self.trace.line(self.now_ms, format_args!("nothing goes wrong any more"));
                self.healed = true;
                self.faults.heal();
                self.renew_all();
                self.rest_by_ms = self.now_ms + self.drains_within_ms();
            }
            (
                Happening::Revoked { .. }
                | Happening::Fences { .. }
                | Happening::Restores { .. }
                | Happening::Read { .. }
                | Happening::Token { .. }
                | Happening::TokenAnswers { .. }
                | Happening::Confirmed { .. }
                | Happening::Fails { .. }
                | Happening::DrainEnds { .. }
                | Happening::Anew { .. },
                None,
            ) => {}
        }
    }

    fn record_arrives(&mut self, index: usize) {
        let arrival = &self.scenario.arrivals[index];
        let mut record = arrival.record.clone();
        record.timestamp = self.vendor_time();
        let mut partition = arrival.partition;
        if self.broker.header().is_none() {
            // How the source grew before the first term of all, nobody can know: it has not grown yet.
            partition.0 %= i32::try_from(self.scenario.starts.len()).unwrap_or(1);
        }
        record.position = self.broker.append(partition, arrival.gap, record.clone());
        self.fold.record(&self.catalog, &record);
        self.records_to_come -= 1;
        self.read_soon();
    }

    /// Each term's reader looks for records soon.
    fn read_soon(&mut self) {
        for process in 0..self.processes.len() {
            let ms = self.rng.u64(1..30);
            if let Some(term) = &mut self.processes[process].term
                && !term.reading
            {
                term.reading = true;
                let term = term.id;
                self.after(ms, Happening::Read { term });
            }
        }
    }

    /// The source may have gained partitions since the term began.
    fn finds_partitions(&mut self, process: usize) {
        let Some(term) = &mut self.processes[process].term else { return };
        // A term that holds reads nothing at all.
        if term.reader.is_empty() {
            return;
        }
        let ends = self.broker.ends();
        let mut added: Vec<NextOffset> = ends.iter().filter(|end| !term.reader.contains_key(&end.partition)).copied().collect();
        added.iter_mut().for_each(|end| end.offset = 0);
        if !added.is_empty() {
            term.reader.extend(added.iter().map(|next| (next.partition, next.offset)));
            term.paused.extend(added.iter().map(|next| next.partition));
            self.trace.line(self.now_ms, format_args!("in  {} new partitions", added.len()));
            self.reached.mark(Sometimes::PartitionAdded);
            self.mutate(process, Some(Input::PartitionsAdded { added, ends }));
        }
    }

    fn read(&mut self, process: usize) {
        self.finds_partitions(process);
        let Some(term) = &mut self.processes[process].term else { return };
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
            self.mutate(process, Some(Input::Records(records)));
        }
        if !positions.is_empty() {
            self.mutate(process, Some(Input::ReaderAt(positions)));
        }
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
