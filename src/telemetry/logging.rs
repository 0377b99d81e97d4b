//! Log lines on stderr, as text for people or JSON for machines.

use std::{any::Any, io::IsTerminal as _};

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
    begun.map_err(|_| String::from("logging was begun before"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a thread panicked: {}", harmless(panic.payload()));
    }));
    Ok(())
}

/// What may be told of a panic: a text that stands in the program. One that was made in it may quote what a record or an
/// answer said, as the failed look at a part of a text does.
fn harmless(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(its text may hold data, and is not shown)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_no_data() {
        let address = String::from("josé@example.com");
        let quotes = std::panic::catch_unwind(|| address[..4].to_owned()).expect_err("in the middle of a character");
        assert!(quotes.downcast_ref::<String>().is_some_and(|text| text.contains("example.com")), "it would quote the address");
        assert_eq!(harmless(&*quotes), "(its text may hold data, and is not shown)");
        let fixed = std::panic::catch_unwind(|| panic!("a broken assumption")).expect_err("a panic");
        assert_eq!(harmless(&*fixed), "a broken assumption");
    }
}
