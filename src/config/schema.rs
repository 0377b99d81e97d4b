//! The JSON Schema of the configuration file, made of the questions that the walk asks.
//!
//! Draft 7, the newest that editors with YAML support agree on. It tells keys, types, bounds, words, defaults and what keys of one table say
//! about one another. What it cannot tell (names that must exist elsewhere, files, topics) `listkeeper validate` tells.

use serde_json::{Map, Value, json};

use super::descriptions::DESCRIPTIONS;
use super::question::{Question, Questions, Rule, Shape};
use super::sections;
use super::tree::{Node, Value as Tree};
use super::walk::{ANY_NAME, NAMED_MAX, Table, Walk};

/// Names of applications, connections and exports.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";
/// Names with dots between them; none is empty, or begins or ends with a blank.
pub(super) const DOTTED_PATTERN: &str = r"^[^.\s]([^.]*[^.\s])?(\.[^.\s]([^.]*[^.\s])?)*$";

/// The schema as text, as it lies in `schemas/configuration.schema.json`.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let questions = questions();
    let mut schema = table(&questions, "");
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("Configuration of Listkeeper"));
    schema.insert("description".to_owned(), json!(describe("")));
    Value::Object(schema)
}

/// Everything that the walk asks.
pub(super) fn questions() -> Questions {
    let walk = Walk::describing();
    // What a walk over nothing yields is thrown away, its faults too.
    drop(Table::root(&walk, &Node { value: Tree::Null, line: None }, sections::config));
    walk.into_questions()
}

fn describe(path: &str) -> &'static str {
    DESCRIPTIONS.iter().find(|(described, _)| *described == path).map_or("", |(_, text)| text)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The keys of a table.
fn children<'q>(questions: &'q Questions, path: &'q str) -> impl Iterator<Item = (&'q str, &'q Question)> {
    questions.keys.iter().filter_map(move |(key, question)| {
        let rest = if path.is_empty() { key } else { key.strip_prefix(path)?.strip_prefix('.')? };
        (!rest.contains('.')).then_some((rest, question))
    })
}

fn rules<'q>(questions: &'q Questions, path: &'q str) -> impl Iterator<Item = &'q Rule> {
    questions.rules.iter().filter(move |(table, _)| table == path).map(|(_, rule)| rule)
}

/// Whether the table at this path cannot be empty.
fn needs_content(questions: &Questions, path: &str) -> bool {
    let one_of = rules(questions, path).any(|rule| matches!(rule, Rule::OneOf(_)));
    one_of || children(questions, path).any(|(key, question)| is_required(questions, &join(path, key), question))
}

fn is_required(questions: &Questions, path: &str, question: &Question) -> bool {
    let opened = matches!(question.shape, Shape::Table { absent_is_empty: true });
    question.required || (opened && needs_content(questions, path))
}

fn table(questions: &Questions, path: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (key, question) in children(questions, path) {
        let path = join(path, key);
        if is_required(questions, &path, question) {
            required.push(key);
        }
        properties.insert(key.to_owned(), Value::Object(value(questions, &path, question)));
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let mut conditions = Vec::new();
    for rule in rules(questions, path) {
        match rule {
            Rule::OneOf(keys) => {
                let each: Vec<Value> = keys.iter().map(|key| json!({ "required": [key] })).collect();
                schema.insert("oneOf".to_owned(), json!(each));
            }
            Rule::GoesWith { key, other } => conditions.push(json!({ "dependencies": { *key: [other] } })),
            Rule::OnlyWhere { key, switch, words } => conditions.push(json!({
                "if": { "required": [key] },
                "then": { "required": [switch], "properties": { *switch: { "enum": words } } },
            })),
            Rule::NeededWhere { key, switch, words } => conditions.push(json!({
                "if": { "required": [switch], "properties": { *switch: { "enum": words } } },
                "then": { "required": [key] },
            })),
        }
    }
    if !conditions.is_empty() {
        schema.insert("allOf".to_owned(), Value::Array(conditions));
    }
    schema
}

fn value(questions: &Questions, path: &str, question: &Question) -> Map<String, Value> {
    let any_text = || json!({ "type": "string", "pattern": r"\S" });
    let bounded =
        |bounds: &std::ops::RangeInclusive<u64>| json!({ "type": "integer", "minimum": bounds.start(), "maximum": bounds.end() });
    let entry = || Value::Object(table(questions, &join(path, ANY_NAME)));
    let shape = match &question.shape {
        Shape::Text => any_text(),
        Shape::Dotted => json!({ "type": "string", "pattern": DOTTED_PATTERN }),
        Shape::Url => json!({ "type": "string", "pattern": "^https?://", "format": "uri" }),
        Shape::Texts { least: 0 } => json!({ "type": "array", "items": any_text() }),
        Shape::Texts { least } => json!({ "type": "array", "items": any_text(), "minItems": least }),
        Shape::Number(bounds) => bounded(bounds),
        Shape::Limit(bounds) => json!({ "anyOf": [bounded(bounds), { "const": "unlimited" }] }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::WordList(words) => {
            json!({ "type": "array", "items": { "enum": words }, "minItems": 1, "uniqueItems": true })
        }
        Shape::WordsOrTable(words) => json!({ "anyOf": [{ "enum": words }, table(questions, path)] }),
        Shape::Table { .. } => {
            let mut schema = table(questions, path);
            if !needs_content(questions, path) {
                // A table that is opened and left empty, as in `json:`.
                schema.insert("type".to_owned(), json!(["object", "null"]));
            }
            Value::Object(schema)
        }
        Shape::Tables => json!({ "type": "array", "items": entry() }),
        Shape::Named => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": entry(),
            "minProperties": 1,
            "maxProperties": NAMED_MAX,
        }),
        Shape::NamedTexts => {
            json!({ "type": "object", "additionalProperties": { "type": "array", "items": any_text() } })
        }
        Shape::NamedText { scalars: false } => json!({ "type": "object", "additionalProperties": any_text() }),
        Shape::NamedText { scalars: true } => {
            json!({ "type": "object", "additionalProperties": { "anyOf": [any_text(), { "type": ["number", "boolean"] }] } })
        }
    };
    let mut schema = match shape {
        Value::Object(schema) => schema,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    schema.insert("description".to_owned(), json!(describe(path)));
    if let Some(default) = &question.default {
        schema.insert("default".to_owned(), default.clone());
    }
    schema
}

#[cfg(test)]
mod tests;
