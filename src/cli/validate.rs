//! `listkeeper validate`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::CommandError;
use crate::config::{self, Config, OVERRIDE_PREFIX, Secrets, SourceFormat};

/// How an editor comes to know the keys.
const EDITOR_HELP: &str = "\
An editor with YAML support completes and explains the keys when the file's first line names the schema:
  listkeeper validate --print-schema > configuration.schema.json
  # yaml-language-server: $schema=configuration.schema.json";

/// Arguments of `validate`.
///
/// Exits with 0 when `run` would take the file, with 78 when it has errors or asks for what is not there yet; all of it is told at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EDITOR_HELP)]
pub struct Arguments {
    /// The configuration file; variables such as LISTKEEPER__KAFKA__GROUP override its keys.
    #[arg(long, value_name = "FILE", required_unless_present = "print_schema")]
    pub config: Option<PathBuf>,
    /// Print the JSON Schema of the configuration, with every key, its default and what it is for, and do nothing else.
    #[arg(long, conflicts_with = "config")]
    pub print_schema: bool,
    /// Leave the files with secrets alone, to check the configuration on a machine that has none of them.
    #[arg(long)]
    pub without_secrets: bool,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    if arguments.print_schema {
        print(&config::schema::text())?;
    }
    // Without a file, the schema was all that was asked for: the parser sees to that.
    let Some(file) = arguments.config else { return Ok(ExitCode::SUCCESS) };
    let secrets = if arguments.without_secrets { Secrets::Skip } else { Secrets::Read };
    let config = config::load_with(&file, &overrides(), secrets)
        .map_err(|errors| CommandError { message: errors.to_string(), code: 78 })?;
    print(&summary(&config))?;
    config.ready().map_err(|message| CommandError { message: message.to_string(), code: 78 })?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), CommandError> {
    write!(std::io::stdout().lock(), "{text}").map_err(|error| CommandError { message: format!("stdout: {error}"), code: 74 })
}

/// The variables that may override keys.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment becomes an argument")]
pub fn overrides() -> BTreeMap<String, String> {
    let text =
        |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with(OVERRIDE_PREFIX)).collect()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn summary(config: &Config) -> String {
    let format = match config.source.format {
        SourceFormat::Avro(_) => "Avro, schemas from a registry",
        SourceFormat::AvroFile { .. } => "Avro, schema from a file",
        SourceFormat::Json => "JSON",
    };
    let mut text = String::from("The configuration is well-formed.\n");
    let lines = [
        ("group", config.kafka.group.clone()),
        ("source", format!("{} ({format})", config.source.topic)),
        ("state", format!("{} ({})", config.state.topic, counted(config.state.shards as usize, "shard"))),
        ("dead letters", config.dead_letters.topic.clone()),
        ("applications", config.applications.len().to_string()),
        ("connections", config.connections.len().to_string()),
    ];
    for (what, value) in lines {
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "  {what:<13} {value}");
    }
    for export in &config.catalog.exports {
        let connection = config.catalog.connection(export.connection);
        let when = if export.starts_at_once { "starts at once" } else { "starts when it is run" };
        let consent = if connection.consent.is_some() { "" } else { "; nothing is sent before consent is given" };
        let _ok = writeln!(
            text,
            "  {:<13} {}: {} to {}, {when}{consent}",
            "export",
            export.name,
            counted(export.segments.len(), "segment"),
            connection.name
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::cli;

    #[test]
    fn a_file_or_the_schema_is_asked_for() {
        for (arguments, taken) in [
            (&["--config", "f.yaml"][..], true),
            (&["--print-schema"], true),
            (&[], false),
            (&["--without-secrets"], false),
            (&["--config", "f.yaml", "--print-schema"], false),
        ] {
            let line = ["listkeeper", "validate"].iter().chain(arguments);
            assert_eq!(cli::Arguments::try_parse_from(line).is_ok(), taken, "{arguments:?}");
        }
    }

    #[test]
    fn the_help_tells_how_an_editor_uses_the_schema() {
        let mut command = cli::Arguments::command();
        let help = command.find_subcommand_mut("validate").unwrap().render_long_help().to_string();
        assert!(help.contains("# yaml-language-server: $schema="), "{help}");
    }
}
