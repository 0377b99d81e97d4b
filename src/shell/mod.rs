//! EFFECTS: the tokio shell around the engine. The one layer that reads clocks, opens sockets and starts threads.

pub mod admin;
pub mod clock;
pub mod driver;
pub mod http;
#[expect(clippy::wildcard_enum_match_arm, reason = "the error codes of the client are many, and its own")]
pub mod kafka;
mod orders;
pub mod schema_registry;
pub mod simulator_host;
pub mod stage;
pub mod token_store;
pub mod view;
