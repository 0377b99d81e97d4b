//! The operator's file: tree → one walk that finds every error → [`Config`].
//!
//! May know: the model, a YAML reader, the disk (the file and the secrets it names). The environment is an argument.
//!
//! Why a walk of our own instead of derived deserialization: that stops at the first error, and its texts quote values. Here every error has
//! its path and a remedy, and never a value: a secret that landed under the wrong key must not end up in a log.

mod catalog;
mod descriptions;
mod exports;
mod question;
pub mod schema;
mod sections;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use url::Url;

use crate::model::Text;
use crate::model::catalog::{Catalog, Consent};

pub use exports::PROFILES_PER_HOUR_MAX;
pub use tree::OVERRIDE_PREFIX;

/// A configuration without errors.
#[derive(Debug)]
pub struct Config {
    /// The brokers and the group.
    pub kafka: Kafka,
    /// Where segment changes come from.
    pub source: Source,
    /// Where undecodable and refused records go.
    pub dead_letters: DeadLetters,
    /// The state topic.
    pub state: State,
    /// Members of each team, sorted by team.
    pub teams: Vec<(Text, Vec<Text>)>,
    /// Log lines.
    pub log: Log,
    /// The vendor's addresses.
    pub endpoints: Endpoints,
    /// The admin port.
    pub admin: Admin,
    /// Applications, in the catalog's order.
    pub applications: Vec<ApplicationConfig>,
    /// Connections, in the catalog's order.
    pub connections: Vec<ConnectionConfig>,
    /// Exports, in the catalog's order.
    pub exports: Vec<ExportConfig>,
    /// What all of it means for the engine.
    pub catalog: Arc<Catalog>,
    /// What is well-formed and understood, and that this version cannot do: `run` refuses it.
    pub not_yet: Vec<NotYet>,
}

impl Config {
    /// Whether `run` may take it.
    ///
    /// # Errors
    /// What this version cannot do, all of it.
    pub fn ready(&self) -> Result<(), NotYetAll> {
        if self.not_yet.is_empty() { Ok(()) } else { Err(NotYetAll(self.not_yet.clone())) }
    }
}

/// The brokers and the group.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// Addresses to begin with, as host:port.
    pub brokers: Vec<String>,
    /// The consumer group, which names the state topic too.
    pub group: String,
    /// TLS and sign-in; plaintext without.
    pub security: Option<Security>,
    /// Further options of librdkafka.
    pub options: BTreeMap<String, String>,
}

/// TLS and sign-in at the brokers.
#[derive(Debug, Clone)]
pub struct Security {
    /// How the connection is protected.
    pub protocol: SecurityProtocol,
    /// The SASL mechanism, with protocols that sign in.
    pub sasl: Option<Sasl>,
    /// Certificates to trust; the system's own when absent.
    pub ca_file: Option<PathBuf>,
}

/// How connections to the brokers are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither TLS nor sign-in.
    Plaintext,
    /// TLS.
    Ssl,
    /// Sign-in without TLS.
    SaslPlaintext,
    /// Sign-in over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// librdkafka's `security.protocol`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// Sign-in at the brokers.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// librdkafka's `sasl.mechanism`.
    pub mechanism: &'static str,
    /// Who signs in.
    pub username: String,
    /// With what.
    pub password: SecretString,
}

/// Where segment changes come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// Where to begin the first time.
    pub start: Start,
    /// How the records are written.
    pub format: SourceFormat,
    /// Where in a record the parts of an event are.
    pub fields: SourceFields,
}

/// Where reading begins the first time; then the state knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
}

/// How the records are written.
#[derive(Debug, Clone)]
pub enum SourceFormat {
    /// Avro in Confluent's wire format, schemas from a registry.
    Avro(Registry),
    /// Avro with the writer schema in this file.
    AvroFile {
        /// The schema, as JSON.
        schema_file: PathBuf,
    },
    /// JSON objects.
    Json,
}

/// A schema registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Its address.
    pub url: Url,
    /// Who signs in there.
    pub username: Option<String>,
    /// With what.
    pub password: Option<SecretString>,
}

/// Dotted paths of the parts of an event, and the words for the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFields {
    /// The profile.
    pub profile_id: Text,
    /// The segment.
    pub segment_id: Text,
    /// What changed.
    pub change: Text,
    /// When, if the records say so.
    pub occurred_at: Option<Text>,
    /// The word for "entered the segment".
    pub entered: Text,
    /// The word for "left the segment".
    pub exited: Text,
    /// The word for "is in the segment, and its values changed".
    pub updated: Text,
}

/// Where undecodable and refused records go.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The topic.
    pub topic: String,
    /// How long it keeps them.
    pub retention_days: u32,
    /// From which part of a run's records on the shard is held.
    pub hold_above_percent: u8,
}

/// The state topic.
#[derive(Debug, Clone)]
pub struct State {
    /// The topic: `<group>.state`.
    pub topic: String,
    /// Its partitions.
    pub shards: u32,
    /// Its replicas when it is created; -1 is the broker's default.
    pub replication_factor: i16,
    /// How many profiles it may hold.
    pub max_profiles: u64,
}

/// Log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How they are written.
    pub format: LogFormat,
    /// The least severity that is written: trace, debug, info, warn or error.
    pub level: &'static str,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The vendor's addresses, without a slash at the end.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The API.
    pub api: Url,
    /// Where tokens are refreshed.
    pub token: Url,
    /// Where a person signs in.
    pub authorize: Url,
}

/// The admin port.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its address from outside, where the sign-in returns to.
    pub public_url: Option<Url>,
    /// Who may use it, by name, with the secret that proves it.
    pub tokens: Vec<(Text, SecretString)>,
}

/// An API key.
#[derive(Debug, Clone)]
pub struct ApplicationConfig {
    /// Its name.
    pub name: Text,
    /// The key.
    pub client_id: SecretString,
    /// Its secret.
    pub client_secret: SecretString,
    /// True when each refresh gives a new refresh token.
    pub rotating: bool,
}

/// One account, signed in.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Its name.
    pub name: Text,
    /// Its name for people.
    pub display_name: Text,
    /// Teams that may use it; administrators alone when empty.
    pub used_by: Vec<Text>,
    /// The person whose name exports run under.
    pub exporting_user: Option<Text>,
    /// Where its token lives.
    pub token_store: TokenStore,
    /// The consent that the file carries.
    pub consent: Option<Consent>,
}

/// Where a connection's token lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenStore {
    /// A file that is replaced at each refresh.
    File(PathBuf),
    /// A file with one access token, never refreshed.
    AccessTokenFile(PathBuf),
    /// A Secret of Kubernetes; see [`Config::not_yet`].
    KubernetesSecret(String),
}

/// What an export's configuration says beside the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConfig {
    /// Its name.
    pub name: Text,
    /// The team that owns it; administrators when absent.
    pub owner: Option<Text>,
    /// What becomes of members that were on the list before.
    pub existing_members: ExistingMembers,
}

/// What becomes of members that were on the list before the first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingMembers {
    /// They are never touched.
    Protect,
    /// They become ours, and leave unless a segment wants them.
    Adopt,
}

/// Something that the configuration asks for and that this version cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYet {
    /// The key.
    pub path: String,
    /// What is not there yet, and what to write instead.
    pub text: &'static str,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Everything that the configuration asks for and that this version cannot do; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NotYetAll(pub Vec<NotYet>);

impl fmt::Display for NotYetAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is well-formed, and asks for what this version cannot do")?;
        self.0.iter().try_for_each(|not_yet| write!(f, "\n  {not_yet}"))
    }
}

/// One fault of a configuration: where it is, what it is, and what to do. Never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, or the environment variable; empty for the file itself.
    pub path: String,
    /// The line of the file, from 1.
    pub line: Option<u64>,
    /// What it is, and the remedy.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the file" } else { &self.path };
        match self.line {
            Some(line) => write!(f, "{path} (line {line}): {}", self.problem),
            None => write!(f, "{path}: {}", self.problem),
        }
    }
}

/// Every fault of a configuration, in the order of their paths; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration has {}",
            if self.0.len() == 1 { "one error".to_owned() } else { format!("{} errors", self.0.len()) }
        )?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// Whether the files with secrets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// They are; one that cannot be read is an error.
    Read,
    /// They are not, and all secrets are empty: for a check on a machine that has none of them.
    Skip,
}

/// Reads the configuration file and the secrets it names; `environment` may override keys (`LISTKEEPER__KAFKA__GROUP`).
///
/// # Errors
/// All faults at once.
pub fn load(path: &Path, environment: &BTreeMap<String, String>) -> Result<Config, ConfigErrors> {
    load_with(path, environment, Secrets::Read)
}

/// [`load`], with or without the files that hold secrets.
///
/// # Errors
/// All faults at once.
pub fn load_with(path: &Path, environment: &BTreeMap<String, String>, secrets: Secrets) -> Result<Config, ConfigErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let why = if missing { "does not exist".to_owned() } else { format!("cannot be read ({})", error.kind()) };
        let problem = format!("{} {why}: name a configuration file that can be read", path.display());
        ConfigErrors(vec![ConfigError { path: String::new(), line: None, problem }])
    })?;
    parse(&text, environment, secrets)
}

/// [`load_with`] of a text.
///
/// # Errors
/// All faults at once.
pub fn parse(text: &str, environment: &BTreeMap<String, String>, secrets: Secrets) -> Result<Config, ConfigErrors> {
    let mut root = tree::parse(text).map_err(|error| ConfigErrors(vec![error]))?;
    let mut errors = Vec::new();
    tree::lay_over(&mut root, environment, &mut errors);
    let walk = walk::Walk::new(secrets, errors);
    let mut config = walk::Table::root(&walk, &root, sections::config);
    let (mut errors, mut not_yet) = walk.into_found();
    if errors.is_empty() {
        not_yet.sort_by(|a, b| a.path.cmp(&b.path));
        config.not_yet = not_yet;
        return Ok(config);
    }
    errors.sort_by(|a, b| (&a.path, a.line, &a.problem).cmp(&(&b.path, b.line, &b.problem)));
    errors.dedup();
    Err(ConfigErrors(errors))
}
