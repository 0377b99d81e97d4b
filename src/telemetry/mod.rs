//! What operators see: metrics and log lines, made from the engine's events and its snapshot.
//!
//! All names, help texts, labels and buckets stand in [`metrics`]; [`observe`] is one exhaustive match from event to
//! metrics and at most one log line. Nothing here holds a profile, an address or a name.
//!
//! May know: `model`, the engine's events and snapshot, `prometheus`, `tracing`.

pub mod logging;
pub mod metrics;
pub mod observe;

pub use metrics::Telemetry;
pub use observe::ShardGauges;
