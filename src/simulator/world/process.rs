//! The side of the process: what its engine asks for is performed, until it stops, is killed or begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{
    Engine, Input, Output, Promise,
    output::{Call, Commit},
};
use crate::model::time::Mono;

use super::{Happening, Term, World};
use crate::simulator::{
    faults::Fault,
    network::{self, Parcel},
    oracles::Sight,
};

impl World {
    /// One mutation of the engine, and everything it asks for.
    pub(super) fn mutate(&mut self, input: Option<Input>) {
        let Some(mut term) = self.term.take() else { return };
        let now = self.clock(&term);
        match input {
            Some(input) => term.engine.handle_input(now, input),
            None => term.engine.handle_timeout(now),
        }
        self.outputs(term);
    }

    pub(super) fn outputs(&mut self, mut term: Term) {
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

    pub(super) fn perform(&mut self, term: &mut Term, output: Output) {
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

    pub(super) fn send(&mut self, term: &mut Term, call: Call) {
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

    pub(super) fn lands(&mut self, commit: Commit, began: Mono) {
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
    pub(super) fn commit(&mut self, commit: &Commit) {
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

    pub(super) fn drain(&mut self) {
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

    pub(super) fn die(&mut self) {
        if let Some(term) = self.term.take() {
            self.die_of(term);
        }
    }

    /// The process is gone. What it had handed to Kafka may still happen, in order; another process begins later.
    pub(super) fn die_of(&mut self, term: Term) {
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

    pub(super) fn begin(&mut self) {
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
