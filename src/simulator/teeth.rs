//! What the oracles are worth: bugs planted in the engine, and what finds each of them.
//!
//! `tests/run teeth` plants one after the other, lets the first 500 worlds live with each, and compares what it finds with
//! this table.
#![doc = include_str!("teeth.md")]

#[cfg(feature = "planted-bugs")]
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::engine::planted::Bug;
#[cfg(feature = "planted-bugs")]
use crate::simulator::world::World;

/// How many worlds live with each bug.
pub const SEEDS: u64 = 500;

/// What became of the worlds with one bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bite {
    /// The bug.
    pub bug: Bug,
    /// What found it most often: a promise's name, `liveness` or `panicked`.
    pub found_by: Option<&'static str>,
    /// The first seed that it was found in.
    pub first_seed: Option<u64>,
    /// In how many seeds it was found.
    pub seeds: u64,
}

/// Lets worlds live with a bug, on this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn bite(bug: Bug) -> Bite {
    crate::engine::planted::plant(Some(bug));
    let mut found: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut first_seed = None;
    for seed in 0..SEEDS {
        if let Some(failure) = World::life(seed, false).failure {
            *found.entry(failure.promise).or_default() += 1;
            first_seed = first_seed.or(Some(seed));
        }
    }
    crate::engine::planted::plant(None);
    let found_by = found.iter().max_by_key(|(_, times)| **times).map(|(promise, _)| *promise);
    Bite { bug, found_by, first_seed, seeds: found.values().sum() }
}

/// The table, as it stands in the documents.
#[must_use]
pub fn table(bites: &[Bite]) -> String {
    let mut text = format!("\n| bug | found by | first seed | seeds in {SEEDS} |\n|---|---|---|---|\n");
    for bite in bites {
        let first = bite.first_seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        // Writing to a String cannot fail.
        let written = writeln!(text, "| {} | `{}` | {first} | {} |", bite.bug.as_str(), bite.found_by.unwrap_or("-"), bite.seeds);
        debug_assert!(written.is_ok());
    }
    text
}
