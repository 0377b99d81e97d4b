//! The virtual world: engines and vendor in virtual time, with faults by seed and an oracle for each promise.
//!
//! Begin with `world/mod.rs`. It models processes that share one shard through a group (crash, standstill, rebalance,
//! takeover), Kafka's transactions and fencing, configurations that change and differ between processes, the vendor with
//! its inferred behaviours by seed, token stores, and clocks. It does not model: several shards, changed connections, an
//! export's list that somebody deletes, and a request that its process was stopped in the middle of. `plan` is another world,
//! without faults: it tells what to expect of a load.

pub mod broker;
pub mod configurations;
pub mod constant_contact;
pub mod faults;
pub mod fold;
pub mod network;
pub mod oracles;
pub mod plan;
pub mod report;
pub mod sometimes;
pub mod teeth;
pub mod trace;
pub mod workload;
pub mod world;
