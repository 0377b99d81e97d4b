//! Listkeeper: keeps the lists of Constant Contact accounts in step with the segments of a data platform.
//!
//! The modules stand in the order of knowledge: each may know those above it, never those below.

pub mod model;

pub mod codec;
pub mod config;
pub mod constant_contact;
pub mod engine;
pub mod telemetry;

#[expect(clippy::disallowed_methods, reason = "the one layer that reads clocks, waits and starts threads and tasks")]
pub mod shell;
pub mod simulator;

pub mod demo;

pub mod cli;
