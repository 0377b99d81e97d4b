//! Listkeeper: keeps the lists of Constant Contact accounts in step with the segments of a data platform.
//!
//! Decisions stand apart from effects. The [`engine`] decides everything and touches nothing: inputs, outputs and time are
//! plain values. Two drivers run that same engine: the [`shell`] with Kafka, HTTP and the clock, and the [`simulator`] in
//! virtual time, where thousands of worlds full of faults check what is promised.
//!
//! ```text
//! Kafka ─ bytes ─▶ codec ─ event ─▶ ┌──────────────── engine ─────────────────┐ ─ Output ─▶ shell ─▶ Constant Contact
//!                                   │ route → membership → coalesce → plan →  │                  ─▶ Kafka transactions
//!         clock, answers ─ Input ─▶ │ pace, quota → activities → watermark    │                  ─▶ token store, metrics
//!                                   └─────────────────────────────────────────┘
//! ```
//!
//! Four files tell the whole: what can happen ([`engine::input`]), what is asked of the world ([`engine::output`]), what
//! an operator may want to know ([`engine::event`]), and what is promised ([`engine::promise`]). What a new owner needs
//! lies in the state topic ([`model::state`]). From there: one decision is one file of `engine`, one call of the vendor's is
//! one arm of `constant_contact::request`, one key of the configuration is one line of `config`.
//!
//! The modules stand in the order of knowledge: each may know those above it, never those below; `tests/tidy.rs` holds
//! that line.

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
