//! Kafka, vendor and stage in one process: what the stage does, at a glance.

pub mod fold;
pub mod person;
pub mod render;
pub mod workload;
