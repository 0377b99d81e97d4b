//! The one walk over the tree: every question that is asked of it is answered with a value, and every fault is remembered.
//!
//! A wrong or missing value is answered with a placeholder, so that the walk goes on and finds what else is wrong; placeholders never leave
//! [`super::load`], which gives errors or a configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::tree::{Node, Value};
use super::{ConfigError, NotYet, Secrets};

/// What the walk has found so far.
#[derive(Debug)]
pub(super) struct Walk {
    secrets: Secrets,
    errors: RefCell<Vec<ConfigError>>,
    not_yet: RefCell<Vec<NotYet>>,
}

impl Walk {
    pub(super) fn new(secrets: Secrets, errors: Vec<ConfigError>) -> Self {
        Self { secrets, errors: RefCell::new(errors), not_yet: RefCell::default() }
    }

    pub(super) fn into_found(self) -> (Vec<ConfigError>, Vec<NotYet>) {
        (self.errors.into_inner(), self.not_yet.into_inner())
    }

    pub(super) fn fault(&self, path: &str, line: Option<u64>, problem: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError { path: path.to_owned(), line, problem: problem.into() });
    }

    pub(super) fn not_yet(&self, path: String, text: &'static str) {
        self.not_yet.borrow_mut().push(NotYet { path, text });
    }

    fn secret(&self, place: &Place<'_>, path: &PathBuf) -> SecretString {
        match self.secrets {
            Secrets::Skip => SecretString::default(),
            Secrets::Read => match std::fs::read_to_string(path) {
                Ok(text) if text.trim().is_empty() => {
                    self.fault(&place.path, place.line, "the file is empty: write the secret into it");
                    SecretString::default()
                }
                Ok(text) => SecretString::from(text.trim_end_matches(['\r', '\n'])),
                Err(error) => {
                    let problem =
                        format!("the file cannot be read ({}): create it, or mount it where this path points to", error.kind());
                    self.fault(&place.path, place.line, problem);
                    SecretString::default()
                }
            },
        }
    }
}

/// A table of the tree, with the keys that it was asked for.
#[derive(Debug)]
pub(super) struct Table<'a> {
    walk: &'a Walk,
    pub(super) path: String,
    pub(super) line: Option<u64>,
    entries: &'a BTreeMap<String, Node>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value of a table, with its path.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) path: String,
    pub(super) line: Option<u64>,
    pub(super) value: &'a Value,
}

static NOTHING: BTreeMap<String, Node> = BTreeMap::new();

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'a> Table<'a> {
    /// Reads the whole document with `read`, then reports the keys that nobody asked for.
    pub(super) fn root<T>(walk: &'a Walk, node: &'a Node, read: impl FnOnce(&Self) -> T) -> T {
        let place = Place { path: String::new(), line: node.line, value: &node.value };
        Self::read(walk, &place, read)
    }

    fn read<T>(walk: &'a Walk, place: &Place<'a>, read: impl FnOnce(&Self) -> T) -> T {
        let entries = match place.value {
            Value::Table(entries) => entries,
            Value::Null => &NOTHING,
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                walk.fault(&place.path, place.line, format!("is {}, and must be a table of keys", place.value.kind()));
                &NOTHING
            }
        };
        let table = Self { walk, path: place.path.clone(), line: place.line, entries, asked: RefCell::default() };
        let value = read(&table);
        table.report_unknown();
        value
    }

    fn report_unknown(&self) {
        let asked = self.asked.borrow();
        for (key, node) in self.entries {
            if asked.iter().any(|known| known == key) {
                continue;
            }
            let nearest = asked
                .iter()
                .map(|known| (distance(known, key), *known))
                .min()
                .filter(|(steps, _)| *steps <= 2.max(key.len() / 3));
            let remedy = match nearest {
                Some((_, known)) => format!("did you mean {known}?"),
                None if asked.is_empty() => "nothing may stand here: remove it".to_owned(),
                None => format!("known here are {}", asked.join(", ")),
            };
            self.walk.fault(&self.path_of(key), node.line, format!("is no key of the configuration: {remedy}"));
        }
    }

    /// The walk that this table belongs to.
    pub(super) const fn walk(&self) -> &'a Walk {
        self.walk
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Records a fault of the key.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>) {
        let line = self.entries.get(key).map_or(self.line, |node| node.line);
        self.walk.fault(&self.path_of(key), line, problem);
    }

    /// The value of a key; an empty one counts as absent.
    pub(super) fn place(&self, key: &'static str) -> Option<Place<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let node = self.entries.get(key)?;
        if matches!(node.value, Value::Null) {
            return None;
        }
        Some(Place { path: self.path_of(key), line: node.line, value: &node.value })
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.place(key).is_some()
    }

    fn missing(&self, key: &str, remedy: &str) {
        self.fault(key, format!("is missing: {remedy}"));
    }

    fn wrong(&self, place: &Place<'_>, wanted: &str) {
        let hint = match place.value {
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) if wanted.contains("text") => " (put it in quotes)",
            Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Null
            | Value::Text(_)
            | Value::List(_)
            | Value::Table(_) => "",
        };
        self.walk.fault(&place.path, place.line, format!("is {}, and must be {wanted}{hint}", place.value.kind()));
    }

    fn text_of(&self, place: &Place<'_>) -> Option<String> {
        match place.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.walk.fault(&place.path, place.line, "is an empty text: write a value, or remove the key");
                None
            }
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                self.wrong(place, "a text");
                None
            }
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.text_of(&self.place(key)?)
    }

    pub(super) fn need_text(&self, key: &'static str, remedy: &str) -> String {
        if !self.has(key) {
            self.missing(key, remedy);
        }
        self.text(key).unwrap_or_default()
    }

    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let place = self.place(key)?;
        let Value::List(items) = place.value else {
            self.wrong(&place, "a list of texts, as in [a, b]");
            return Some(Vec::new());
        };
        let places = items.iter().enumerate().map(|(at, item)| Place {
            path: format!("{}.{at}", place.path),
            line: item.line,
            value: &item.value,
        });
        Some(places.filter_map(|item| self.text_of(&item)).collect())
    }

    /// A list of tables, each read with `read`.
    pub(super) fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'a>) -> T) -> Vec<T> {
        let Some(place) = self.place(key) else { return Vec::new() };
        let Value::List(items) = place.value else {
            self.wrong(&place, "a list of tables");
            return Vec::new();
        };
        let places = items.iter().enumerate().map(|(at, item)| Place {
            path: format!("{}.{at}", place.path),
            line: item.line,
            value: &item.value,
        });
        places.map(|item| Self::read(self.walk, &item, &mut read)).collect()
    }

    /// A list of texts that is there and has something in it.
    pub(super) fn need_texts(&self, key: &'static str, remedy: &str) -> Vec<String> {
        match self.texts(key) {
            None => {
                self.missing(key, remedy);
                Vec::new()
            }
            Some(items) => {
                if items.is_empty() && matches!(self.place(key), Some(Place { value: Value::List(list), .. }) if list.is_empty())
                {
                    self.fault(key, format!("is an empty list: {remedy}"));
                }
                items
            }
        }
    }

    /// A whole number within bounds, the default when absent.
    pub(super) fn number(&self, key: &'static str, bounds: std::ops::RangeInclusive<u64>, default: u64) -> u64 {
        self.place(key).map_or(default, |place| self.number_of(&place, &bounds, "").unwrap_or(default))
    }

    /// A whole number within bounds (given back as `None`: unlimited), the default when absent.
    pub(super) fn limit(&self, key: &'static str, bounds: std::ops::RangeInclusive<u64>, default: u64) -> Option<u64> {
        match self.place(key) {
            None => Some(default),
            Some(Place { value: Value::Text(text), .. }) if text == "unlimited" => None,
            Some(place) => self.number_of(&place, &bounds, ", or unlimited"),
        }
    }

    fn number_of(&self, place: &Place<'_>, bounds: &std::ops::RangeInclusive<u64>, or: &str) -> Option<u64> {
        let wanted = || format!("a whole number from {} to {}{or}", bounds.start(), bounds.end());
        match place.value {
            Value::Integer(number) => match u64::try_from(*number).ok().filter(|number| bounds.contains(number)) {
                Some(number) => Some(number),
                None => {
                    self.walk.fault(&place.path, place.line, format!("is out of range: it must be {}", wanted()));
                    None
                }
            },
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Table(_) => {
                self.wrong(place, &wanted());
                None
            }
        }
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        match self.place(key) {
            None => default,
            Some(Place { value: Value::Bool(flag), .. }) => *flag,
            Some(place) => {
                self.wrong(&place, "true or false");
                default
            }
        }
    }

    /// One of some words, with what each means; the first is the default.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let place = self.place(key)?;
        let found = match place.value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
        };
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.walk.fault(&place.path, place.line, format!("must be one of {}", known.join(", ")));
        }
        found
    }

    /// An address of an endpoint.
    pub(super) fn url(&self, key: &'static str) -> Option<Url> {
        let text = self.text(key)?;
        let fit = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        let url = Url::parse(&text).ok().filter(fit);
        if url.is_none() {
            self.fault(
                key,
                "is no address of an endpoint: write http:// or https://, a host and a path, without credentials or a query",
            );
        }
        url
    }

    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The content of the file that the key names.
    pub(super) fn secret(&self, key: &'static str) -> Option<SecretString> {
        let path = self.path(key)?;
        Some(self.walk.secret(&self.place(key)?, &path))
    }

    pub(super) fn need_secret(&self, key: &'static str, remedy: &str) -> SecretString {
        if !self.has(key) {
            self.missing(key, remedy);
        }
        self.secret(key).unwrap_or_default()
    }

    /// A table below, read with `read`; absent reads as one without keys.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> T) -> T {
        static ABSENT: Value = Value::Null;
        let place = self.place(key).unwrap_or_else(|| Place { path: self.path_of(key), line: self.line, value: &ABSENT });
        Self::read(self.walk, &place, read)
    }

    /// A table below, if there is one.
    pub(super) fn table_if<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> T) -> Option<T> {
        // A table that was opened and left empty is there, as in `json:`.
        let there = self.place(key).is_some() || self.entries.contains_key(key);
        there.then(|| self.table(key, read))
    }

    /// Tables under names that the operator chose.
    pub(super) fn named<T>(&self, key: &'static str, mut read: impl FnMut(&str, &Table<'a>) -> T) -> Vec<T> {
        let Some(place) = self.place(key) else { return Vec::new() };
        self.entries_of(&place).map(|(name, item)| Self::read(self.walk, &item, |table| read(name, table))).collect()
    }

    /// Lists of texts under names that the operator chose.
    pub(super) fn named_texts(&self, key: &'static str) -> Vec<(String, Vec<String>)> {
        let Some(place) = self.place(key) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, item) in self.entries_of(&place) {
            let Value::List(items) = item.value else {
                self.wrong(&item, "a list of texts, as in [a, b]");
                continue;
            };
            let places = items.iter().map(|member| Place { path: item.path.clone(), line: member.line, value: &member.value });
            found.push((name.to_owned(), places.filter_map(|member| self.text_of(&member)).collect()));
        }
        found
    }

    /// Texts under names that the operator chose; `scalars` takes numbers and flags too, as they are written.
    pub(super) fn named_text(&self, key: &'static str, scalars: bool) -> Vec<(String, String)> {
        let Some(place) = self.place(key) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, item) in self.entries_of(&place) {
            let text = match item.value {
                Value::Integer(number) if scalars => Some(number.to_string()),
                Value::Bool(flag) if scalars => Some(flag.to_string()),
                Value::Float(number) if scalars => Some(number.to_string()),
                Value::Null
                | Value::Bool(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Table(_) => self.text_of(&item),
            };
            found.extend(text.map(|text| (name.to_owned(), text)));
        }
        found
    }

    fn entries_of(&self, place: &Place<'a>) -> impl Iterator<Item = (&'a str, Place<'a>)> + use<'a> {
        let entries = match place.value {
            Value::Table(entries) => entries,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                self.wrong(place, "a table of names");
                &NOTHING
            }
        };
        let path = place.path.clone();
        entries
            .iter()
            .map(move |(name, node)| (name.as_str(), Place { path: join(&path, name), line: node.line, value: &node.value }))
    }
}

/// How many letters have to be put in, left out or changed to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j] = left;
            left = (up + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            diagonal = up;
        }
        row[b.len()] = left;
    }
    row[b.len()]
}
