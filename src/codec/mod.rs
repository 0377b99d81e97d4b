//! BYTES ⇄ WORDS, pure: records of the source, state records, dead letters.
//!
//! May know: `model`, `apache-avro`, `serde_json`.

pub mod dead_letter;
pub mod decoder;
pub mod mapping;
pub mod state;
pub mod writer;

mod avro;
mod binary;
mod json;
mod schema_cache;
mod wire_format;

pub use decoder::{Decoded, EventDecoder, EventFormat, Fault};
pub use mapping::{ChangeNames, FieldPaths};
pub use schema_cache::SchemaFault;
pub use wire_format::SchemaId;
