//! What goes wrong in a world: kinds of faults, which of them a seed lets happen and how often.
//!
//! Why swarms: a world in which everything fails at once hides what a single fault does, so that each seed switches
//! whole kinds off and draws the weight of the others anew.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::Serialize;

use crate::model::named;

named! {
    /// One kind of fault.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Fault {
        /// A request takes seconds instead of a fraction of one.
        SlowRequest = "slow_request",
        /// The vendor did what was asked, and its answer never came.
        AnswerLost = "answer_lost",
        /// The request never came to the vendor, and nobody knows.
        RequestLost = "request_lost",
        /// The connection breaks while the request is on its way, and it arrives all the same, later.
        ArrivesLate = "arrives_late",
        /// No connection could be made.
        Unreachable = "unreachable",
        /// 429 `throttled`, although the limit was kept.
        Throttled = "throttled",
        /// 429 `quota_exceeded`, although the day's calls are not spent: somebody else uses the key, or the counter is late.
        QuotaDenied = "quota_denied",
        /// 5xx, and the vendor did nothing.
        ServerError = "server_error",
        /// 5xx, and the vendor did what was asked.
        ServerErrorExecuted = "server_error_executed",
        /// 401: the access token is not accepted.
        TokenRejected = "token_rejected",
        /// Token store or token endpoint do not answer.
        TokenUnavailable = "token_unavailable",
        /// The token endpoint rotated the tokens, and its answer never came.
        TokenAnswerLost = "token_answer_lost",
        /// An activity takes many times what it usually takes.
        SlowActivity = "slow_activity",
        /// An activity ends as failed, timed out or cancelled, with some, none or all of its work done.
        ActivityFails = "activity_fails",
        /// A transaction takes seconds.
        SlowCommit = "slow_commit",
        /// A transaction is aborted: nothing of it happened, and the term ends.
        CommitAborts = "commit_aborts",
        /// A transaction comes to nothing, which is known only when its time is over: the term ends.
        CommitTimesOut = "commit_times_out",
        /// A transaction happened or did not, and nobody can tell: the term ends.
        CommitUnanswered = "commit_unanswered",
        /// A process dies at some instant.
        Crash = "crash",
        /// A process dies between two effects.
        CrashAtEffect = "crash_at_effect",
        /// A process is stopped in order and begins again.
        Drain = "drain",
        /// A process stands still for a while (SIGSTOP, a frozen machine), and goes on as if nothing had been.
        Suspension = "suspension",
        /// A process stands still between two effects: between commit and POST, or while it takes the shard over.
        SuspensionAtEffect = "suspension_at_effect",
        /// The shard is given to another process, although its owner lives; the owner hears of it in time, late or very late.
        Rebalance = "rebalance",
        /// The local wall clock is wrong.
        ClockSkew = "clock_skew",
        /// The local wall clock jumps while a term runs.
        ClockJump = "clock_jump",
    }
}

impl Fault {
    /// How often it happens at most, in 10,000 occasions.
    const fn weight_max(self) -> u32 {
        match self {
            Self::SlowRequest => 1_500,
            Self::AnswerLost | Self::RequestLost | Self::ArrivesLate | Self::ServerError | Self::ServerErrorExecuted => 600,
            Self::Unreachable | Self::Throttled => 800,
            Self::QuotaDenied => 60,
            Self::TokenRejected => 200,
            Self::TokenUnavailable => 3_000,
            Self::TokenAnswerLost => 2_000,
            Self::SlowActivity => 2_000,
            Self::ActivityFails => 1_000,
            Self::SlowCommit => 1_000,
            Self::CommitAborts | Self::CommitTimesOut | Self::CommitUnanswered => 60,
            Self::CrashAtEffect => 150,
            Self::SuspensionAtEffect => 250,
            // Occasions of these are the world's beginning: a seed has them or has not.
            Self::Crash | Self::Drain | Self::Suspension | Self::Rebalance | Self::ClockSkew | Self::ClockJump => 10_000,
        }
    }

    /// Whether it ends a term, or may.
    const fn ends_a_term(self) -> bool {
        match self {
            Self::CommitAborts
            | Self::CommitTimesOut
            | Self::CommitUnanswered
            | Self::Crash
            | Self::CrashAtEffect
            | Self::Drain
            | Self::Suspension
            | Self::SuspensionAtEffect
            | Self::Rebalance => true,
            Self::SlowRequest
            | Self::AnswerLost
            | Self::RequestLost
            | Self::ArrivesLate
            | Self::Unreachable
            | Self::Throttled
            | Self::QuotaDenied
            | Self::ServerError
            | Self::ServerErrorExecuted
            | Self::TokenRejected
            | Self::TokenUnavailable
            | Self::TokenAnswerLost
            | Self::SlowActivity
            | Self::ActivityFails
            | Self::SlowCommit
            | Self::ClockSkew
            | Self::ClockJump => false,
        }
    }
}

/// How many crashes and stops of all kinds one world has at most: each costs the engine a wait.
const ENDS_MAX: u32 = 6;

/// A seed's faults: which happen, how often, and how often they did.
#[derive(Debug, Clone)]
pub struct Faults {
    weights: BTreeMap<Fault, u32>,
    reached: BTreeMap<Fault, u64>,
    healed: bool,
    ends: u32,
}

impl Faults {
    /// Draws the faults of a world. Some worlds have none: what fails there fails without help.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let calm = rng.u32(..16) == 0;
        let mut weights = BTreeMap::new();
        for fault in Fault::ALL {
            let weight = rng.u32(1..=fault.weight_max());
            if rng.bool() && !calm {
                weights.insert(fault, weight);
            }
        }
        Self { weights, reached: BTreeMap::new(), healed: false, ends: 0 }
    }

    /// Faults that never happen.
    #[must_use]
    pub fn none() -> Self {
        Self { weights: BTreeMap::new(), reached: BTreeMap::new(), healed: true, ends: 0 }
    }

    /// The same, but for how often one kind happens, in 10,000 occasions.
    #[must_use]
    pub fn with(mut self, fault: Fault, weight: u32) -> Self {
        self.weights.insert(fault, weight);
        self
    }

    /// The same, but processes live on.
    #[must_use]
    pub fn without_ends(mut self) -> Self {
        self.weights.retain(|fault, _| !fault.ends_a_term());
        self
    }

    /// Whether a seed has this kind at all.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.weights.contains_key(&fault)
    }

    /// Whether it happens now; counted if it does.
    pub fn strikes(&mut self, rng: &mut Rng, fault: Fault) -> bool {
        let Some(weight) = self.weights.get(&fault) else { return false };
        if self.healed || rng.u32(..10_000) >= *weight {
            return false;
        }
        if fault.ends_a_term() {
            if self.ends >= ENDS_MAX {
                return false;
            }
            self.ends += 1;
        }
        self.count(fault);
        true
    }

    /// Counts one that the world brought about by itself.
    pub fn count(&mut self, fault: Fault) {
        *self.reached.entry(fault).or_default() += 1;
    }

    /// From now on nothing goes wrong.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// How often each kind happened.
    #[must_use]
    pub fn reached(&self) -> &BTreeMap<Fault, u64> {
        &self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healed_world_has_no_faults_and_ends_are_bounded() {
        let mut rng = Rng::with_seed(3);
        let mut faults = Faults::none();
        faults.healed = false;
        faults.weights.insert(Fault::Crash, 10_000);
        assert_eq!((0..50).filter(|_| faults.strikes(&mut rng, Fault::Crash)).count(), 6);
        faults.weights.insert(Fault::AnswerLost, 10_000);
        assert!(faults.strikes(&mut rng, Fault::AnswerLost));
        faults.heal();
        assert!(!faults.strikes(&mut rng, Fault::AnswerLost));
        assert_eq!(faults.reached()[&Fault::AnswerLost], 1);
    }

    #[test]
    fn each_kind_is_on_in_some_seeds_and_off_in_others() {
        for fault in Fault::ALL {
            let on = (0..100).filter(|seed| Faults::draw(&mut Rng::with_seed(*seed)).has(fault)).count();
            assert!((20..80).contains(&on), "{}: {on} of 100", fault.as_str());
        }
    }
}
