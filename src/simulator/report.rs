//! What a run over seeds found.

use std::collections::BTreeMap;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::{
    faults::Fault,
    sometimes::{Reached, Sometimes},
};

/// A promise that was broken in a world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// The promise's name; `panicked` for a broken assumption, `liveness` for a world that never came to rest.
    pub promise: &'static str,
    /// What was seen.
    pub detail: String,
    /// The command line that shows it again.
    pub replay: String,
}

impl Failure {
    /// A failure with the command line that shows it again.
    #[must_use]
    pub fn new(seed: u64, promise: &'static str, detail: String) -> Self {
        let replay = format!("listkeeper simulate --seeds {seed}..{} --trace", seed.saturating_add(1));
        Self { seed, promise, detail, replay }
    }
}

/// What became of one world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldReport {
    /// The first promise that was broken.
    pub failure: Option<Failure>,
    /// The hash of its trace.
    pub digest: u64,
    /// How often each fault happened.
    pub faults_reached: BTreeMap<Fault, u64>,
    /// How often each thing happened that must happen in some world.
    pub sometimes: Reached,
    /// How long it lived, in virtual milliseconds.
    pub virtual_ms: u64,
    /// Its trace, if it was kept.
    pub trace: Vec<String>,
}

/// From this many worlds on, everything that must happen in some world has to.
const SWEEP_SEEDS: usize = 500;

impl WorldReport {
    /// A world of which nothing is known but that it failed.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        let (faults_reached, sometimes) = (BTreeMap::new(), Reached::default());
        Self { failure: Some(failure), digest: 0, faults_reached, sometimes, virtual_ms: 0, trace: Vec::new() }
    }
}

/// What became of all worlds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many worlds.
    pub seeds: u64,
    /// The broken promises, in the order of seeds.
    pub failures: Vec<Failure>,
    /// The hash of all traces.
    pub digest: String,
    /// How often each fault happened, over all worlds.
    pub faults_reached: BTreeMap<&'static str, u64>,
    /// How often each thing happened that must happen in some world.
    pub sometimes_reached: BTreeMap<&'static str, u64>,
    /// Faults and branches that no world of a large sweep reached: the worlds have become too tame.
    pub never_reached: Vec<&'static str>,
    /// Virtual time of all worlds.
    pub virtual_seconds: u64,
    /// Real time of the run.
    pub seconds: f64,
}

impl Report {
    /// Sums worlds up, given in the order of their seeds.
    #[must_use]
    pub fn of(worlds: &[WorldReport], seconds: f64) -> Self {
        let mut hasher = Xxh3::new();
        let mut faults_reached: BTreeMap<&'static str, u64> = Fault::ALL.iter().map(|fault| (fault.as_str(), 0)).collect();
        let mut sometimes_reached: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut virtual_ms = 0;
        for world in worlds {
            hasher.update(&world.digest.to_le_bytes());
            virtual_ms += world.virtual_ms;
            for what in Sometimes::ALL {
                *sometimes_reached.entry(what.as_str()).or_default() += world.sometimes.times(what);
            }
            for (fault, times) in &world.faults_reached {
                *faults_reached.entry(fault.as_str()).or_default() += times;
            }
        }
        let all = faults_reached.iter().chain(&sometimes_reached);
        let never = all.filter(|(_, times)| **times == 0).map(|(name, _)| *name);
        let never_reached = if worlds.len() < SWEEP_SEEDS { Vec::new() } else { never.collect() };
        Self {
            never_reached,
            sometimes_reached,
            seeds: worlds.len() as u64,
            failures: worlds.iter().filter_map(|world| world.failure.clone()).collect(),
            digest: format!("{:016x}", hasher.digest()),
            faults_reached,
            virtual_seconds: virtual_ms / 1_000,
            seconds,
        }
    }
}
