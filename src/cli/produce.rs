//! `listkeeper produce`.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use indicatif::{HumanCount, HumanFloatCount};
use url::Url;

use super::CommandError;
use crate::demo::produce::{self, ProduceFault, ProduceOptions, Produced};

const LEARN_MORE: &str = "\
Writes the events that `demo` shows into a topic that exists, to try the stage with a Kafka of your own: entries, updates, \
duplicates, exits that cancel an entry, re-entries, profiles without an address, the segment segment-unknown, a few records \
that nobody can decode, and at the end exits of everybody in the last segment, some of whom enter it again. Names and \
addresses are made up, under example.com and its like.

The profiles are in segment-1 to segment-N. Each record has the profile as its key. With --registry the schema \
SegmentMembershipChanged is registered as TOPIC-value, and records are Avro in Confluent's wire format; without it they are \
JSON. A configuration that reads them says

  source: { topic: TOPIC, avro: { registry_url: URL } }    # or json: {} in place of avro

and each of its exports names segments, as in `segments: [segment-1]`, and `fields: { email: profile.email }`.

The producer is idempotent. Ctrl-C ends it in order and says what was written. Exit status 69: brokers or registry are not \
reached, or the topic does not exist; 64: an argument that makes no sense.

Examples:
  listkeeper produce --brokers localhost:9092 --topic segment-membership
  listkeeper produce --brokers localhost:9092 --topic segment-membership --registry http://localhost:8081 --rate 500";

/// Arguments of `produce`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// Brokers to begin with, as host:port, with commas between them.
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: String,
    /// The topic, which must exist.
    #[arg(long)]
    topic: String,
    /// The schema registry; without one, events are JSON.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// How many distinct profiles there are.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    profiles: u32,
    /// How many segments they are in.
    #[arg(long, value_name = "N", default_value_t = 4)]
    segments: u8,
    /// Events a second [default: as many as the brokers take].
    #[arg(long, value_name = "R")]
    rate: Option<u32>,
    /// Decides the events: the same seed gives the same.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object on stdout at the end.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let registry = arguments.registry.as_deref().map(registry).transpose()?;
    let options = ProduceOptions {
        brokers: arguments.brokers,
        topic: arguments.topic,
        registry,
        profiles: arguments.profiles,
        segments: arguments.segments,
        rate: arguments.rate,
        seed: arguments.seed,
    };
    let failed = |error: std::io::Error| CommandError { message: format!("produce: {error}"), code: 71 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let produced = runtime.block_on(produce::produce(&options, interrupted()));
    let produced = produced.map_err(|fault| {
        let code = match fault {
            ProduceFault::Usage(_) => 64,
            ProduceFault::Unavailable(_) => 69,
        };
        CommandError { message: format!("produce: {fault}"), code }
    })?;
    // A closed stderr is nobody's loss here.
    let _lost = writeln!(std::io::stderr(), "{}", words(&produced));
    if arguments.json {
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{}", serde_json::json!(produced)).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(CommandError { message: format!("produce: stdout: {error}"), code: 74 }),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn registry(text: &str) -> Result<Url, CommandError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| CommandError {
        message: "produce: --registry is no address: write it as in http://localhost:8081".to_owned(),
        code: 64,
    })
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a way to listen it cannot be interrupted in order.
        std::future::pending::<()>().await;
    }
}

fn words(produced: &Produced) -> String {
    let format = match produced.schema_id {
        Some(id) => format!("Avro (schema {id}, subject {}-value)", produced.topic),
        None => "JSON".to_owned(),
    };
    format!(
        "{}{} events of {} profiles in {} segments written to {} ({} partitions) as {format}, in {:.1} s: {} a second",
        if produced.complete { "" } else { "Interrupted. " },
        HumanCount(produced.events),
        HumanCount(u64::from(produced.profiles)),
        produced.segments,
        produced.topic,
        produced.partitions,
        produced.seconds,
        HumanFloatCount(produced.events_per_second.round())
    )
}
