//! Kafka, vendor and stage in one process: what the stage does, at a glance.
