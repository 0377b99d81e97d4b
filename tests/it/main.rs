//! Tests over real sockets and processes, in one binary.

mod simulator;
