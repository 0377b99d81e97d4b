//! `listkeeper state show`.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use super::{CommandError, validate::overrides};
use crate::{
    codec,
    config::{self, Config},
    engine::{
        RefusedReason,
        limits::{SENDS_MAX, SENDS_WINDOW_MS},
    },
    model::{
        Text,
        batch::BatchName,
        catalog::ClientIdHash,
        hash::text_hash,
        state::{BatchChunk, ExportRecord, Header, LedgerRecord, MemberCut, ROW_LEFT, Sent, StateChange, StateKey, StateValue},
        time::UnixMillis,
    },
    shell::kafka::{KafkaFault, KafkaSettings, read_state},
};

const LEARN_MORE: &str = "\
Reads what is committed of the state topic, from its beginning to its end, and changes nothing: no group is joined, and nobody \
who works on it notices. Without a question it tells where the source stands, what is routed, and how many records of which \
kind there are.

Addresses are shown for --profile alone, because you asked for that profile: mind where the output goes.

Exit status: 0, also when nothing is kept; 69 when no broker answers or the topic is not there; 65 when a record cannot be read; \
78 when the configuration is refused.

Examples:
  listkeeper state show --config listkeeper.yaml
  listkeeper state show --config listkeeper.yaml --export vip
  listkeeper state show --config listkeeper.yaml --profile 4711 --json";

/// Arguments of `state`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What can be done with the state.
#[derive(Debug, clap::Subcommand)]
pub enum StateCommand {
    /// Print what is kept of a profile, an export or an application, or an overview.
    Show(ShowArguments),
}

/// Arguments of `state show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct ShowArguments {
    /// The configuration file of the stage; variables such as LISTKEEPER__KAFKA__GROUP override its keys.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What is kept of this profile, in every export.
    #[arg(long, value_name = "ID", conflicts_with_all = ["export", "application"])]
    profile: Option<String>,
    /// What is kept of this export: counts, its list, its open batches.
    #[arg(long, value_name = "NAME", conflicts_with = "application")]
    export: Option<String>,
    /// What is kept of this application: the calls that may have been spent.
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let StateCommand::Show(arguments) = arguments.command;
    let config =
        config::load(&arguments.config, &overrides()).map_err(|errors| CommandError { message: errors.to_string(), code: 78 })?;
    let settings = KafkaSettings::new(&config);
    let mut shards = Vec::new();
    for shard in 0..config.state.shards {
        let mut kept = Kept { profile: arguments.profile.as_deref().map(Text::from), ..Kept::default() };
        read_state(&settings, shard, |change, size_bytes| kept.take(change, size_bytes))
            .map_err(|fault| failed(&settings, &fault))?;
        shards.push(kept);
    }
    let shown = answer(&arguments, &config, &settings, &shards)?;
    let text = if arguments.json { format!("{shown}\n") } else { words(&shown) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| CommandError { message: format!("state show: {error}"), code: 74 })?;
    Ok(ExitCode::SUCCESS)
}

fn failed(settings: &KafkaSettings, fault: &KafkaFault) -> CommandError {
    let code = if let KafkaFault::StateUnreadable { .. } = fault { 65 } else { 69 };
    CommandError { message: format!("topic `{}`: {fault}", settings.state_topic), code }
}

/// The newest record of each key, as far as the question needs it.
#[derive(Debug, Default)]
struct Kept {
    /// The profile that is asked for.
    profile: Option<Text>,
    header: Option<Header>,
    ledgers: BTreeMap<ClientIdHash, LedgerRecord>,
    exports: BTreeMap<Text, ExportRecord>,
    batches: BTreeMap<(BatchName, u32), BatchChunk>,
    /// Of the profile that is asked for, by export.
    cuts: BTreeMap<Text, MemberCut>,
    /// By key, hashed: millions of profiles are counted, not kept.
    members: BTreeMap<u64, Counted>,
    /// Bytes of the newest record of every key, by kind and key, hashed.
    sizes: BTreeMap<(&'static str, u64), usize>,
}

/// What counts of one member's record.
#[derive(Debug, Clone, Copy)]
struct Counted {
    export: u64,
    wanted: bool,
    on_list: bool,
    parked: bool,
    refused: bool,
    search_spent: bool,
    erased: bool,
}

impl Counted {
    fn new(export: &Text, cut: &MemberCut) -> Self {
        let search_spent = cut.refused.as_ref().is_some_and(|refused| RefusedReason::SearchSpent.is_why(refused));
        Self {
            export: text_hash(export),
            wanted: !cut.segments.is_empty(),
            on_list: cut.applied.iter().any(|applied| applied.row_hash != ROW_LEFT),
            parked: cut.row.is_some(),
            refused: cut.refused.is_some() && !search_spent,
            search_spent,
            erased: cut.erased,
        }
    }
}

impl Kept {
    fn take(&mut self, change: StateChange, size_bytes: usize) {
        let hash = text_hash(&String::from_utf8_lossy(&codec::state::encode_key(&change.key)));
        let size = (codec::state::kind(&change.key), hash);
        if change.value.is_some() {
            self.sizes.insert(size, size_bytes);
        } else {
            self.sizes.remove(&size);
        }
        match (change.key, change.value) {
            (StateKey::Header, Some(StateValue::Header(header))) => self.header = Some(header),
            (StateKey::Member { export, profile }, Some(StateValue::Member(cut))) => {
                self.members.insert(hash, Counted::new(&export, &cut));
                if self.profile.as_ref() == Some(&profile) {
                    self.cuts.insert(export, cut);
                }
            }
            (StateKey::Member { export, profile }, _) => {
                self.members.remove(&hash);
                if self.profile.as_ref() == Some(&profile) {
                    self.cuts.remove(&export);
                }
            }
            (StateKey::Batch { name, chunk }, Some(StateValue::Batch(batch))) => {
                self.batches.insert((name, chunk), batch);
            }
            (StateKey::Batch { name, chunk }, _) => {
                self.batches.remove(&(name, chunk));
            }
            (StateKey::Ledger { application }, Some(StateValue::Ledger(ledger))) => {
                self.ledgers.insert(application, ledger);
            }
            (StateKey::Export { export }, Some(StateValue::Export(record))) => {
                self.exports.insert(export, record);
            }
            // Counted by its bytes alone.
            (
                StateKey::Header
                | StateKey::Ledger { .. }
                | StateKey::Export { .. }
                | StateKey::Protected { .. }
                | StateKey::Connection { .. }
                | StateKey::Suppressed { .. },
                _,
            ) => {}
        }
    }
}

fn answer(arguments: &ShowArguments, config: &Config, settings: &KafkaSettings, shards: &[Kept]) -> Result<Value, CommandError> {
    let unknown = |what: &str, name: &str| CommandError {
        message: format!("the configuration has no {what} `{name}`, and the state keeps nothing of it"),
        code: 64,
    };
    if let Some(profile) = &arguments.profile {
        return Ok(profile_view(profile, shards));
    }
    if let Some(name) = &arguments.export {
        let known = config.catalog.exports.iter().any(|export| export.name == *name);
        return export_view(name, shards)
            .or_else(|| known.then(|| json!({ "export": name, "profiles": 0 })))
            .ok_or_else(|| unknown("export", name));
    }
    if let Some(name) = &arguments.application {
        let application = config.catalog.applications.iter().find(|application| application.name == *name);
        let application = application.ok_or_else(|| unknown("application", name))?;
        let ledger = shards.iter().find_map(|shard| shard.ledgers.get(&application.client_id_hash));
        return Ok(json!({
            "application": name,
            "client_id_hash": application.client_id_hash.to_string(),
            "calls_per_day": application.calls_per_day,
            "day": ledger.map(|ledger| instant(ledger.day.start())),
            "calls_reserved": ledger.map(|ledger| ledger.calls),
            "calls_reserved_of_the_next_day": ledger.map(|ledger| ledger.calls_next_day),
        }));
    }
    let shards: Vec<Value> = (0..).zip(shards).map(|(shard, kept)| shard_view(shard, kept)).collect();
    Ok(json!({ "topic": settings.state_topic, "shards": shards }))
}

fn profile_view(profile: &str, shards: &[Kept]) -> Value {
    let mut exports = serde_json::Map::new();
    for (export, cut) in shards.iter().flat_map(|shard| &shard.cuts) {
        exports.insert(export.to_string(), json!({
            "segments": cut.segments,
            "address": cut.address,
            "row_to_send": cut.row,
            "as_of": cut.positions.iter().map(|at| json!({ "partition": at.partition, "offset": at.offset })).collect::<Vec<_>>(),
            "changed_at": instant(cut.changed_at),
            "applied": cut.applied.iter().map(|applied| json!({
                "address": applied.address, "list": applied.list, "at": instant(applied.at),
                "has_left": applied.row_hash == ROW_LEFT,
            })).collect::<Vec<_>>(),
            "refused": cut.refused,
            "sent": cut.sent.iter().map(|sent| json!({
                "address_hash": format!("{:016x}", sent.address_hash),
                "at": sent.at.iter().map(|at| instant(*at)).collect::<Vec<_>>(),
                "explain": explain_sent(sent),
            })).collect::<Vec<_>>(),
            "erased": cut.erased,
        }));
    }
    let open = shards.iter().flat_map(|shard| &shard.batches);
    let open = open.filter(|(_, batch)| batch.rows.iter().any(|row| row.profile == profile));
    let open: Vec<Value> = open.map(|((name, _), batch)| json!({ "batch": name, "export": batch.export })).collect();
    json!({ "profile": profile, "exports": exports, "open_batches": open })
}

/// What follows from how often an address was sent.
fn explain_sent(sent: &Sent) -> String {
    let goes_at = sent.at.len().checked_sub(SENDS_MAX).and_then(|oldest| instant(sent.at[oldest].plus_ms(SENDS_WINDOW_MS)));
    goes_at.map_or_else(
        || "it was sent again within a day; adds and updates go on".to_owned(),
        |at| format!("it was sent five times within a day: its newest row waits until {at}, and goes by itself; removals go on"),
    )
}

fn export_view(name: &str, shards: &[Kept]) -> Option<Value> {
    let hash = text_hash(name);
    let shard = shards
        .iter()
        .find(|shard| shard.exports.contains_key(name) || shard.members.values().any(|member| member.export == hash))?;
    let count =
        |counts: fn(&Counted) -> bool| shard.members.values().filter(|member| member.export == hash && counts(member)).count();
    let record = shard.exports.get(name);
    let mut batches: BTreeMap<&BatchName, (usize, &BatchChunk)> = BTreeMap::new();
    for ((batch, _), chunk) in shard.batches.iter().filter(|(_, chunk)| chunk.export == name) {
        batches.entry(batch).or_insert((0, chunk)).0 += chunk.rows.len();
    }
    let batches = batches.into_iter().map(|(batch, (rows, first))| {
        json!({
            "batch": batch,
            "operation": first.operation.as_str(),
            "rows": rows,
            "list": first.list,
            "opened_at": instant(first.opened_at),
            "given_up": first.given_up,
        })
    });
    Some(json!({
        "export": name,
        "list": record.and_then(|record| record.list),
        "started_at": record.and_then(|record| record.control.started_at).and_then(instant),
        "paused": record.is_some_and(|record| record.control.paused),
        "profiles": count(|_| true),
        "in_a_segment": count(|member| member.wanted),
        "on_the_list": count(|member| member.on_list),
        "parked": count(|member| member.parked),
        "refused": count(|member| member.refused),
        "search_spent": count(|member| member.search_spent),
        "erased": count(|member| member.erased),
        "rows_in_the_last_hour": record.map_or(0, |record| record.rows_by_minute.iter().map(|(_, rows)| rows).sum::<u64>()),
        "open_batches": batches.collect::<Vec<_>>(),
    }))
}

fn shard_view(shard: u32, kept: &Kept) -> Value {
    let mut records: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for ((kind, _), bytes) in &kept.sizes {
        let (count, sum) = records.entry(kind).or_default();
        (*count, *sum) = (*count + 1, *sum + *bytes as u64);
    }
    let records: serde_json::Map<String, Value> = records
        .into_iter()
        .map(|(kind, (count, bytes))| (kind.to_owned(), json!({ "records": count, "bytes": bytes })))
        .collect();
    let header = kept.header.as_ref().map(|header| {
        json!({
            "format": header.format,
            "written_at": instant(header.written_at),
            "ended_in_order": header.ended,
            "source": header.partitions.iter().map(|partition| json!({
                "partition": partition.next.partition,
                "settled_up_to": partition.next.offset,
                "last_settled_at": partition.last_settled.map(|settled| instant(settled.timestamp)),
            })).collect::<Vec<_>>(),
            "routed": header.routed.iter().map(|routed| json!({
                "export": routed.export, "connection": routed.connection, "list": routed.list, "segments": routed.segments,
            })).collect::<Vec<_>>(),
            "stopped": header.stopped.iter().map(|stopped| json!({
                "export": stopped.export,
                "segments": stopped.segments.iter().map(|segment| &segment.segment).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    });
    json!({ "shard": shard, "header": header, "records": records })
}

fn instant(at: UnixMillis) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_string())
}

/// The same for a person: a line for each value, under the name of what it is part of.
fn words(shown: &Value) -> String {
    let mut text = String::new();
    write_words(&mut text, 0, shown);
    text
}

fn write_words(text: &mut String, depth: usize, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('_', " ");
                match value {
                    Value::Object(inner) if inner.is_empty() => text.push_str(&format!("{indent}{name}: none\n")),
                    Value::Array(items) if items.is_empty() => text.push_str(&format!("{indent}{name}: none\n")),
                    Value::Object(_) => {
                        text.push_str(&format!("{indent}{name}\n"));
                        write_words(text, depth + 1, value);
                    }
                    Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
                        let items: Vec<String> = items.iter().map(plain).collect();
                        text.push_str(&format!("{indent}{name}: {}\n", items.join(", ")));
                    }
                    Value::Array(items) => {
                        text.push_str(&format!("{indent}{name}\n"));
                        for item in items {
                            write_words(text, depth + 1, item);
                        }
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                        text.push_str(&format!("{indent}{name}: {}\n", plain(value)));
                    }
                }
            }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&format!("{indent}{}\n", plain(value)));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
