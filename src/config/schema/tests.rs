//! The committed schema, and that schema and walk refuse the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{DESCRIPTIONS, Questions, Shape, questions, schema, text};
use crate::config::{ConfigErrors, Secrets, parse};

const SMALLEST: &str = include_str!("../../../tests/fixtures/config/example.yaml");
const FULL: &str = include_str!("../../../tests/fixtures/config/example-full.yaml");
const COMMITTED: &str = include_str!("../../../schemas/configuration.schema.json");

fn document(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// The examples and what they leave out: together, every key of the configuration.
fn documents() -> Vec<Value> {
    let mut json_events = document(SMALLEST);
    json_events["source"] = json!({ "topic": "changes", "json": {}, "start": "latest" });
    json_events["applications"]["main"]["limits"] = json!({ "calls_per_second": "unlimited", "calls_per_day": 250_000 });
    json_events["connections"]["newsletter"]["token_store"] = json!({ "access_token_file": "/token" });
    let mut file_events = document(SMALLEST);
    file_events["source"]["avro"] = json!({ "schema_file": "/schema.avsc" });
    vec![document(SMALLEST), document(FULL), json_events, file_events]
}

/// JSON is YAML too.
fn walk(document: &Value) -> Result<(), ConfigErrors> {
    parse(&document.to_string(), &BTreeMap::new(), Secrets::Skip).map(drop)
}

/// Every path in a document, as the questions have it (`*` for names and items), with the way to it.
fn places(value: &Value, questions: &Questions, pattern: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, value) in entries {
        let child = |key: &str| if pattern.is_empty() { key.to_owned() } else { format!("{pattern}.{key}") };
        let pointer = format!("{pointer}/{key}");
        if questions.keys.contains_key(&child(&key)) {
            found.push((child(&key), pointer.clone()));
            places(value, questions, &child(&key), &pointer, found);
        } else {
            places(value, questions, &child("*"), &pointer, found);
        }
    }
}

#[test]
fn the_committed_schema_is_the_one_that_the_walk_asks_for() {
    let remedy = "write it anew: cargo run --release -- validate --print-schema > schemas/configuration.schema.json";
    assert!(COMMITTED == text(), "schemas/configuration.schema.json is not what the code describes; {remedy}");
}

#[test]
fn each_key_is_described_and_nothing_else_is() {
    let questions = questions();
    let asked: BTreeSet<&str> = questions.keys.keys().map(String::as_str).chain([""]).collect();
    let described: BTreeSet<&str> = DESCRIPTIONS.iter().map(|(path, _)| *path).collect();
    assert_eq!(asked, described);
    assert!(DESCRIPTIONS.iter().all(|(_, text)| text.ends_with('.')));
    assert_eq!(described.len(), DESCRIPTIONS.len(), "one of them twice");
}

#[test]
fn the_examples_and_their_variants_pass_both_and_hold_every_key() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let questions = questions();
    let mut seen = BTreeSet::new();
    for document in documents() {
        assert_eq!(walk(&document), Ok(()));
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0]);
        let mut found = Vec::new();
        places(&document, &questions, "", "", &mut found);
        seen.extend(found.into_iter().map(|(pattern, _)| pattern));
    }
    let missing: Vec<&String> = questions.keys.keys().filter(|path| !seen.contains(*path)).collect();
    assert_eq!(missing, [""; 0], "keys that no document of this test has: none of the tests below would reach them");
}

/// What the walk alone can know: that a name leads somewhere, what texts mean, that two entries share something.
fn beyond_the_schema(problem: &str) -> bool {
    let known = [
        "names no application",
        "names no connection",
        "names a team",
        "may not use this connection",
        "is no time with a zone",
        "has no list id in it",
        "is no address to listen on",
        "must be host:port",
        "is no name that Kafka takes",
        "has one word for two changes",
    ];
    known.iter().any(|text| problem.contains(text))
}

/// Whether both refuse a changed document; that only one does is a fault.
fn agree(validator: &jsonschema::Validator, document: &Value, what: &str, faults: &mut Vec<String>) -> bool {
    let refused = match walk(document) {
        Ok(()) => false,
        Err(errors) => errors.0.iter().any(|error| !beyond_the_schema(&error.problem)),
    };
    let errors: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    if refused == errors.is_empty() {
        faults.push(format!("{what}: the walk says {:?}, the schema {errors:?}", walk(document)));
    }
    refused
}

#[test]
fn schema_and_walk_refuse_the_same_keys() {
    let (schema, questions) = (schema(), questions());
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let (mut refused, mut faults) = (0, Vec::new());
    for document in documents() {
        let mut found = Vec::new();
        places(&document, &questions, "", "", &mut found);
        for (_, pointer) in found {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let mut without = document.clone();
            let Some(Value::Object(entries)) = without.pointer_mut(parent) else { panic!("{pointer}") };
            let value = entries.remove(key).unwrap();
            agree(&validator, &without, &format!("without {pointer}"), &mut faults);
            let Some(Value::Object(entries)) = without.pointer_mut(parent) else { panic!("{pointer}") };
            entries.insert(format!("{key}_"), value);
            let what = format!("{pointer} written with a letter too many");
            assert!(agree(&validator, &without, &what, &mut faults), "{what}");
            refused += 1;
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(refused > 150, "{refused}");
}

#[test]
fn schema_and_walk_refuse_the_same_values() {
    let (schema, questions) = (schema(), questions());
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let mut faults = Vec::new();
    for document in documents() {
        let mut found = Vec::new();
        places(&document, &questions, "", "", &mut found);
        for (pattern, pointer) in found {
            let mut values = vec![
                json!(true),
                json!(-1),
                json!(0.5),
                json!("no such word"),
                json!(" "),
                json!([]),
                json!([7]),
                json!({ "x": 1 }),
            ];
            match &questions.keys[&pattern].shape {
                Shape::Number(bounds) | Shape::Limit(bounds) => values.extend(
                    [*bounds.start(), *bounds.end(), bounds.end() + 1, bounds.start().saturating_sub(1)].map(Value::from),
                ),
                Shape::Words(words) | Shape::WordsOrTable(words) => values.extend(words.iter().map(|word| json!(word))),
                Shape::WordList(words) => values.extend([json!(words), json!([words[0], words[0]]), json!(["other"])]),
                Shape::Text
                | Shape::Dotted
                | Shape::Url
                | Shape::Texts { .. }
                | Shape::Flag
                | Shape::Table { .. }
                | Shape::Tables
                | Shape::Named
                | Shape::NamedTexts
                | Shape::NamedText { .. } => values.extend([json!("a.b"), json!("a..b"), json!("http://h/p"), json!({})]),
            }
            for value in values {
                let mut changed = document.clone();
                *changed.pointer_mut(&pointer).unwrap() = value.clone();
                agree(&validator, &changed, &format!("{pointer}: {value}"), &mut faults);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_keys_say_about_one_another_is_in_the_schema() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let mut faults = Vec::new();
    for (pointer, value) in [
        ("/kafka/security", json!({ "protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "u" })),
        ("/kafka/security", json!({ "protocol": "ssl", "username": "u" })),
        ("/kafka/security", json!({ "protocol": "plaintext", "ca_file": "/ca" })),
        ("/source/avro", json!({ "registry_url": "http://r", "schema_file": "/s" })),
        ("/source/avro", json!({ "registry_url": "http://r", "username": "u" })),
        ("/source/avro", json!({ "schema_file": "/s", "username": "u", "password_file": "/p" })),
        ("/source/json", json!({})),
        ("/connections/newsletter/token_store", json!({ "file": "/a", "access_token_file": "/b" })),
        ("/connections/newsletter/token_store", json!({})),
        ("/exports/vip/list", json!({ "id": "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a", "create": true })),
        ("/exports/vip/list", json!({ "id": "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a", "name": "n" })),
        ("/applications/shared/client_id", json!("k")),
        ("/applications/a name with blanks", document(FULL)["applications"]["shared"].clone()),
    ] {
        let mut changed = document(FULL);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value.clone();
        assert!(agree(&validator, &changed, &format!("{pointer}: {value}"), &mut faults), "{pointer}: {value} is refused");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
