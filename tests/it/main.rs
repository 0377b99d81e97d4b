//! The tests that need sockets, the real binary or a real broker, as one binary.

mod cli;
mod demo;
mod kafka;
#[expect(clippy::disallowed_methods, reason = "a proxy has threads and waits")]
#[expect(dead_code, reason = "it serves the rounds of tests/chaos too, which use more of it")]
#[path = "../rounds/proxy.rs"]
mod proxy;
#[expect(clippy::disallowed_methods, reason = "the rig waits, with bounds, for processes of the real world")]
mod rig;
mod simulator;
#[path = "../rounds/stream.rs"]
mod stream;
