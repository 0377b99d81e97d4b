//! A source topic, a simulated account and replicas of the real binary between them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use listkeeper::{
    codec::{
        SchemaId,
        writer::{EventWriter, SEGMENT_MEMBERSHIP_CHANGED, WrittenEvent, WrittenProfile},
    },
    model::{event::ChangeKind, time::UnixMillis},
};
use serde_json::Value;

use super::{broker::Broker, free_port, http, process::Listkeeper, registry::Registry, scratch, wait};

/// Partitions of the source.
pub const PARTITIONS: i32 = 3;
/// The list of the export `vip`.
pub const LIST: &str = "VIP customers";
/// How long anything may take, with a takeover or two in it, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A simulated account in a process of its own.
#[derive(Debug)]
pub struct Account {
    /// The process.
    pub process: Listkeeper,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Account {
    /// Starts `listkeeper simulator` on an address; port 0 takes a free one.
    pub fn start(folder: &Path, listen: &str) -> Self {
        Self::start_with(folder, listen, &["--activity-seconds", "0.3"])
    }

    /// The same, with arguments of the caller's.
    pub fn start_with(folder: &Path, listen: &str, more: &[&str]) -> Self {
        let name = format!("account-{}", free_port());
        let mut arguments = vec!["simulator", "--json", "--listen", listen];
        arguments.extend(more);
        let mut process = Listkeeper::start(folder, &name, &arguments);
        let line: Value = serde_json::from_str(&process.first_line()).expect("JSON");
        let address = line["listening"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
        Self { address: address.parse().expect("an address"), process }
    }

    /// What it saw.
    pub fn report(&self) -> Value {
        self.asked("report", "")
    }

    /// What it saw of one API key, where each has an account of its own.
    pub fn report_of(&self, key: &str) -> Value {
        self.asked("report", key)
    }

    fn asked(&self, what: &str, key: &str) -> Value {
        let (_, body) = http::get(self.address, &format!("/_simulator/{what}?account={key}")).expect("an answer");
        serde_json::from_str(&body).expect("JSON")
    }

    /// How many requests of a kind it saw.
    pub fn seen(&self, kind: &str) -> u64 {
        self.report()["requests_by_kind"][kind].as_u64().unwrap_or(0)
    }

    /// The members of a list by its name; nobody while there is no such list.
    pub fn members(&self, list: &str) -> BTreeSet<String> {
        self.members_of("", list)
    }

    /// The same in the account of one API key, where each has its own.
    pub fn members_of(&self, key: &str, list: &str) -> BTreeSet<String> {
        let report = self.report_of(key);
        let lists = report["lists"].as_array().expect("lists");
        let Some(found) = lists.iter().find(|one| one["name"] == list) else { return BTreeSet::new() };
        let members = self.asked(&format!("lists/{}/members", found["list_id"].as_str().expect("an id")), key);
        serde_json::from_value(members).expect("addresses")
    }

    /// No limit was passed, no rule of the vendor broken.
    pub fn expect_no_violations(&self) {
        self.expect_no_violations_of("");
    }

    /// The same of one API key, where each has an account of its own.
    pub fn expect_no_violations_of(&self, key: &str) {
        let report = self.report_of(key);
        assert_eq!(report["violations"], Value::Array(Vec::new()), "{report}");
        assert!(report["max_in_a_second"].as_u64().is_some_and(|calls| calls <= 4), "{report}");
    }
}

/// A running replica.
#[derive(Debug)]
pub struct Replica {
    /// The process.
    pub process: Listkeeper,
    /// Its admin port.
    pub admin: SocketAddr,
}

impl Replica {
    /// What `/health` says; nothing while nobody listens.
    pub fn health(&self) -> Option<Value> {
        serde_json::from_str(&http::get(self.admin, "/health")?.1).ok()
    }

    /// What it is: starting, owner, standby.
    pub fn role(&self) -> Option<String> {
        self.health()?["role"].as_str().map(ToOwned::to_owned)
    }

    /// The shards that it owns and works on.
    pub fn shards_at_work(&self) -> BTreeSet<u64> {
        let health = self.health().unwrap_or_default();
        let shards = health["shards"].as_array().into_iter().flatten();
        shards.filter(|shard| shard["phase"] == "running").filter_map(|shard| shard["shard"].as_u64()).collect()
    }

    /// Waits until it is a member of the group in this role.
    pub fn wait_for_role(&self, role: &str) {
        wait::until(&format!("the role {role}"), LIMIT, || self.role().filter(|now| now == role));
    }

    /// Waits until `/health` names a reason.
    pub fn wait_for_reason(&self, reason: &str) {
        wait::until_or(&format!("the reason {reason}"), LIMIT, || self.process.log(), || self.has_reason(reason)?.then_some(()));
    }

    /// Waits until `/health` names a reason no more.
    pub fn wait_without_reason(&self, reason: &str) {
        wait::until_or(
            &format!("{reason} is over"),
            LIMIT,
            || format!("{:?}\n{}", self.health(), self.process.log()),
            || (!self.has_reason(reason)?).then_some(()),
        );
    }

    /// What `/health` says about a reason.
    pub fn explains(&self, reason: &str) -> String {
        let health = self.health().unwrap_or_default();
        let found = health["reasons"].as_array().into_iter().flatten().find(|one| one["reason"] == reason);
        found.and_then(|one| one["explain"].as_str()).unwrap_or_default().to_owned()
    }

    fn has_reason(&self, reason: &str) -> Option<bool> {
        Some(self.health()?["reasons"].as_array()?.iter().any(|one| one["reason"] == reason))
    }

    /// The sum of a metric over those of its series that have this label.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, text) = http::get(self.admin, "/metrics").expect("metrics");
        let series = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label)));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// One test's part of the world: a topic, a group, a folder, an account.
#[derive(Debug)]
pub struct World {
    /// The shared broker, or one of this test's own.
    pub broker: String,
    /// The source.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Files of this test.
    pub folder: PathBuf,
    /// The account.
    pub account: Account,
    /// The registry's address.
    pub registry: String,
    /// The segment that feeds the list.
    pub segment: String,
    /// The configuration lifts the API key's limits and the hourly ceiling.
    pub unlimited: bool,
    /// How long a stop may take.
    pub drain_seconds: u32,
    /// `source.start`.
    pub start: &'static str,
    /// `starts` of the export.
    pub starts: &'static str,
    /// When what waits is parked.
    pub park_after_seconds: u32,
    writer: EventWriter,
}

impl World {
    /// A world on the shared broker and registry.
    pub fn new(name: &str) -> Self {
        Self::on(name, Broker::shared(), Registry::shared())
    }

    /// A world on a broker and a registry.
    pub fn on(name: &str, broker: &Broker, registry: &Registry) -> Self {
        let folder = scratch(name);
        let (topic, group) = (format!("{name}-changes"), format!("{name}-group"));
        broker.create_topic(&topic, PARTITIONS);
        let id = registry.register(&format!("{topic}-value"), SEGMENT_MEMBERSHIP_CHANGED);
        std::fs::write(folder.join("secret"), "s").expect("a file");
        std::fs::write(folder.join("token"), "t").expect("a file");
        let account = Account::start(&folder, "127.0.0.1:0");
        let writer = EventWriter::new(Some(SchemaId(id)));
        Self {
            broker: broker.address.clone(),
            topic,
            group,
            folder,
            account,
            registry: registry.url(),
            segment: "gold".into(),
            unlimited: false,
            drain_seconds: 20,
            start: "earliest",
            starts: "at_once",
            park_after_seconds: 120,
            writer,
        }
    }

    /// Starts a replica with this world's configuration.
    pub fn replica(&self, name: &str) -> Replica {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&config, self.configuration(admin)).expect("a file");
        let config = config.display().to_string();
        Replica { process: Listkeeper::start(&self.folder, name, &["run", "--config", &config]), admin }
    }

    fn configuration(&self, admin: SocketAddr) -> String {
        let (broker, group, topic, registry, account) =
            (&self.broker, &self.group, &self.topic, &self.registry, self.account.address);
        let (folder, segment, drain, start) = (self.folder.display(), &self.segment, self.drain_seconds, self.start);
        let (starts, park) = (self.starts, self.park_after_seconds);
        let (limits, ceiling) = if self.unlimited {
            (", limits: { calls_per_second: unlimited, calls_per_day: unlimited }", "\n    profiles_per_hour_max: unlimited")
        } else {
            ("", "")
        };
        // Short times, so that takeovers and second looks are awaited in seconds; the promises hold for any.
        format!(
            r#"kafka: {{ brokers: ["{broker}"], group: {group}, options: {{ session.timeout.ms: "3000", heartbeat.interval.ms: "300" }} }}
source: {{ topic: {topic}, start: {start}, avro: {{ registry_url: "{registry}" }} }}
timing: {{ quiet_seconds: 1, request_deadline_seconds: 2, index_lag_seconds: 1, drain_seconds: {drain}, park_after_seconds: {park} }}
state: {{ replication_factor: 1 }}
log: {{ format: text, level: info }}
admin: {{ listen: "{admin}" }}
constant_contact: {{ api_url: "http://{account}/v3", token_url: "http://{account}/oauth2/token" }}
applications: {{ main: {{ client_id: abc, client_secret_file: {folder}/secret, refresh_tokens: rotating{limits} }} }}
connections:
  news:
    display_name: Newsletter
    application: main
    token_store: {{ access_token_file: {folder}/token }}
    privacy_consent: {{ accepted_by: ana, accepted_at: "2026-11-20T09:00:00Z", text: v1 }}
exports:
  vip:
    connection: news
    list: {{ name: {LIST}, create: true }}
    segments: [{segment}]
    fields: {{ email: profile.email, first_name: profile.first_name, custom: {{ Tier: profile.attributes.tier }} }}
    starts: {starts}{ceiling}
"#
        )
    }

    /// The value of an event in the segment `gold`; without a first name the profile is null.
    pub fn value(&self, profile: &str, segment: &str, change: ChangeKind, first_name: Option<&str>) -> Vec<u8> {
        let email = address(profile);
        let fields = first_name.map(|first_name| WrittenProfile {
            email: Some(&email),
            first_name: Some(first_name),
            last_name: None,
            attributes: &[("tier", "1")],
        });
        let event = WrittenEvent {
            event_id: "e",
            profile_id: profile,
            segment_id: Some(segment),
            change,
            occurred_at: UnixMillis(1_795_478_400_000),
            profile: fields,
        };
        let mut value = Vec::new();
        self.writer.value(&event, &mut value);
        value
    }

    /// Writes one change for each of these profiles, each profile to its own partition for good.
    pub fn produce(&self, broker: &Broker, change: ChangeKind, profiles: std::ops::Range<u32>, first_name: Option<&str>) {
        for partition in 0..PARTITIONS {
            let mine = profiles.clone().filter(|profile| partition_of(*profile) == partition).map(profile);
            let records: Vec<(String, Vec<u8>)> =
                mine.map(|profile| (profile.clone(), self.value(&profile, &self.segment, change, first_name))).collect();
            let records: Vec<(&[u8], &[u8])> = records.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())).collect();
            broker.produce(&self.topic, partition, &records);
        }
    }

    /// Waits until the list has exactly these members, and every offset is committed.
    pub fn wait_for(&self, broker: &Broker, members: impl IntoIterator<Item = u32>, replicas: &[&Replica]) {
        let expected: BTreeSet<String> = members.into_iter().map(|number| address(&profile(number))).collect();
        let logs = || replicas.iter().map(|replica| replica.process.log()).collect::<Vec<_>>().join("\n---\n");
        wait::until_or("the list equals the fold", LIMIT, logs, || (self.account.members(LIST) == expected).then_some(()));
        wait::until_or("every offset is committed", LIMIT, logs, || {
            let committed = |partition| broker.committed(&format!("{}.0", self.group), &self.topic, partition).unwrap_or(0);
            (0..PARTITIONS).all(|partition| committed(partition) == broker.end(&self.topic, partition)).then_some(())
        });
    }
}

/// A profile's id.
pub fn profile(number: u32) -> String {
    format!("p{number}")
}

/// Its address.
pub fn address(profile: &str) -> String {
    format!("{profile}@example.com")
}

/// Its partition.
pub fn partition_of(number: u32) -> i32 {
    i32::try_from(number).expect("small") % PARTITIONS
}
