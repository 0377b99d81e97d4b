//! The sections of the file that stand for themselves: Kafka, source, state, endpoints, the admin port.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use url::Url;

use crate::model::Text;
use crate::model::catalog::Timing;

use super::walk::Table;
use super::{
    Admin, Config, DeadLetters, Endpoints, Kafka, Log, LogFormat, Registry, Sasl, Security, SecurityProtocol, Source,
    SourceFields, SourceFormat, Start, State, catalog, exports,
};

/// Options of librdkafka that a promise, or a key of this file, rests on.
const REFUSED_OPTIONS: [(&str, &str); 37] = [
    ("bootstrap.servers", "kafka.brokers says it"),
    ("metadata.broker.list", "kafka.brokers says it"),
    ("group.id", "kafka.group says it"),
    ("security.protocol", "kafka.security.protocol says it"),
    ("sasl.mechanism", "kafka.security.mechanism says it"),
    ("sasl.mechanisms", "kafka.security.mechanism says it"),
    ("sasl.username", "kafka.security.username says it"),
    ("sasl.password", "kafka.security.password_file says it"),
    ("ssl.ca.location", "kafka.security.ca_file says it"),
    ("ssl.ca.pem", "kafka.security.ca_file says it"),
    ("ssl.key.pem", "a secret belongs into a file: ssl.key.location names it"),
    ("ssl.key.password", "a secret belongs into a file: use a key without a password that only this process may read"),
    ("ssl.keystore.password", "a secret belongs into a file: ssl.key.location names it"),
    ("sasl.oauthbearer.client.secret", "a secret belongs into a file"),
    ("group.instance.id", "one shard has one owner"),
    ("group.protocol", "one shard has one owner"),
    ("partition.assignment.strategy", "one shard has one owner"),
    ("enable.auto.commit", "nothing_lost rests on it"),
    ("auto.commit.enable", "nothing_lost rests on it"),
    ("auto.commit.interval.ms", "nothing_lost rests on it"),
    ("enable.auto.offset.store", "nothing_lost rests on it"),
    ("offset.store.method", "nothing_lost rests on it"),
    ("auto.offset.reset", "nothing_lost rests on it; source.start says where to begin the first time"),
    ("isolation.level", "nothing_lost rests on it"),
    ("enable.partition.eof", "the end of the state is found by it"),
    ("transactional.id", "one sender per application rests on it"),
    ("transaction.timeout.ms", "one sender per application rests on it"),
    ("message.timeout.ms", "one sender per application rests on it"),
    ("delivery.timeout.ms", "one sender per application rests on it"),
    ("acks", "nothing_lost rests on it"),
    ("request.required.acks", "nothing_lost rests on it"),
    ("enable.idempotence", "nothing_lost rests on it"),
    ("enable.gapless.guarantee", "nothing_lost rests on it"),
    ("retries", "nothing_lost rests on it"),
    ("message.send.max.retries", "nothing_lost rests on it"),
    ("allow.auto.create.topics", "topics are made with settings of their own"),
    ("plugin.library.paths", "foreign code breaks every promise"),
];

/// Limits of in-flight requests, under their many names, decide about order.
const REFUSED_PREFIXES: [(&str, &str); 2] =
    [("max.in.flight", "nothing_lost rests on the order of records"), ("test.", "it is for tests of the client")];

/// Reads the whole file.
pub(super) fn config(root: &Table<'_>) -> Config {
    let kafka = root.table("kafka", kafka);
    let source = root.table("source", source);
    let dead_letters = root.table("dead_letters", |table| dead_letters(table, &kafka.group));
    let state = root.table("state", |table| state(table, &kafka.group));
    let mut topics = BTreeMap::new();
    for (path, topic) in [
        ("source.topic", &source.topic),
        ("state (the group's name and .state)", &state.topic),
        ("dead_letters.topic", &dead_letters.topic),
    ] {
        if !topic.is_empty()
            && let Some(earlier) = topics.insert(topic, path)
        {
            root.walk().fault(path, None, format!("names the topic of {earlier} too: give each its own"));
        }
    }
    let teams: Vec<(Text, Vec<Text>)> = root
        .named_texts("teams")
        .into_iter()
        .map(|(name, members)| (name.into(), members.into_iter().map(Text::from).collect()))
        .collect();
    let timing = root.table("timing", timing);
    let log = root.table("log", log);
    let endpoints = root.table("constant_contact", endpoints);
    let admin = root.table("admin", admin);
    let applications = exports::applications(root);
    let connections = exports::connections(root, &teams, &applications);
    let found = exports::exports(root, &teams, &connections);
    let catalog = Arc::new(catalog::build(&applications, &connections, &found, timing, state.max_profiles));
    Config {
        kafka,
        source,
        dead_letters,
        state,
        teams,
        log,
        endpoints,
        admin,
        applications: applications.into_iter().map(|application| application.config).collect(),
        connections: connections.into_iter().map(|connection| connection.config).collect(),
        exports: found.into_iter().map(|export| export.config).collect(),
        catalog,
        not_yet: Vec::new(),
    }
}

fn kafka(table: &Table<'_>) -> Kafka {
    let brokers = table.need_texts("brokers", "name at least one broker, as in [kafka:9092]");
    for broker in &brokers {
        let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            table.fault("brokers", "each must be host:port, as in kafka:9092");
        }
    }
    let group = table.need_text("group", "name the consumer group; the state topic and the dead letters are named after it");
    check_topic(table, "group", &group, 200);
    let security = table.table_if("security", security);
    let options: BTreeMap<String, String> = table.named_text("options", true).into_iter().collect();
    for option in options.keys() {
        let exact = REFUSED_OPTIONS.iter().find(|(name, _)| name == option);
        let refused = exact.or_else(|| REFUSED_PREFIXES.iter().find(|(prefix, _)| option.starts_with(prefix)));
        if let Some((_, reason)) = refused {
            table.walk().fault(
                &table.path_of(&format!("options.{option}")),
                table.line,
                format!("may not be set: {reason}; remove it"),
            );
        }
    }
    Kafka { brokers, group, security, options }
}

/// The words of `protocol` that sign in, and those that use TLS.
const SIGNS_IN: &[&str] = &["sasl_ssl", "sasl_plaintext"];
const HAS_TLS: &[&str] = &["sasl_ssl", "ssl"];

fn security(table: &Table<'_>) -> Security {
    let protocols =
        [SecurityProtocol::SaslSsl, SecurityProtocol::Ssl, SecurityProtocol::SaslPlaintext, SecurityProtocol::Plaintext];
    let words = protocols.map(|protocol| (protocol.as_str(), protocol));
    let protocol = table.need_choice("protocol", words, "one of sasl_ssl, ssl, sasl_plaintext, plaintext");
    let mechanisms = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"].map(|mechanism| (mechanism, mechanism));
    let mechanism = table.choice_if("mechanism", mechanisms);
    let username = table.text("username");
    let password = table.secret("password_file");
    for (key, remedy) in [
        ("mechanism", "one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN"),
        ("username", "name the user that signs in at the brokers"),
        ("password_file", "name the file with the user's password"),
    ] {
        table.needed_where(key, "protocol", SIGNS_IN, remedy);
        table.only_where(key, "protocol", SIGNS_IN);
    }
    let ca_file = table.path("ca_file");
    table.only_where("ca_file", "protocol", HAS_TLS);
    let sasl = match (mechanism, username, password) {
        (Some(mechanism), Some(username), Some(password)) => Some(Sasl { mechanism, username, password }),
        _ => None,
    };
    Security { protocol, sasl, ca_file }
}

fn source(table: &Table<'_>) -> Source {
    let topic = table.need_text("topic", "name the topic with the segment changes");
    check_topic(table, "topic", &topic, 249);
    let start = table.choice("start", [("earliest", Start::Earliest), ("latest", Start::Latest)]);
    let avro = table.table_if("avro", avro);
    let json = table.table_if("json", |_| SourceFormat::Json);
    let remedy = "avro: { registry_url: … }, avro: { schema_file: … } or json: {}";
    table.one_of([("avro", avro.is_some()), ("json", json.is_some())], remedy);
    let fields = table.table("fields", source_fields);
    Source { topic, start, format: avro.or(json).unwrap_or(SourceFormat::Json), fields }
}

fn avro(table: &Table<'_>) -> SourceFormat {
    let url = table.url("registry_url");
    let schema_file = table.path("schema_file");
    let username = table.text("username");
    let password = table.secret("password_file");
    let remedy = "the address of the schema registry, or the file with the one schema";
    table.one_of([("registry_url", table.has("registry_url")), ("schema_file", schema_file.is_some())], remedy);
    table.goes_with("username", "registry_url");
    table.goes_with("username", "password_file");
    table.goes_with("password_file", "username");
    match (url, schema_file) {
        (Some(url), _) => SourceFormat::Avro(Registry { url, username, password }),
        (None, Some(schema_file)) => SourceFormat::AvroFile { schema_file },
        (None, None) => SourceFormat::Json,
    }
}

fn source_fields(table: &Table<'_>) -> SourceFields {
    let path = |key| Text::from(table.dotted_or(key, key));
    let (entered, exited, updated) = table.table("changes", |words| {
        let word = |key, default: &str| Text::from(words.text_or(key, default));
        let found = (word("entered", "ENTERED"), word("exited", "EXITED"), word("updated", "UPDATED"));
        if found.0 == found.1 || found.1 == found.2 || found.0 == found.2 {
            table.fault("changes", "has one word for two changes: give each its own");
        }
        found
    });
    SourceFields {
        profile_id: path("profile_id"),
        segment_id: path("segment_id"),
        change: path("change"),
        occurred_at: Some(path("occurred_at")),
        entered,
        exited,
        updated,
    }
}

fn check_topic(table: &Table<'_>, key: &'static str, name: &str, length_max: usize) {
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !name.is_empty() && (!fits || name.len() > length_max || name == "." || name == "..") {
        table.fault(
            key,
            format!("is no name that Kafka takes: use letters, digits, dots, dashes and underscores, at most {length_max}"),
        );
    }
}

fn dead_letters(table: &Table<'_>, group: &str) -> DeadLetters {
    let topic = table.text("topic").unwrap_or_else(|| if group.is_empty() { String::new() } else { format!("{group}.dead") });
    check_topic(table, "topic", &topic, 249);
    DeadLetters {
        topic,
        retention_days: narrow(table.number("retention_days", 1..=3650, 14)),
        hold_above_percent: narrow(table.number("hold_above_percent", 1..=100, 5)),
    }
}

fn state(table: &Table<'_>, group: &str) -> State {
    let replication_factor = table.number_if("replication_factor", 1..=32).map_or(-1, narrow);
    State {
        topic: if group.is_empty() { String::new() } else { format!("{group}.state") },
        shards: narrow(table.number("shards", 1..=1000, 1)),
        replication_factor,
        max_profiles: table.number("max_profiles", 1..=1_000_000_000, 20_000_000),
    }
}

fn timing(table: &Table<'_>) -> Timing {
    let usual = Timing::default();
    let ms = |key, default_ms: u64, most_s: u64| table.number(key, 1..=most_s, default_ms / 1000).saturating_mul(1000);
    Timing {
        park_after_ms: ms("park_after_seconds", usual.park_after_ms, 86_400),
        index_lag_ms: ms("index_lag_seconds", usual.index_lag_ms, 86_400),
        quiet_ms: ms("quiet_seconds", usual.quiet_ms, 3600),
        drain_ms: ms("drain_seconds", usual.drain_ms, 3600),
        request_deadline_ms: ms("request_deadline_seconds", usual.request_deadline_ms, 300),
    }
}

fn log(table: &Table<'_>) -> Log {
    let levels = ["info", "debug", "trace", "warn", "error"].map(|level| (level, level));
    Log {
        format: table.choice("format", [("json", LogFormat::Json), ("text", LogFormat::Text)]),
        level: table.choice("level", levels),
    }
}

fn endpoints(table: &Table<'_>) -> Endpoints {
    Endpoints {
        api: endpoint(table, "api_url", "https://api.cc.email/v3"),
        token: endpoint(table, "token_url", "https://authz.constantcontact.com/oauth2/default/v1/token"),
        authorize: endpoint(table, "authorize_url", "https://authz.constantcontact.com/oauth2/default/v1/authorize"),
    }
}

fn endpoint(table: &Table<'_>, key: &'static str, own: &'static str) -> Url {
    let own = match Url::parse(own) {
        Ok(url) => url,
        // A constant of this file, held by a test.
        Err(error) => unreachable!("the vendor's own address: {error}"),
    };
    let mut url = table.url_or(key, &own);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url
}

fn admin(table: &Table<'_>) -> Admin {
    let listen = table.text_or("listen", "127.0.0.1:9464").parse::<SocketAddr>();
    if listen.is_err() {
        table.fault("listen", "is no address to listen on: write an IP address and a port, as in 127.0.0.1:9464");
    }
    let tokens: Vec<(Text, secrecy::SecretString)> = table.tables("tokens", |token| {
        let name = token.need_text("name", "name the person who has this token");
        (name.into(), token.need_secret("token_file", "name the file with the token"))
    });
    let mut names: Vec<&Text> = tokens.iter().map(|(name, _)| name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        table.fault("tokens", "has two tokens of one name: give each person one");
    }
    Admin {
        listen: listen.unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        public_url: table.url("public_url"),
        tokens,
    }
}

/// A number that was checked against bounds of the narrower type.
pub(super) fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}
