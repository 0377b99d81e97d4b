//! The file as a tree of nodes that know their line, and the environment laid over it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ConfigError;

/// The beginning of every environment variable that overrides a key.
pub const OVERRIDE_PREFIX: &str = "LISTKEEPER__";

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Line in the file, from 1; `None` for what the environment brought.
    pub(super) line: Option<u64>,
}

/// A value as YAML tells it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What it is, for an error: never the value itself.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, line: Some(spanned.referenced.line()) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = access.next_entry()? {
            entries.insert(key, value);
        }
        Ok(Value::Table(entries))
    }
}

/// Parses a document. The parser's own words may quote the file, so only the place is told.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| ConfigError {
        path: String::new(),
        line: error.location().map(|location| location.line()),
        problem: "not valid YAML here: look at indentation, quotes, brackets, and for a key that is written twice".to_owned(),
    })
}

/// Lays `LISTKEEPER__KAFKA__GROUP=…` over `kafka.group`, for each such variable; values are YAML, an item of a list is named by its number from 0.
pub(super) fn lay_over(root: &mut Node, environment: &BTreeMap<String, String>, errors: &mut Vec<ConfigError>) {
    for (variable, text) in environment {
        let Some(rest) = variable.strip_prefix(OVERRIDE_PREFIX) else { continue };
        let parts: Vec<&str> = rest.split("__").collect();
        let fault = |problem: &str| ConfigError { path: variable.clone(), line: None, problem: problem.to_owned() };
        if parts.iter().any(|part| part.is_empty()) {
            errors.push(fault("a part of the name is empty: write the key's path with two underscores between its parts"));
            continue;
        }
        let Ok(mut value) = parse(text) else {
            errors.push(fault("its value is not valid YAML: put it in quotes"));
            continue;
        };
        forget_lines(&mut value);
        if !set(root, &parts, value) {
            errors.push(fault("it leads into something that is no table: use the path of a key of the configuration"));
        }
    }
}

fn forget_lines(node: &mut Node) {
    node.line = None;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(forget_lines),
        Value::Table(entries) => entries.values_mut().for_each(forget_lines),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

fn set(node: &mut Node, parts: &[&str], value: Node) -> bool {
    let [part, rest @ ..] = parts else {
        *node = value;
        return true;
    };
    if matches!(node.value, Value::Null) {
        *node = Node { value: Value::Table(BTreeMap::new()), line: None };
    }
    match &mut node.value {
        Value::Table(entries) => {
            // Variables are written in capitals: a key that is there is found whatever its case.
            let key =
                entries.keys().find(|key| key.eq_ignore_ascii_case(part)).cloned().unwrap_or_else(|| part.to_ascii_lowercase());
            set(entries.entry(key).or_insert(Node { value: Value::Null, line: None }), rest, value)
        }
        Value::List(items) => match part.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
            Some(item) => set(item, rest, value),
            None => false,
        },
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => false,
    }
}
