//! The tests that need sockets, the real binary or a real broker, as one binary.

mod cli;
mod demo;
mod kafka;
#[expect(clippy::disallowed_methods, reason = "the rig waits, with bounds, for processes of the real world")]
mod rig;
mod simulator;
