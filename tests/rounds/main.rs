//! Rounds of faults against the real thing: replicas of the real binary, a real Apache Kafka broker, the simulated
//! account behind real sockets. Run by `tests/chaos`.

mod faults;
#[expect(clippy::disallowed_methods, reason = "a proxy has threads and waits")]
mod proxy;
#[expect(clippy::disallowed_methods, reason = "the rig waits, with bounds, for processes of the real world")]
#[expect(dead_code, reason = "the rig serves the tests too, which use more of it")]
#[path = "../it/rig/mod.rs"]
mod rig;
#[expect(clippy::disallowed_methods, reason = "a round lasts real time")]
mod round;
mod stream;

use std::{
    any::Any,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use clap::Parser as _;

use crate::round::{Rig, Round};

/// Rounds of faults against a real broker, real processes and real sockets.
///
/// Each round has a topic, a group and accounts of its own, so that its seed alone replays it. At its end the faults
/// stop, everything drains, and the lists are compared with what was produced.
#[derive(Debug, clap::Parser)]
#[command(name = "tests/chaos", max_term_width = 110)]
struct Arguments {
    /// How many rounds.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u64,
    /// Decides the faults and events of the first round; the next seed those of the next [default: another each time].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    say(&format!("{} rounds from seed {seed}", arguments.rounds));
    let (mut rig, mut failures) = (Rig::start(), 0);
    // A round's failure is said in its line; that of another thread at once.
    let usual = std::panic::take_hook();
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() != main {
            usual(info);
        }
    }));
    for seed in seed..seed + arguments.rounds {
        let folder = rig::scratch("chaos");
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut round = Round::new(&mut rig, seed, folder.clone());
            let ran = catch_unwind(AssertUnwindSafe(|| round.run()));
            ran.map_err(|panic| format!("{}\nthe account: {}", words(&*panic), round.report()))
        }));
        match lived.unwrap_or_else(|panic| Err(words(&*panic))) {
            Ok(line) => {
                say(&line);
                // A folder of a round that is over is nobody's loss.
                drop(std::fs::remove_dir_all(&folder));
            }
            Err(why) => {
                failures += 1;
                drop(std::fs::write(folder.join("broker.err"), rig.log()));
                say(&format!(
                    "seed {seed} FAILED: {why}\n  logs: {}\n  again: tests/chaos --rounds 1 --seed {seed}",
                    folder.display()
                ));
            }
        }
    }
    say(&format!("{} rounds, {failures} failures", arguments.rounds));
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a broken assumption".into())
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).expect("stdout");
}
