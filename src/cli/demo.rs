//! `listkeeper demo`.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use super::CommandError;
use crate::{
    demo::{
        self, Bar, DemoFault, DemoOptions, News,
        workload::{PROFILES_MIN, Workload},
    },
    telemetry::logging::{self, LogFormat},
};

/// The most profiles: their numbers have seven digits.
const PROFILES_MAX: u32 = 9_999_999;

const LEARN_MORE: &str = "\
Starts an embedded Kafka, a simulated Constant Contact account behind a real socket, and between them the same stage that \
`run` starts, with a configuration file that it writes for it and names.

Segment changes are produced: entries, updates, duplicates, exits that cancel an entry before it was sent, re-entries, two \
segments that feed one list, profiles without an address, a segment that no list is made of, records that nobody can decode; \
later, everybody leaves a list of its own, and some come back. The account keeps the documented limits: 4 requests a second, \
10,000 a day, activities that take seconds.

It ends when every offset is committed, then compares each list with who should be on it by an independent reckoning. The \
exit status is 1 when a list is wrong, an offset was left or a limit was passed.

Examples:
  listkeeper demo
  listkeeper demo --profiles 1000000 --fast
  listkeeper demo --json | jq .contacts_per_hour";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// How many distinct profiles there are.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    profiles: u32,
    /// Decides the events and the account; the same seed gives the same events.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Lift the account's limits and complete activities at once: shows how fast the stage itself is.
    #[arg(long)]
    fast: bool,
    /// Print one JSON object on stdout in place of the summary.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    if !(PROFILES_MIN..=PROFILES_MAX).contains(&arguments.profiles) {
        let message = format!("demo: --profiles must be from {PROFILES_MIN} to {PROFILES_MAX}");
        return Err(CommandError { message, code: 64 });
    }
    logging::begin(LogFormat::Text, "warn").map_err(|message| CommandError { message, code: 70 })?;
    let options = DemoOptions { profiles: arguments.profiles, seed: arguments.seed, fast: arguments.fast };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError { message: format!("demo: {error}"), code: 71 })?;
    let bar = Bar::new(Workload::len_of(&options.plan()));
    let mut tell = |news: News<'_>| match news {
        News::Started { folder, admin } => {
            let text =
                format!("configuration: {}\nstage: http://{admin} (health, metrics) while this runs", folder.config.display());
            started(&bar, &text);
        }
        News::Progress(progress) => bar.show(&progress),
    };
    let outcome = runtime.block_on(demo::run(options, &mut tell));
    bar.end();
    let outcome = outcome.map_err(|fault| CommandError { message: format!("demo: {fault}"), code: code(&fault) })?;
    if arguments.json
        && let Some(reason) = &outcome.given_up
    {
        note(&format!("given up: {reason}"));
    }
    let text = if arguments.json { outcome.figures.json() } else { outcome.summary() };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => return Err(CommandError { message: format!("demo: stdout: {error}"), code: 74 }),
    }
    Ok(if outcome.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn started(bar: &Bar, text: &str) {
    if bar.is_hidden() { note(text) } else { bar.line(text) }
}

/// A line on stderr; a closed stderr is nobody's loss here.
fn note(text: &str) {
    let _lost = writeln!(std::io::stderr(), "{text}");
}

const fn code(fault: &DemoFault) -> u8 {
    match fault {
        DemoFault::Io { .. } => 74,
        DemoFault::Kafka(_) | DemoFault::Config(_) | DemoFault::Stage(_) => 70,
        DemoFault::Interrupted => 130,
    }
}
