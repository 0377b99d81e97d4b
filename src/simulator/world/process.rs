//! A process: what its engine asks for is performed, until it stops, is killed or loses the shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{Engine, Event, Input, Output, output::Call};
use crate::model::{
    call::{RemovalSource, Request},
    catalog::{Catalog, STAGING_PREFIX},
    position::PartitionId,
};

use super::{Happening, World, group::Takeover};
use crate::simulator::{
    faults::Fault,
    network::{self, Parcel},
    sometimes::Sometimes,
};

/// The clocks of the machine that a process runs on. The monotonic one counts suspension.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The monotonic clock at the world's `since_ms`.
    pub(super) base: u64,
    pub(super) since_ms: u64,
    /// How far the wall clock is ahead of the vendor's.
    pub(super) skew_ms: i64,
}

/// A replica.
#[derive(Debug)]
pub(super) struct Process {
    /// The configuration that it was started with: replicas may have different ones.
    pub(super) catalog: Arc<Catalog>,
    pub(super) clock: Clock,
    pub(super) runs: bool,
    /// It was asked to stop.
    pub(super) stopping: bool,
    /// It stands still.
    pub(super) suspended: bool,
    /// The group has given up on it while it stood still.
    pub(super) expired: bool,
    /// What has come while it stood still.
    pub(super) waits: Vec<Happening>,
    /// How often it joined the group.
    pub(super) joined: u32,
    pub(super) takeover: Option<Takeover>,
    pub(super) term: Option<Term>,
}

impl Process {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            clock: Clock::default(),
            runs: false,
            stopping: false,
            suspended: false,
            expired: false,
            waits: Vec::new(),
            joined: 0,
            takeover: None,
            term: None,
        }
    }

    /// The term that it runs or takes over.
    pub(super) fn current(&self) -> Option<u32> {
        self.term.as_ref().map(|term| term.id).or(self.takeover.as_ref().map(|takeover| takeover.term))
    }
}

/// A term, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) id: u32,
    /// The epoch of its producer.
    pub(super) epoch: u32,
    pub(super) engine: Engine,
    pub(super) reader: BTreeMap<PartitionId, i64>,
    pub(super) paused: BTreeSet<PartitionId>,
    pub(super) reading: bool,
    pub(super) calls_open: u64,
    pub(super) last_landing_ms: u64,
    /// For each connection, the version of the token that it read last.
    pub(super) tokens: BTreeMap<u16, u64>,
    /// Removals that it has sent.
    removals: BTreeSet<u64>,
}

impl Term {
    pub(super) fn new(id: u32, epoch: u32, engine: Engine, reader: BTreeMap<PartitionId, i64>) -> Self {
        let paused = engine.waiting_partitions().into_iter().collect();
        Self {
            id,
            epoch,
            engine,
            reader,
            paused,
            reading: false,
            calls_open: 0,
            last_landing_ms: 0,
            tokens: BTreeMap::new(),
            removals: BTreeSet::new(),
        }
    }
}

impl World {
    /// One mutation of an engine, and everything it asks for.
    pub(super) fn mutate(&mut self, process: usize, input: Option<Input>) {
        let Some(mut term) = self.processes[process].term.take() else { return };
        let now = self.clock(process);
        match input {
            Some(input) => term.engine.handle_input(now, input),
            None => term.engine.handle_timeout(now),
        }
        self.outputs(process, term);
    }

    pub(super) fn outputs(&mut self, process: usize, mut term: Term) {
        let (mut count, mut suspends) = (0_u32, false);
        while let Some(output) = term.engine.poll_output() {
            count += 1;
            let effect = matches!(output, Output::Call(_) | Output::Commit(_));
            let dies = effect && self.faults.strikes(&mut self.rng, Fault::CrashAtEffect);
            let before = dies && self.rng.bool();
            suspends |= effect;
            let drained = matches!(output, Output::Drained);
            if !before {
                self.perform(process, &mut term, output);
            }
            if dies {
                self.trace.line(self.now_ms, format_args!("CRASH of process {process} at an effect"));
                self.die(process);
                return;
            }
            if drained {
                self.trace.line(self.now_ms, format_args!("the term of process {process} ends in order"));
                self.reached.mark(Sometimes::EndedInOrder);
                self.leaves_group(process);
                return;
            }
        }
        if suspends {
            self.may_suspend(process, 1);
        }
        let verdict = self.oracles.after_mutation(&term.engine, self.clock(process), count, term.calls_open);
        self.processes[process].term = Some(term);
        self.judge(verdict);
    }

    fn perform(&mut self, process: usize, term: &mut Term, output: Output) {
        match output {
            Output::Call(call) => self.send(term, call),
            Output::ReadToken(read) => {
                let ms = self.rng.u64(1..200);
                self.after(ms, Happening::Token { term: term.id, read });
            }
            Output::Commit(commit) => self.hand_over(process, term, commit),
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
                    self.after(1, Happening::Read { term: term.id });
                }
            }
            Output::Event(event) => {
                self.reached.event(&event);
                if let Event::ActivityEnded { export, .. } | Event::Applied { export, .. } = &event
                    && usize::from(export.0) >= self.processes[process].catalog.exports.len()
                {
                    self.reached.event_of_removed(&event);
                }
                let text = format!("{event:?}");
                let verdict = self.oracles.private.text(&text);
                self.trace.line(self.now_ms, format_args!("    {text}"));
                self.judge(verdict);
            }
            Output::Controlled { outcome, .. } => self.controlled(term, outcome),
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
        if let Request::Remove { source: source @ RemovalSource::Contacts(_), targets } = &call.request
            && !term.removals.insert(crate::model::hash::text_hash(&format!("{source:?}{targets:?}")))
        {
            self.reached.mark(Sometimes::RemovalRepeated);
        }
        match &call.request {
            Request::CreateList { name } if !name.starts_with(STAGING_PREFIX) => self.reached.mark(Sometimes::ListCreated),
            Request::Lists { .. } => self.reached.mark(Sometimes::StagingListsCounted),
            Request::CreateList { .. }
            | Request::DeleteList { .. }
            | Request::ContactCounts
            | Request::Import { .. }
            | Request::Remove { .. }
            | Request::DeleteContacts { .. }
            | Request::Activity { .. }
            | Request::Activities { .. }
            | Request::ListMembers { .. }
            | Request::LookUp { .. }
            | Request::Suppressed { .. }
            | Request::FindList { .. }
            | Request::List { .. } => {}
        }
        self.on_the_way += 1;
        term.calls_open += 1;
        let parcel = Parcel {
            term: term.id,
            epoch: term.epoch,
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

    /// Some process that runs a term is asked to stop.
    pub(super) fn drain(&mut self) {
        let running = (0..self.processes.len()).find(|process| {
            let state = &self.processes[*process];
            state.term.is_some() && !state.suspended
        });
        if let Some(process) = running.filter(|_| !self.healed) {
            self.faults.count(Fault::Drain);
            self.drains(process);
        }
    }

    pub(super) fn drains(&mut self, process: usize) {
        let Some(term) = self.processes[process].current() else { return };
        self.processes[process].stopping = true;
        let wait_ms = self.catalog.timing.drain_ms;
        let deadline = self.clock(process).mono.plus_ms(wait_ms);
        self.trace.line(self.now_ms, format_args!("in  drain of process {process}"));
        self.after(wait_ms + 15_000, Happening::DrainEnds { term });
        self.mutate(process, Some(Input::Drain { deadline }));
    }

    /// The file changes; processes are started anew with it, one after the other.
    pub(super) fn configured(&mut self, index: usize) {
        self.trace.line(self.now_ms, format_args!("the file holds configuration {index}"));
        self.newest = index;
        self.renew_all();
    }

    pub(super) fn renew_all(&mut self) {
        let ms_max = if self.healed { 10_000 } else { 600_000 };
        for process in 0..self.processes.len() {
            let ms = self.rng.u64(..ms_max);
            self.after(ms, Happening::Renews(process));
        }
    }

    /// Whether a process was started with the newest configuration.
    pub(super) fn is_newest(&self, process: usize) -> bool {
        Arc::ptr_eq(&self.processes[process].catalog, &self.configurations[self.newest])
    }

    pub(super) fn renews(&mut self, process: usize) {
        let state = &self.processes[process];
        if !state.runs || self.is_newest(process) {
            return;
        }
        if state.suspended {
            self.after(20_000, Happening::Renews(process));
        } else if state.term.is_some() {
            self.drains(process);
        } else {
            self.die(process);
        }
    }
}
