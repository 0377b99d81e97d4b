//! The way to Kafka: transactions that happen, are aborted, time out, end without an answer, or are refused because
//! another process has fenced their producer.

use crate::engine::{Promise, output::Commit};
use crate::model::time::Mono;

use super::{Happening, World, process::Term};
use crate::simulator::{
    faults::Fault,
    oracles::{Sight, contacts_max},
    sometimes::Sometimes,
};

/// How long a transaction may take before the broker aborts it.
const TRANSACTION_TIMEOUT_MS: u64 = 15_000;

/// What becomes of a transaction, if its producer is not fenced before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Happens,
    Aborted,
    TimesOut,
    Unanswered { happens: bool },
}

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Landing {
    commit: Commit,
    began: Mono,
    began_ms: u64,
    epoch: u32,
    fate: Fate,
    /// The request to commit is written: from here on the broker decides, whatever becomes of the process.
    pub(super) asked: bool,
}

impl World {
    /// The engine hands a transaction over.
    pub(super) fn hand_over(&mut self, process: usize, term: &mut Term, commit: Commit) {
        let slow = self.faults.strikes(&mut self.rng, Fault::SlowCommit);
        let ms = if slow { self.rng.u64(500..9_000) } else { self.rng.u64(5..60) };
        let at = (self.now_ms + ms).max(term.last_landing_ms + 1);
        term.last_landing_ms = at;
        let offsets: Vec<i64> = commit.offsets.iter().map(|next| next.offset).collect();
        self.trace.line(
            self.now_ms,
            format_args!("out commit {} of {} changes, offsets {offsets:?}", commit.commit.0, commit.changes.len()),
        );
        let fate = if self.faults.strikes(&mut self.rng, Fault::CommitAborts) {
            Fate::Aborted
        } else if self.faults.strikes(&mut self.rng, Fault::CommitTimesOut) {
            Fate::TimesOut
        } else if self.faults.strikes(&mut self.rng, Fault::CommitUnanswered) {
            Fate::Unanswered { happens: self.rng.bool() }
        } else {
            Fate::Happens
        };
        let (began, began_ms, epoch, asked) = (self.clock(process).mono, self.now_ms, term.epoch, self.rng.bool());
        let landing = Landing { commit, began, began_ms, epoch, fate, asked };
        self.at(at, Happening::Lands { term: term.id, landing: Box::new(landing) });
    }

    /// The broker decides.
    pub(super) fn lands(&mut self, term: u32, process: Option<usize>, landing: Landing) {
        if process.is_none() && !landing.asked {
            return;
        }
        let id = landing.commit.commit;
        let late = !landing.asked && self.now_ms - landing.began_ms > TRANSACTION_TIMEOUT_MS;
        if landing.epoch < self.broker.epoch() || late {
            self.trace.line(self.now_ms, format_args!("commit {} of term {term} is refused: fenced", id.0));
            if process.is_some() {
                self.reached.mark(Sometimes::ZombieRefused);
            }
            self.fails_in(term, 1..50);
            return;
        }
        match landing.fate {
            Fate::Happens => {
                self.commit(&landing.commit);
                let ms = self.rng.u64(1..20);
                self.after(ms, Happening::Confirmed { term, commit: id, began: landing.began });
            }
            Fate::Aborted => {
                self.trace.line(self.now_ms, format_args!("commit {} is aborted", id.0));
                self.fails_in(term, 1..50);
            }
            Fate::TimesOut => {
                self.trace.line(self.now_ms, format_args!("commit {} comes to nothing", id.0));
                self.fails_in(term, TRANSACTION_TIMEOUT_MS..TRANSACTION_TIMEOUT_MS + 1_000);
            }
            Fate::Unanswered { happens } => {
                self.trace.line(self.now_ms, format_args!("commit {} has no answer, and happened: {happens}", id.0));
                if happens {
                    self.commit(&landing.commit);
                }
                self.fails_in(term, 1_000..60_000);
            }
        }
    }

    fn fails_in(&mut self, term: u32, ms: std::ops::Range<u64>) {
        let ms = self.rng.u64(ms);
        self.after(ms, Happening::Fails { term });
    }

    /// A transaction takes effect.
    fn commit(&mut self, commit: &Commit) {
        let now = self.vendor_time();
        for vendor in &mut self.vendors {
            vendor.advance(now);
        }
        for index in 0..self.vendors.len() {
            let applied = self.vendors[index].drain_applied();
            for step in &applied {
                self.oracles.opt_out.deleted(index, step);
                if let Some(detail) = contacts_max::passed(&self.catalog, index, step) {
                    self.break_promise("contacts_max", detail);
                }
            }
            self.oracles.applied.steps(index, applied);
        }
        let before = self.broker.committed().clone();
        if let Err(detail) = self.broker.commit(commit) {
            self.break_promise(Promise::NothingLost.as_str(), detail);
            return;
        }
        let sight = Sight {
            catalog: &self.catalog,
            configured: &self.configurations[self.newest],
            other_lists: &self.other_lists,
            scenario: &self.scenario,
            fold: &self.fold,
            broker: &self.broker,
            vendors: &self.vendors,
        };
        let verdict = self.oracles.at_commit(&sight, commit, &before);
        self.judge(verdict);
    }
}
