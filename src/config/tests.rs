//! The two examples, and a table of faults.

use std::collections::BTreeMap;

use crate::model::catalog::RemovalBrake;

use super::{Config, ConfigErrors, Secrets, parse};

const SMALLEST: &str = include_str!("../../tests/fixtures/config/example.yaml");
const FULL: &str = include_str!("../../tests/fixtures/config/example-full.yaml");

fn check(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let environment: BTreeMap<String, String> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    parse(text, &environment, Secrets::Skip)
}

fn errors(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    check(text, environment).map_or_else(|found| found.0.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

#[test]
fn the_smallest_example_passes_with_the_defaults() {
    let config = check(SMALLEST, &[]).unwrap();
    assert_eq!((config.state.topic.as_str(), config.dead_letters.topic.as_str()), ("listkeeper.state", "listkeeper.dead"));
    assert!(config.not_yet.is_empty());
    assert_eq!(config.endpoints.api.as_str(), "https://api.cc.email/v3");
    let export = &config.catalog.exports[0];
    assert_eq!((export.profiles_per_hour_max, export.starts_at_once), (Some(1_000_000), false));
    assert_eq!(export.removal_brake, Some(RemovalBrake { percent: 20, contacts_min: 1_000 }));
    let unbraked = format!("{SMALLEST}    removals: {{ hold_above_percent: 100 }}\n");
    assert_eq!(check(&unbraked, &[]).unwrap().catalog.exports[0].removal_brake, None);
    assert_eq!(config.catalog.fields, ["profile.email"]);
    assert_eq!(config.catalog.applications[0].calls_per_second, Some(4));
}

#[test]
fn the_full_example_parses_and_names_what_is_not_there_yet() {
    let config = check(FULL, &[]).unwrap();
    let paths: Vec<&str> = config.not_yet.iter().map(|not_yet| not_yet.path.as_str()).collect();
    assert_eq!(paths, ["connections.newsletter.token_store.kubernetes_secret", "exports.vip.mode",]);
    let names: Vec<&str> = config.catalog.exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!(names, ["trials", "vip"]);
    let (trials, vip) = (&config.catalog.exports[0].mapping, &config.catalog.exports[1].mapping);
    assert_eq!(trials.email, vip.email, "a field that two exports map is one field");
    assert_ne!(trials.hash, vip.hash);
    assert_eq!(config.catalog.fields.len(), 4);
}

#[test]
fn members_from_before_are_adopted_only_where_all_that_the_topic_tells_is_read() {
    let adopts = SMALLEST.replace("    segments: [", "    existing_members: adopt\n    segments: [");
    assert!(check(&adopts, &[]).unwrap().catalog.exports[0].adopts_existing);
    let later = adopts.replace("    segments: [", "    backfill: none\n    segments: [");
    let found = errors(&later, &[]);
    assert!(found.len() == 1 && found[0].starts_with("exports.spring.existing_members (line"), "{found:?}");
}

#[test]
fn each_fault_is_told_with_its_path() {
    // What is replaced in the smallest example, by what, and how the one error begins.
    let table = [
        ("email: profile.email", "emial: profile.email", "exports.spring.fields.email"),
        ("connection: newsletter", "connection: other", "exports.spring.connection (line"),
        ("application: main", "application: other", "connections.newsletter.application (line"),
        ("[spring-customers]", "[a, a]", "exports.spring.segments (line"),
        ("[spring-customers]", "[]", "exports.spring.segments (line"),
        ("[spring-customers]", "[7]", "exports.spring.segments.0 (line"),
        ("rotating  ", "sometimes ", "applications.main.refresh_tokens (line"),
        ("http://registry:8081", "registry", "source.avro.registry_url (line"),
        ("kafka:9092", "kafka", "kafka.brokers (line"),
        (
            "group: listkeeper }",
            "group: listkeeper, options: { isolation.level: read_uncommitted } }",
            "kafka.options.isolation.level (line",
        ),
        ("04fe9a97-a579-43c5-bb1a-58ed29bf0a6a", "spring", "exports.spring.list.id (line"),
        ("id: 04fe9a97-a579-43c5-bb1a-58ed29bf0a6a", "name: Listkeeper staging 01", "exports.spring.list.name: begins with"),
        ("topic: segment-membership", "topic: listkeeper.state", "state (the group's name and .state)"),
        ("display_name", "display_nam", "connections.newsletter.display_nam"),
    ];
    for (from, to, begins) in table {
        assert!(SMALLEST.contains(from), "{from}");
        let found = errors(&SMALLEST.replace(from, to), &[]);
        assert!(found.iter().any(|error| error.starts_with(begins)), "{from} → {to}: {found:#?}");
    }
}

#[test]
fn all_errors_come_at_once_and_without_values() {
    let text = SMALLEST
        .replace("topic:", "topik:")
        .replace("1a2b3c4d", "[hunter2]")
        .replace("listkeeper }", "hunter2!, bogus: hunter2 }");
    let found = errors(&text, &[]);
    assert!(found.len() >= 5, "{found:#?}");
    assert!(found.iter().any(|error| error.contains("did you mean topic?")), "{found:#?}");
    assert!(!found.iter().any(|error| error.contains("hunter2")), "{found:#?}");
    let broken = errors("kafka: [hunter2", &[]);
    assert!(broken.len() == 1 && !broken[0].contains("hunter2"), "{broken:#?}");
}

#[test]
fn the_environment_overrides_keys_and_an_unknown_one_is_an_error() {
    let config =
        check(SMALLEST, &[("LISTKEEPER__KAFKA__GROUP", "other"), ("LISTKEEPER__STATE__SHARDS", "3"), ("HOME", "/")]).unwrap();
    assert_eq!((config.state.topic.as_str(), config.state.shards), ("other.state", 3));
    assert_eq!(
        errors(SMALLEST, &[("LISTKEEPER__KAFKA__GRUOP", "x")]),
        ["kafka.gruop: is no key of the configuration: did you mean group?"]
    );
    assert_eq!(errors(SMALLEST, &[("LISTKEEPER__KAFKA__GROUP__X", "x")]).len(), 1);
}

#[test]
fn what_two_entries_may_not_share_is_refused() {
    let two = |section: &str, added: &str| SMALLEST.replace(&format!("\n{section}:\n"), &format!("\n{section}:\n{added}\n"));
    let application = "  second: { client_id: 1a2b3c4d, client_secret_file: /s, refresh_tokens: rotating }";
    let connection =
        "  second: { display_name: B, application: main, token_store: { file: /var/lib/listkeeper/newsletter.json } }";
    let export = "  second: { connection: newsletter, list: { id: \"https://x/04fe9a97-a579-43c5-bb1a-58ed29bf0a6a\" }, segments: [a], fields: { email: e } }";
    for (section, added, begins) in [
        ("applications", application, "applications.second.client_id"),
        ("connections", connection, "connections.second.token_store"),
        ("exports", export, "exports.spring.list"),
    ] {
        let found = errors(&two(section, added), &[]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(begins) || section != "exports", "{found:#?}");
        assert!(found[0].contains("is also the"), "{found:#?}");
    }
}

#[test]
fn secrets_are_read_from_their_files_and_a_missing_one_is_an_error() {
    let folder = std::env::temp_dir().join(format!("listkeeper-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let secret = folder.join("client-secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let environment = |path: &std::path::Path| {
        BTreeMap::from([("LISTKEEPER__APPLICATIONS__MAIN__CLIENT_SECRET_FILE".to_owned(), path.display().to_string())])
    };
    let config = parse(SMALLEST, &environment(&secret), Secrets::Read).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&config.applications[0].client_secret), "s3cret");
    let found = parse(SMALLEST, &environment(&folder.join("absent")), Secrets::Read).unwrap_err();
    assert_eq!((found.0.len(), found.0[0].path.as_str()), (1, "applications.main.client_secret_file"));
    std::fs::remove_dir_all(&folder).unwrap();
}
