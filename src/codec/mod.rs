//! BYTES ⇄ WORDS, pure: records of the source, state records, dead letters.
//!
//! May know: `model`, `apache-avro`, `serde`.

pub mod state;

mod binary;
