//! `listkeeper export`: what each export does, and orders for one, by the admin port of the stage.

use std::{io::Write as _, process::ExitCode, time::Duration};

use serde_json::Value;
use url::Url;

use super::CommandError;
use crate::{model::control::ControlAction, shell::http};

const LEARN_MORE: &str = "\
What is ordered is written to the state before this command ends, and survives restarts, takeovers and other configurations.

run      starts an export that waits for its first run (`starts: when_run`); the stage ends its term in order for it, which
         takes as long as what is under way, then reads the source for the export from the beginning
pause    nothing of it is sent until it is resumed, but for the removal of who was erased; what comes is kept
resume   ends a pause
approve  lets the removals go that wait because more of them would leave the list within an hour than
         `removals.hold_above_percent` allows: as many as wait now

The stage takes orders from its own machine alone: in Kubernetes, run this command in its Pod (`kubectl exec`).

Exit status: 0 when it is so now (also when it was before), 64 for an export that is not configured, 69 when the stage does not \
answer, or another replica owns the export, 75 when it is not known whether the order was taken, 77 when it was refused.

Examples:
  listkeeper export list
  listkeeper export pause spring
  kubectl exec deploy/listkeeper -- listkeeper export show spring --json";

/// The answer of the stage, which waits for Kafka for 30 s.
const DEADLINE: Duration = Duration::from_secs(45);

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: ExportCommand,
}

/// What can be asked of exports.
#[derive(Debug, clap::Subcommand)]
enum ExportCommand {
    /// All exports of the shards that the replica owns.
    List(Asked),
    /// One export.
    Show(Named),
    /// Start an export that waits for its first run.
    Run(Named),
    /// Send nothing of an export until it is resumed.
    Pause(Named),
    /// End a pause.
    Resume(Named),
    /// Let the removals go that wait for approval.
    Approve(Named),
}

#[derive(Debug, clap::Args)]
struct Asked {
    /// The admin port of the stage (`admin.listen`).
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464")]
    admin: Url,
    /// Print what the stage answers, as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The export's name in the configuration.
    name: String,
    #[command(flatten)]
    asked: Asked,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let (asked, path, order) = match arguments.command {
        ExportCommand::List(asked) => (asked, vec!["exports".to_owned()], None),
        ExportCommand::Show(Named { name, asked }) => (asked, vec!["exports".to_owned(), name], None),
        ExportCommand::Run(named) => ordered(named, ControlAction::Run),
        ExportCommand::Pause(named) => ordered(named, ControlAction::Pause),
        ExportCommand::Resume(named) => ordered(named, ControlAction::Resume),
        ExportCommand::Approve(named) => ordered(named, ControlAction::Approve),
    };
    let mut url = asked.admin.clone();
    let base =
        url.path_segments_mut().map_err(|()| CommandError { message: format!("{} is no URL of HTTP", asked.admin), code: 64 });
    base?.pop_if_empty().extend(path);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError { message: format!("no runtime can be made: {error}"), code: 70 })?;
    let answer = runtime.block_on(ask(url, order.is_some()))?;
    let text = if asked.json { format!("{answer}\n") } else { words(&answer, order) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| CommandError { message: format!("export: {error}"), code: 74 })?;
    Ok(ExitCode::SUCCESS)
}

fn ordered(named: Named, action: ControlAction) -> (Asked, Vec<String>, Option<ControlAction>) {
    (named.asked, vec!["exports".to_owned(), named.name, action.as_str().to_owned()], Some(action))
}

/// Asks the stage. What it refuses, it says why.
async fn ask(url: Url, orders: bool) -> Result<Value, CommandError> {
    let client = http::client().map_err(|error| CommandError { message: format!("no HTTP client: {error}"), code: 70 })?;
    let request = if orders { client.post(url.clone()) } else { client.get(url.clone()) };
    let unreachable = |error: reqwest::Error| {
        // An order that was sent may have been taken.
        let code = if orders && !error.is_connect() { 75 } else { 69 };
        CommandError { message: format!("{url} does not answer: {}; does the stage run there?", error.without_url()), code }
    };
    let answer = request.timeout(DEADLINE).send().await.map_err(unreachable)?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(unreachable)?;
    let value: Option<Value> = serde_json::from_slice(&body).ok();
    let code = match status {
        200 => {
            return value.ok_or_else(|| CommandError { message: format!("{url} answers no JSON"), code: 70 });
        }
        403 => 77,
        404 => 64,
        421 | 503 => 69,
        504 => 75,
        _ => 70,
    };
    let said = value.as_ref().and_then(|value| value["error"].as_str());
    let message = said.map_or_else(|| format!("{url} answers with status {status}"), ToOwned::to_owned);
    Err(CommandError { message, code })
}

/// For a person.
fn words(answer: &Value, order: Option<ControlAction>) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if order.is_some() {
        return format!("{}: {}\n", text(&answer["export"]), text(&answer["explain"]));
    }
    let Some(exports) = answer["exports"].as_array() else { return one(answer) };
    exports.iter().map(one).collect()
}

fn one(export: &Value) -> String {
    let held = export["held"].as_str();
    let standing = match held {
        Some(reason) => format!("{reason}: {}", export["explain"].as_str().unwrap_or_default()),
        None if export["removed"] == true => "not configured any more".to_owned(),
        None => "runs".to_owned(),
    };
    let mut text = format!("{}  {standing}\n", export["name"].as_str().unwrap_or_default());
    let numbers = [
        ("members", "on the list"),
        ("waiting", "waiting"),
        ("in_flight", "in flight"),
        ("removals_held_back", "removals held back"),
        ("suppressed", "suppressed"),
        ("flapping", "flapping"),
    ];
    let numbers: Vec<String> = numbers.iter().map(|(key, word)| format!("{} {word}", export[*key])).collect();
    text.push_str(&format!("  {}\n", numbers.join(", ")));
    for decision in export["decisions"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {}\n", decision["explain"].as_str().unwrap_or_default()));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_answered_is_told_in_words() {
        let export = json!({ "name": "spring", "held": "paused", "explain": "resume it", "members": 3, "waiting": 2, "in_flight": 0,
            "removals_held_back": 1, "suppressed": 0, "flapping": 0, "decisions": [{ "explain": "2 adds wait" }] });
        let told = words(&json!({ "exports": [export] }), None);
        assert_eq!(
            told,
            "spring  paused: resume it\n  3 on the list, 2 waiting, 0 in flight, 1 removals held back, 0 suppressed, 0 flapping\n  2 adds wait\n"
        );
        let told = words(&json!({ "export": "spring", "explain": "it goes on" }), Some(ControlAction::Resume));
        assert_eq!(told, "spring: it goes on\n");
    }
}
