//! The consumer group: which process owns the shard, who hears of it and when, and how a term begins and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use crate::engine::{Engine, Promise};
use crate::model::{
    position::PartitionId,
    state::{StateChange, StateKey},
    time::Mono,
};

use super::{Happening, World, process::Term};
use crate::simulator::{faults::Fault, sometimes::Sometimes};

/// How long a process waits with a term that is held before it begins it again.
const HELD_AGAIN_MS: u64 = 30_000;

/// The group as its coordinator sees it.
#[derive(Debug)]
pub(super) struct Group {
    /// How long a member may be silent.
    session_ms: u64,
    /// Whom the shard was given to last.
    pub(super) owner: Option<usize>,
    /// Counts the times that it was given to somebody.
    assignment: u32,
    members: BTreeSet<usize>,
    /// The process that began the last term.
    last: Option<usize>,
    /// Why the next term of a process begins: its last one ended, and the shard is still its own.
    begins_again: bool,
}

impl Group {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let session_ms = rng.u64(1_000..45_000);
        Self { session_ms, owner: None, assignment: 0, members: BTreeSet::new(), last: None, begins_again: false }
    }
}

/// How far a takeover has come.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) term: u32,
    /// The producer's epoch, when it was fenced and the offsets that were committed then.
    fenced: Option<(u32, Mono, BTreeMap<PartitionId, i64>)>,
}

impl World {
    /// A process starts: with a clock of its own, as a member that owns nothing.
    pub(super) fn starts(&mut self, process: usize) {
        let skewed = self.faults.strikes(&mut self.rng, Fault::ClockSkew);
        let skew_ms = if skewed { self.rng.i64(-7_200_000..7_200_000) } else { self.rng.i64(-400..400) };
        let (base, now_ms) = (self.rng.u64(60_000..1 << 40), self.now_ms);
        // A replica may have an older file, for a while.
        let older = self.newest > 0 && !self.healed && self.rng.u32(..4) == 0;
        let catalog = Arc::clone(&self.configurations[self.newest - usize::from(older)]);
        let process_ = &mut self.processes[process];
        process_.runs = true;
        process_.stopping = false;
        process_.catalog = catalog;
        process_.clock = super::process::Clock { base, since_ms: now_ms, skew_ms };
        self.trace.line(self.now_ms, format_args!("process {process} starts, its wall clock {skew_ms} ms off"));
        self.joins(process);
    }

    /// A process becomes a member. What it was before is still a member, until its session runs out.
    fn joins(&mut self, process: usize) {
        self.processes[process].joined += 1;
        self.group.members.insert(process);
        if self.group.owner.is_none() {
            self.give_to(process);
        }
    }

    fn give_to(&mut self, process: usize) {
        self.group.owner = Some(process);
        self.group.assignment += 1;
        let ms = self.rng.u64(5..500);
        let assignment = self.group.assignment;
        self.after(ms, Happening::Assigned { process, assignment });
    }

    /// The shard has no owner any more: some other member gets it.
    fn give_away(&mut self) {
        self.group.owner = None;
        let members: Vec<usize> = self.group.members.iter().copied().collect();
        if !members.is_empty() {
            let next = members[self.rng.usize(..members.len())];
            self.give_to(next);
        }
    }

    /// A member was silent for its session: it is one no more.
    pub(super) fn expires(&mut self, process: usize, joined: u32) {
        let state = &self.processes[process];
        // It has come again as somebody new, whatever that one does: the old member is gone.
        let was_another = joined != state.joined;
        let silent = state.suspended || !state.runs;
        if !was_another && silent {
            self.group.members.remove(&process);
            self.trace.line(self.now_ms, format_args!("the session of process {process} is over"));
            if state.suspended {
                self.processes[process].expired = true;
            }
        }
        if self.group.owner == Some(process) && (silent || was_another) {
            self.give_away();
        }
    }

    /// Schedules the end of a silent member's session.
    fn session_ends(&mut self, process: usize) {
        let ms = self.group.session_ms - self.rng.u64(..self.group.session_ms / 3 + 1);
        let joined = self.processes[process].joined;
        self.after(ms, Happening::Expires { process, joined });
    }

    /// A process hears that the shard is its own. The first thing that it does is refused to one that is no member any more.
    pub(super) fn assigned(&mut self, process: usize, assignment: u32) {
        let state = &mut self.processes[process];
        if state.suspended {
            state.waits.push(Happening::Assigned { process, assignment });
            return;
        }
        if !state.runs || self.group.owner != Some(process) || self.group.assignment != assignment {
            return;
        }
        // It was asked to stop, as a member that the group has given up on meanwhile: it begins nothing anew.
        if state.stopping {
            self.leaves_group(process);
            return;
        }
        self.terms += 1;
        let term = self.terms;
        let state = &mut self.processes[process];
        state.term = None;
        state.takeover = Some(Takeover { term, fenced: None });
        let slow = self.rng.u32(..5) == 0;
        let ms = if slow { self.rng.u64(..8_000) } else { self.rng.u64(1..100) };
        self.after(ms, Happening::Fences { term });
        self.may_suspend(process, 3);
    }

    pub(super) fn fences(&mut self, process: usize) {
        let mono = self.clock(process).mono;
        let epoch = self.broker.fence();
        let offsets = self.broker.committed().clone();
        if let Some(takeover) = &mut self.processes[process].takeover {
            takeover.fenced = Some((epoch, mono, offsets));
            let term = takeover.term;
            let slow = self.rng.u32(..5) == 0;
            let ms = if slow { self.rng.u64(..8_000) } else { self.rng.u64(1..100) };
            self.after(ms, Happening::Restores { term });
            self.may_suspend(process, 3);
        }
    }

    /// The state is read: the term begins.
    pub(super) fn restores(&mut self, process: usize) {
        let Some(takeover) = self.processes[process].takeover.take() else { return };
        let Some((epoch, fenced_at, offsets)) = takeover.fenced else { return };
        let mut engine = Engine::new(Arc::clone(&self.processes[process].catalog), self.rng.u64(..));
        let compacted = self.rng.bool();
        let changes = match self.broker.restore(compacted) {
            Ok(changes) => changes,
            Err(detail) => {
                self.break_promise(Promise::NothingLost.as_str(), detail);
                return;
            }
        };
        if self.open_batches(&changes) {
            self.reached.mark(Sometimes::TakeoverWithOpenBatches);
        }
        changes.into_iter().for_each(|change| engine.restore(change));
        self.trace.line(self.now_ms, format_args!("BEGIN of term {} in process {process}, epoch {epoch}", takeover.term));
        let starts = match engine.begin(self.clock(process), &self.broker.beginning(&offsets, fenced_at)) {
            Ok(starts) => starts,
            // Whoever fenced it has written what the offsets that it fetched do not say: it holds, and looks again.
            Err(_) if epoch < self.broker.epoch() => {
                self.reached.mark(Sometimes::ZombieInTakeover);
                self.begins_again_after(process, HELD_AGAIN_MS);
                return;
            }
            Err(reason) => {
                self.break_promise("liveness", format!("a term does not begin: {}", reason.as_str()));
                return;
            }
        };
        if epoch < self.broker.epoch() {
            self.reached.mark(Sometimes::ZombieInTakeover);
        }
        if self.group.last.replace(process).is_some_and(|last| last != process) {
            self.reached.mark(Sometimes::StandbyTookOver);
        }
        if std::mem::take(&mut self.group.begins_again) {
            self.reached.mark(Sometimes::BegunAgainWithoutRebalance);
        }
        if self.processes.iter().enumerate().any(|(other, state)| other != process && state.term.is_some()) {
            self.reached.mark(Sometimes::TwoTermsAtOnce);
        }
        let reader = starts.iter().map(|next| (next.partition, next.offset)).collect();
        let term = Term::new(takeover.term, epoch, engine, reader);
        self.outputs(process, term);
        self.read_soon();
    }

    fn open_batches(&self, changes: &[StateChange]) -> bool {
        let mut open = BTreeSet::new();
        for change in changes {
            if let StateKey::Batch { .. } = &change.key {
                if change.value.is_some() {
                    open.insert(&change.key);
                } else {
                    open.remove(&change.key);
                }
            }
        }
        !open.is_empty()
    }

    /// A process hears that the shard is another's: its term ends at once, whatever it was about.
    pub(super) fn revoked(&mut self, process: usize) {
        self.trace.line(self.now_ms, format_args!("process {process} has lost the shard"));
        let state = &mut self.processes[process];
        state.term = None;
        state.takeover = None;
        // Nobody else may have been there: then it is given to this one again.
        if self.group.owner == Some(process) {
            self.give_to(process);
        }
    }

    /// The term's producer is of no use any more. As long as the shard is its own, the process begins the next term.
    pub(super) fn fails(&mut self, process: usize) {
        self.trace.line(self.now_ms, format_args!("the term of process {process} ends with its producer"));
        self.processes[process].term = None;
        if self.processes[process].stopping {
            self.leaves_group(process);
            return;
        }
        let ms = self.rng.u64(500..10_000);
        self.begins_again_after(process, ms);
    }

    fn begins_again_after(&mut self, process: usize, ms: u64) {
        if self.group.owner == Some(process) {
            self.group.begins_again = true;
            let assignment = self.group.assignment;
            self.after(ms, Happening::Assigned { process, assignment });
        }
    }

    /// The shard is given to another member, although its owner lives.
    pub(super) fn rebalance(&mut self) {
        let Some(owner) = self.group.owner.filter(|_| !self.healed) else { return };
        let others: Vec<usize> = self.group.members.iter().copied().filter(|member| *member != owner).collect();
        if others.is_empty() {
            return;
        }
        self.faults.count(Fault::Rebalance);
        let next = others[self.rng.usize(..others.len())];
        self.trace.line(self.now_ms, format_args!("the shard goes from process {owner} to process {next}"));
        self.lose_late(owner);
        self.give_to(next);
    }

    /// A process that has lost the shard hears of it in time, late, or very late.
    fn lose_late(&mut self, process: usize) {
        let Some(term) = self.processes[process].current() else { return };
        let ms = match self.rng.u32(..3) {
            0 => 0,
            1 => self.rng.u64(..20_000),
            _ => 600_000,
        };
        self.after(ms, Happening::Revoked { term });
    }

    /// Some process that runs, the owner more often than not.
    fn some_process(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..self.processes.len()).filter(|process| self.processes[*process].runs).collect();
        if running.is_empty() {
            return None;
        }
        let any = running[self.rng.usize(..running.len())];
        Some(self.group.owner.filter(|owner| running.contains(owner) && self.rng.u32(..4) != 0).unwrap_or(any))
    }

    pub(super) fn crash(&mut self) {
        if self.healed {
            return;
        }
        if let Some(process) = self.some_process() {
            self.faults.count(Fault::Crash);
            self.trace.line(self.now_ms, format_args!("CRASH of process {process}"));
            self.die(process);
        }
    }

    /// A process stands still: shorter than its session, or longer.
    pub(super) fn suspends(&mut self) {
        let Some(process) = self.some_process().filter(|process| !self.healed && !self.processes[*process].suspended) else {
            return;
        };
        self.faults.count(Fault::Suspension);
        self.suspend(process);
    }

    /// See [`Fault::SuspensionAtEffect`].
    pub(super) fn may_suspend(&mut self, process: usize, occasions: u32) {
        let strikes = (0..occasions).any(|_| self.faults.strikes(&mut self.rng, Fault::SuspensionAtEffect));
        if strikes && !self.processes[process].suspended {
            self.suspend(process);
        }
    }

    fn suspend(&mut self, process: usize) {
        let ms = match self.rng.u32(..4) {
            0 => self.rng.u64(100..6_000),
            1 => self.rng.u64(..=self.group.session_ms),
            2 => self.group.session_ms + self.rng.u64(..120_000),
            _ => self.rng.u64(60_000..1_200_000),
        };
        self.trace.line(self.now_ms, format_args!("process {process} stands still for {ms} ms"));
        self.processes[process].suspended = true;
        if ms > self.group.session_ms {
            self.session_ends(process);
        }
        self.after(ms, Happening::Wakes(process));
    }

    /// It goes on as if nothing had been: what has come meanwhile comes now.
    pub(super) fn wakes(&mut self, process: usize) {
        if !self.processes[process].suspended {
            return;
        }
        self.trace.line(self.now_ms, format_args!("process {process} goes on"));
        let state = &mut self.processes[process];
        state.suspended = false;
        let expired = std::mem::take(&mut state.expired);
        for happening in std::mem::take(&mut state.waits) {
            self.after(0, happening);
        }
        if expired {
            self.lose_late(process);
            self.joins(process);
        }
    }

    pub(super) fn clock_jumps(&mut self) {
        let Some(process) = self.some_process().filter(|_| !self.healed) else { return };
        self.faults.count(Fault::ClockJump);
        let skew_ms = self.rng.i64(-7_200_000..7_200_000);
        self.trace.line(self.now_ms, format_args!("the wall clock of process {process} is {skew_ms} ms off from now on"));
        self.processes[process].clock.skew_ms = skew_ms;
    }

    /// A process is gone, and with it what it had in hand; it starts again later.
    pub(super) fn die(&mut self, process: usize) {
        let state = &mut self.processes[process];
        state.runs = false;
        state.suspended = false;
        state.expired = false;
        state.term = None;
        state.takeover = None;
        for happening in std::mem::take(&mut state.waits) {
            if let Happening::Leaves(_) | Happening::Answers { .. } = happening {
                self.on_the_way -= 1;
            }
        }
        if self.group.members.contains(&process) {
            self.session_ends(process);
        }
        self.starts_again(process);
    }

    /// A process has ended in order: it leaves the group at once.
    pub(super) fn leaves_group(&mut self, process: usize) {
        let state = &mut self.processes[process];
        state.runs = false;
        state.term = None;
        state.takeover = None;
        self.group.members.remove(&process);
        if self.group.owner == Some(process) {
            self.give_away();
        }
        self.starts_again(process);
    }

    fn starts_again(&mut self, process: usize) {
        let ms_max = if self.rng.u32(..4) == 0 { 900_000 } else { 20_000 };
        let ms = self.rng.u64(200..ms_max);
        self.after(ms, Happening::Starts(process));
    }
}
