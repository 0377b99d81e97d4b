//! Log lines on stderr, as text for people or JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Begins to log, once in a process. Libraries that could show headers or bodies stay at `warn` whatever `level` says.
///
/// # Errors
/// `level` is none, or logging was begun before.
pub fn begin(format: LogFormat, level: &str) -> Result<(), String> {
    let level: LevelFilter =
        level.parse().map_err(|_| String::from("the log level is none of error, warn, info, debug, trace"))?;
    let mut filter = EnvFilter::default().add_directive(level.into());
    for quiet in ["hyper", "hyper_util", "reqwest", "rustls", "h2", "librdkafka", "rdkafka"] {
        let cap = level.min(LevelFilter::WARN);
        filter = filter.add_directive(format!("{quiet}={cap}").parse().map_err(|_| String::from("a directive of ours"))?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let begun = match format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init(),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
    };
    begun.map_err(|_| String::from("logging was begun before"))
}
