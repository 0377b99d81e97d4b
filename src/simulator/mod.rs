//! The virtual world: engine and vendor in virtual time, with faults by seed and an oracle for each promise.

pub mod constant_contact;
