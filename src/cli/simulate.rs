//! `listkeeper simulate`.

use std::{
    io::Write as _,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::CommandError;
use crate::simulator::{
    report::{Report, WorldReport},
    world::World,
};

const LEARN_MORE: &str = "\
Each seed is one world: an account, a Kafka, clocks and a few processes, all virtual, and faults at moments that the seed \
decides. The promises are checked all along. The result counts the faults that were met, and names each seed that \
failed with the promise that was broken; the exit status is 1 then. From 500 seeds on it is 1 also when some fault, or some branch that must \
happen in some world, was never reached: the result names it.

Examples:
  listkeeper simulate --seeds 0..1000
  listkeeper simulate --seeds 17..18 --trace";

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// The worlds to run: seeds from A up to, but without, B.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print what happened in each world, line by line, before the result.
    #[arg(long)]
    trace: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let numbers = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match numbers {
        Some((from, to)) if from < to => Ok(from..to),
        Some(_) | None => Err("seeds are two numbers like 0..1000, the second larger than the first".to_owned()),
    }
}

/// How many worlds live side by side.
const THREADS: usize = 2;

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
#[expect(clippy::disallowed_methods, reason = "tells how long the run took; no world reads this clock")]
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let began = Instant::now();
    let worlds = run(arguments.seeds.clone(), arguments.trace);
    let report = Report::of(&worlds, began.elapsed().as_secs_f64());
    let mut text = String::new();
    for line in worlds.iter().flat_map(|world| &world.trace) {
        text.push_str(line);
        text.push('\n');
    }
    if arguments.json {
        text.push_str(&serde_json::json!(report).to_string());
        text.push('\n');
    } else {
        text.push_str(&words(&report));
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| CommandError { message: format!("simulate: {error}"), code: 74 })?;
    Ok(if report.failures.is_empty() && report.never_reached.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs worlds side by side, and gives what became of them in the order of their seeds.
fn run(seeds: std::ops::Range<u64>, trace: bool) -> Vec<WorldReport> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return done;
            }
            done.push((seed, World::life(seed, trace)));
        }
    };
    let mut worlds: Vec<(u64, WorldReport)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    worlds.sort_unstable_by_key(|(seed, _)| *seed);
    worlds.into_iter().map(|(_, world)| world).collect()
}

fn words(report: &Report) -> String {
    let mut text = format!(
        "{} worlds, {} virtual hours in {:.1} s, digest {}; faults met:\n",
        report.seeds,
        report.virtual_seconds / 3_600,
        report.seconds,
        report.digest
    );
    for (fault, times) in &report.faults_reached {
        text.push_str(&format!("  {fault:<24}{times:>9}\n"));
    }
    text.push_str("reached:\n");
    for (what, times) in &report.sometimes_reached {
        text.push_str(&format!("  {what:<32}{times:>9}\n"));
    }
    if !report.never_reached.is_empty() {
        text.push_str(&format!("never reached: {}\n", report.never_reached.join(", ")));
    }
    for failure in &report.failures {
        text.push_str(&format!(
            "seed {} broke {}: {}\n  again: {}\n",
            failure.seed, failure.promise, failure.detail, failure.replay
        ));
    }
    text.push_str(&format!("{} failures\n", report.failures.len()));
    text
}
