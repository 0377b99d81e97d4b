//! The `listkeeper` command: parse, run, map an error to its exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use listkeeper::cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Bounds what a hostile datum can make the Avro decoder allocate; process-wide, so before anything else.
    apache_avro::util::max_allocation_bytes(1 << 20);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::from(70);
    }
    match cli::execute(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // A closed stderr must not turn an error into a panic.
            if writeln!(std::io::stderr(), "listkeeper: {error}").is_err() {
                return ExitCode::from(74);
            }
            ExitCode::from(error.code)
        }
    }
}
