//! One world: an event heap in virtual time, between an engine that dies now and then and a vendor that never does.

mod accounts;
mod delivery;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use url::Url;

use crate::engine::{
    Engine, Input, Promise,
    output::{CallId, Commit, CommitId, ReadToken},
};
use crate::model::{
    call::Outcome,
    catalog::Catalog,
    position::{NextOffset, PartitionId},
    time::{Mono, Now, UnixMillis},
};

use super::{
    broker::Broker,
    constant_contact::Vendor,
    faults::{Fault, Faults},
    fold::Fold,
    network::{BadEndings, Parcel},
    oracles::{Oracles, Sight},
    report::{Failure, WorldReport},
    trace::Trace,
    workload::Scenario,
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
    /// Somebody opts out, or is deleted.
    Departs(usize),
    Marker(PartitionId),
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
    Lands {
        term: u32,
        commit: Box<Commit>,
        began: Mono,
    },
    Confirmed {
        term: u32,
        commit: CommitId,
        began: Mono,
    },
    Drain,
    DrainEnds {
        term: u32,
    },
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

/// An access token, with the times that its refresher's wall clock gave it.
#[derive(Debug, Clone, Copy)]
struct StoredToken {
    refresh_at: UnixMillis,
    expires_at: UnixMillis,
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
    /// For each connection, the access token that its store holds.
    tokens: Vec<Option<StoredToken>>,
    /// How long access tokens live.
    token_life_ms: i64,
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
        let vendors = accounts::vendors(&mut rng, &scenario, &mut catalog);
        let mut world = Self {
            fold: Fold::new(&catalog),
            oracles: Oracles::new(&catalog, &scenario),
            broker: Broker::new(&scenario.starts),
            trace: Trace::new(keep_trace),
            tokens: vec![None; catalog.connections.len()],
            catalog: Arc::new(catalog),
            vendors,
            token_life_ms: [86_400_000, 28_800_000, 3_600_000][rng.usize(..3)],
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
        for index in 0..self.scenario.departures.len() {
            self.at(self.scenario.departures[index].at_ms, Happening::Departs(index));
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
            Happening::Departs(index) => self.departs(index),
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
                    self.trace.line(self.now_ms, format_args!("in  call {} {}", call.0, delivery::describe(&outcome)));
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
