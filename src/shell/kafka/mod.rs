//! Kafka: ownership, the state topic, the source, transactions.
//!
//! Every client lives on an OS thread of its own and speaks with the driver through bounded channels; what it hands on
//! is copied, because a borrowed message pins the whole answer that it came in.
//!
//! The order of a term: [`topics::prepare`] once, [`Ownership::join`], and for each shard that is assigned
//! [`begin_term`], which gives the state and a [`Term`]; then [`SourceReader`] and [`Committer`] until the shard is
//! revoked or one of them fails.

mod client;
mod committer;
mod ends;
mod fault;
mod letters;
mod ownership;
mod settings;
mod source;
mod state_log;
mod status;
mod term;
pub mod topics;

#[cfg(test)]
mod tests;

pub use committer::{CommitAnswer, Committer};
pub use ends::SourceEnds;
pub use fault::KafkaFault;
pub use ownership::{Claim, Ownership, OwnershipEvent};
pub use settings::{KafkaSettings, TRANSACTION_TIMEOUT_MS};
pub use source::{SourceEvent, SourceReader};
pub use state_log::read_state;
pub use status::{KafkaStatus, KafkaView};
pub use term::{Term, TermBeginning, TermEvent, begin_term};
