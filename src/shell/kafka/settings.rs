//! What every client of a broker is told: how to get there, and what its role needs.

use std::{collections::BTreeMap, fmt};

use rdkafka::ClientConfig;
use secrecy::ExposeSecret as _;

use crate::config::{Config, Start};

/// After this time without a confirmation the coordinator aborts a transaction.
pub const TRANSACTION_TIMEOUT_MS: u32 = 15_000;

/// The topics, the group and the way to the brokers.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Addresses to begin with, as host:port.
    pub brokers: Vec<String>,
    /// The group whose members own shards.
    pub group: String,
    /// Options of librdkafka for every client: TLS, sign-in, and those of the operator. Never printed.
    pub options: BTreeMap<String, String>,
    /// The topic with segment changes.
    pub source_topic: String,
    /// Where reading begins the first time.
    pub start: Start,
    /// The topic with the state; its partitions are the shards.
    pub state_topic: String,
    /// How many shards there are.
    pub shards: u32,
    /// Replicas of topics that are created here; -1 is the broker's default.
    pub replication_factor: i16,
    /// The topic for records that cannot be applied.
    pub dead_letter_topic: String,
    /// How long that topic keeps them, when it is created here.
    pub dead_letter_retention_days: u32,
    /// How long a broker may wait for more data before it answers a fetch.
    pub fetch_wait_ms: u32,
}

/// The option that says how large a record may be, and what librdkafka takes without it.
const MESSAGE_BYTES: &str = "message.max.bytes";
const MESSAGE_BYTES_USUAL: usize = 1_000_000;

impl KafkaSettings {
    /// What the operator's file says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut options = config.kafka.options.clone();
        if let Some(security) = &config.kafka.security {
            options.insert("security.protocol".into(), security.protocol.as_str().into());
            if let Some(sasl) = &security.sasl {
                options.insert("sasl.mechanism".into(), sasl.mechanism.into());
                options.insert("sasl.username".into(), sasl.username.clone());
                options.insert("sasl.password".into(), sasl.password.expose_secret().into());
            }
            if let Some(file) = &security.ca_file {
                options.insert("ssl.ca.location".into(), file.to_string_lossy().into_owned());
            }
        }
        Self {
            brokers: config.kafka.brokers.clone(),
            group: config.kafka.group.clone(),
            options,
            source_topic: config.source.topic.clone(),
            start: config.source.start,
            state_topic: config.state.topic.clone(),
            shards: config.state.shards,
            replication_factor: config.state.replication_factor,
            dead_letter_topic: config.dead_letters.topic.clone(),
            dead_letter_retention_days: config.dead_letters.retention_days,
            fetch_wait_ms: 10,
        }
    }

    /// The group that a shard's source offsets are committed in.
    #[must_use]
    pub fn source_group(&self, shard: u32) -> String {
        format!("{}.{shard}", self.group)
    }

    /// The name under which a shard's producers fence each other.
    #[must_use]
    pub fn transactional_id(&self, shard: u32) -> String {
        format!("{}-{shard}", self.group)
    }

    /// How large a record may be that is written.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.options.get(MESSAGE_BYTES).and_then(|text| text.parse().ok()).unwrap_or(MESSAGE_BYTES_USUAL)
    }

    /// What a role sets unless the operator says otherwise, then the operator's options, then what the role rests on.
    fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("client.id", "listkeeper");
        for (name, value) in defaults {
            client.set(*name, *value);
        }
        for (name, value) in &self.options {
            client.set(name, value);
        }
        client.set("bootstrap.servers", self.brokers.join(","));
        for (name, value) in fixed {
            client.set(*name, *value);
        }
        client
    }

    /// Asks for metadata and settings; reads nothing. Sees what is not committed.
    pub(super) fn inspector(&self) -> ClientConfig {
        self.client(&[], &[("isolation.level", "read_uncommitted"), ("allow.auto.create.topics", "false")])
    }

    /// Creates topics and describes them.
    pub(super) fn administrator(&self) -> ClientConfig {
        self.client(&[], &[])
    }

    /// A member of the group, for ownership alone.
    pub(super) fn member(&self) -> ClientConfig {
        self.client(
            &[
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "1000"),
                // It reads nothing, so it needs no room for records.
                ("queued.min.messages", "1"),
                ("queued.max.messages.kbytes", "1024"),
            ],
            &[
                ("group.id", &self.group),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "latest"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    /// Reads by `assign` and sees only what is committed. The group is there for the offsets alone; nobody joins it.
    pub(super) fn reader(&self, shard: u32) -> ClientConfig {
        let wait = self.fetch_wait_ms.to_string();
        self.client(
            &[
                // With librdkafka's own values fetches stall, and reading takes two to four times as long.
                ("queued.min.messages", "1000000"),
                ("queued.max.messages.kbytes", "65536"),
                ("fetch.wait.max.ms", &wait),
            ],
            &[
                ("group.id", &self.source_group(shard)),
                ("isolation.level", "read_committed"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("auto.offset.reset", "error"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    /// Reads single records again: little room, small fetches.
    pub(super) fn second_look(&self, shard: u32) -> ClientConfig {
        let mut client = self.reader(shard);
        client.set("queued.min.messages", "1").set("queued.max.messages.kbytes", "2048");
        client
    }

    /// Writes state, letters and offsets in transactions.
    pub(super) fn producer(&self, shard: u32) -> ClientConfig {
        self.client(
            &[
                ("compression.type", "lz4"),
                // A transaction is flushed by its commit, which does not wait for this.
                ("linger.ms", "20"),
                ("batch.size", "1000000"),
                ("batch.num.messages", "100000"),
                ("queue.buffering.max.messages", "500000"),
                ("queue.buffering.max.kbytes", "131072"),
            ],
            &[
                ("transactional.id", &self.transactional_id(shard)),
                ("transaction.timeout.ms", &TRANSACTION_TIMEOUT_MS.to_string()),
                ("enable.idempotence", "true"),
            ],
        )
    }
}

impl fmt::Debug for KafkaSettings {
    /// Names of options, never their values: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<&String> = self.options.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("options", &options)
            .field("source_topic", &self.source_topic)
            .field("state_topic", &self.state_topic)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Settings for a cluster that tests made.
    pub(in crate::shell::kafka) fn settings(brokers: &str, group: &str) -> KafkaSettings {
        KafkaSettings {
            brokers: vec![brokers.into()],
            group: group.into(),
            options: BTreeMap::new(),
            source_topic: format!("{group}-changes"),
            start: Start::Earliest,
            state_topic: format!("{group}.state"),
            shards: 1,
            replication_factor: 1,
            dead_letter_topic: format!("{group}.dead-letters"),
            dead_letter_retention_days: 7,
            fetch_wait_ms: 10,
        }
    }

    #[test]
    fn the_operator_may_tune_but_not_undo_what_promises_rest_on() {
        let mut settings = settings("127.0.0.1:1", "g");
        settings.options.insert("queued.max.messages.kbytes".into(), "1000".into());
        settings.options.insert("isolation.level".into(), "read_uncommitted".into());
        settings.options.insert("sasl.password".into(), "canary".into());
        let reader = settings.reader(3);
        assert_eq!(reader.get("queued.max.messages.kbytes"), Some("1000"));
        assert_eq!(reader.get("isolation.level"), Some("read_committed"));
        assert_eq!(reader.get("group.id"), Some("g.3"));
        assert_eq!(settings.producer(3).get("transactional.id"), Some("g-3"));
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
