//! The command line: one command a file, arguments → one library call → exit.

pub mod demo;
pub mod export;
pub mod plan;
pub mod produce;
pub mod run;
pub mod simulate;
pub mod simulator;
pub mod state;
pub mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps the lists of Constant Contact accounts in step with the segments of a data platform.
#[derive(Debug, Parser)]
#[command(name = "listkeeper", version, about, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the stage: read segment changes from Kafka and keep the lists in step.
    Run(run::Arguments),
    /// Check a configuration file and report everything that is wrong with it.
    Validate(validate::Arguments),
    /// Look at the exports of a running stage, and start, pause, resume or approve of one.
    Export(export::Arguments),
    /// Look at what the stage keeps in Kafka.
    State(state::Arguments),
    /// Tell what to expect of a load: freshness, calls, and whether it fits the limits.
    Plan(plan::Arguments),
    /// See it work: Kafka, a simulated account and the stage in this one process.
    Demo(demo::Arguments),
    /// Serve a simulated Constant Contact account over HTTP.
    Simulator(simulator::Arguments),
    /// Produce generated segment changes into a real topic.
    Produce(produce::Arguments),
    /// Run the engine through virtual worlds full of faults and check every promise.
    Simulate(simulate::Arguments),
}

/// Why a command failed, with the exit code of `sysexits.h` that a script can tell it by.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// What happened, where, and what to do.
    pub message: String,
    /// The exit code: 64 usage, 65 data, 69 unavailable, 70 internal, 74 input or output, 75 not known yet, 77 refused,
    /// 78 configuration; 1 a check that failed.
    pub code: u8,
}

/// Runs a command; what it prints for scripts goes to stdout, the rest to stderr.
///
/// # Errors
/// [`CommandError`] with the exit code.
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    match arguments.command {
        Command::Run(arguments) => run::execute(arguments),
        Command::Validate(arguments) => validate::execute(arguments),
        Command::Export(arguments) => export::execute(arguments),
        Command::State(arguments) => state::execute(arguments),
        Command::Plan(arguments) => plan::execute(arguments),
        Command::Demo(arguments) => demo::execute(arguments),
        Command::Simulator(arguments) => simulator::execute(arguments),
        Command::Produce(arguments) => produce::execute(arguments),
        Command::Simulate(arguments) => simulate::execute(arguments),
    }
}
