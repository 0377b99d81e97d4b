//! The virtual world: engine and vendor in virtual time, with faults by seed and an oracle for each promise.

pub mod broker;
pub mod constant_contact;
pub mod faults;
pub mod fold;
pub mod network;
pub mod oracles;
pub mod report;
pub mod sometimes;
pub mod trace;
pub mod workload;
pub mod world;
