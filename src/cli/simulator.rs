//! `listkeeper simulator`.

use std::process::ExitCode;

use super::CommandError;

/// Arguments of `simulator`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let _ = arguments;
    Err(CommandError { message: "simulator: being built".to_owned(), code: 70 })
}
