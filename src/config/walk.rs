//! The one walk over the tree: every question that is asked of it is answered with a value, and every fault is remembered.
//!
//! A wrong or missing value is answered with a placeholder, so that the walk goes on and finds what else is wrong; placeholders never leave
//! [`super::load`], which gives errors or a configuration.
//!
//! The same walk describes the file: over nothing at all, with [`Walk::describing`], the questions themselves are remembered. The JSON Schema
//! is made of them ([`super::schema`]), so that keys, types, bounds, words and defaults are written once.

mod values;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use secrecy::SecretString;

pub(super) use self::values::is_dotted;
use super::question::{Question, Questions, Rule, Shape};
use super::tree::{Node, Value};
use super::{ConfigError, NotYet, Secrets};

/// What the walk has found so far.
#[derive(Debug)]
pub(super) struct Walk {
    secrets: Secrets,
    errors: RefCell<Vec<ConfigError>>,
    not_yet: RefCell<Vec<NotYet>>,
    questions: Option<RefCell<Questions>>,
}

impl Walk {
    pub(super) fn new(secrets: Secrets, errors: Vec<ConfigError>) -> Self {
        Self { secrets, errors: RefCell::new(errors), not_yet: RefCell::default(), questions: None }
    }

    /// A walk that remembers what it is asked: one entry stands for all that the operator names.
    pub(super) fn describing() -> Self {
        Self { questions: Some(RefCell::default()), ..Self::new(Secrets::Skip, Vec::new()) }
    }

    pub(super) fn into_questions(self) -> Questions {
        self.questions.map(RefCell::into_inner).unwrap_or_default()
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
                    let problem = if error.kind() == ErrorKind::NotFound {
                        "there is no such file: create it, or mount it where this path points to".to_owned()
                    } else {
                        format!("the file cannot be read ({}): let the user that runs Listkeeper read it", error.kind())
                    };
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
static ABSENT: Value = Value::Null;

/// Stands for the names that the operator chooses, and for the items of a list, where questions are remembered.
pub(super) const ANY_NAME: &str = "*";

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

    /// Remembers a question, when questions are what is wanted; a later one about the same key says more.
    fn ask(&self, key: &str, shape: Shape, required: bool, default: Option<serde_json::Value>) {
        if let Some(questions) = &self.walk.questions {
            questions.borrow_mut().keys.insert(self.path_of(key), Question { shape, required, default });
        }
    }

    fn rule(&self, rule: impl FnOnce() -> Rule) {
        if let Some(questions) = &self.walk.questions {
            questions.borrow_mut().rules.push((self.path.clone(), rule()));
        }
    }

    /// When questions are remembered: the place of the one entry that stands for all.
    fn any_entry(&self, key: &str) -> Option<Place<'a>> {
        let path = join(&self.path_of(key), ANY_NAME);
        self.walk.questions.is_some().then_some(Place { path, line: None, value: &ABSENT })
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

    /// A list of tables, each read with `read`.
    pub(super) fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'a>) -> T) -> Vec<T> {
        self.ask(key, Shape::Tables, false, None);
        let items = self.any_entry(key).map_or_else(|| self.items(key).unwrap_or_default(), |entry| vec![entry]);
        items.iter().map(|item| Self::read(self.walk, item, &mut read)).collect()
    }

    /// One of some words (the first is the default), or a table that is read with `read`.
    pub(super) fn choice_or_table<T: Copy, const N: usize>(
        &self,
        key: &'static str,
        words: [(&'static str, T); N],
        read: impl FnOnce(&Table<'a>) -> T,
    ) -> T {
        let place = self.place(key);
        let opened = matches!(place, Some(Place { value: Value::Table(_), .. }));
        if opened || self.walk.questions.is_some() {
            let read = self.table(key, read);
            let shown = words.iter().map(|(word, _)| *word).collect();
            self.ask(key, Shape::WordsOrTable(shown), false, words.first().map(|(word, _)| (*word).into()));
            return read;
        }
        self.choice(key, words)
    }

    /// A table below, read with `read`; absent reads as one without keys.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> T) -> T {
        self.ask(key, Shape::Table { absent_is_empty: true }, false, None);
        let place = self.place(key).unwrap_or_else(|| Place { path: self.path_of(key), line: self.line, value: &ABSENT });
        Self::read(self.walk, &place, read)
    }

    /// A table below, if there is one.
    pub(super) fn table_if<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> T) -> Option<T> {
        // A table that was opened and left empty is there, as in `json:`.
        let there = self.place(key).is_some() || self.entries.contains_key(key) || self.walk.questions.is_some();
        let value = there.then(|| self.table(key, read));
        self.ask(key, Shape::Table { absent_is_empty: false }, false, None);
        value
    }

    /// Tables under names that the operator chose, at least one; `what` says of what.
    pub(super) fn need_named<T>(&self, key: &'static str, what: &str, mut read: impl FnMut(&str, &Table<'a>) -> T) -> Vec<T> {
        self.ask(key, Shape::Named, true, None);
        if let Some(entry) = self.any_entry(key) {
            return vec![Self::read(self.walk, &entry, |table| read(ANY_NAME, table))];
        }
        let place = self.place(key);
        if place.as_ref().is_none_or(|place| matches!(place.value, Value::Table(entries) if entries.is_empty())) {
            self.fault(key, format!("is missing: describe at least one {what}"));
        }
        let Some(place) = place else { return Vec::new() };
        let mut found = Vec::new();
        for (name, item) in self.entries_of(&place) {
            if !is_name(name) {
                let problem = "its name does not fit: use letters, digits, dots, dashes and underscores, at most 64";
                self.walk.fault(&item.path, item.line, problem);
            }
            found.push(Self::read(self.walk, &item, |table| read(name, table)));
        }
        if found.len() > NAMED_MAX {
            self.fault(key, format!("has too many entries: at most {NAMED_MAX} are numbered"));
        }
        found
    }

    /// Lists of texts under names that the operator chose.
    pub(super) fn named_texts(&self, key: &'static str) -> Vec<(String, Vec<String>)> {
        self.ask(key, Shape::NamedTexts, false, None);
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
        self.ask(key, Shape::NamedText { scalars }, false, None);
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

    /// Exactly one of some keys must be there; which are is told by whoever read them.
    pub(super) fn one_of<const N: usize>(&self, keys: [(&'static str, bool); N], remedy: &str) {
        self.rule(|| Rule::OneOf(keys.iter().map(|(key, _)| *key).collect()));
        let mut said = keys.iter().filter(|(_, there)| *there).map(|(key, _)| *key);
        match (said.next(), said.next()) {
            (Some(_), None) => {}
            (Some(first), Some(second)) => self.fault(second, format!("stands beside {first}: remove one of them")),
            (None, _) => {
                let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                self.walk.fault(&self.path, self.line, format!("must say one of {}: {remedy}", names.join(", ")));
            }
        }
    }

    /// A key that means something only beside another.
    pub(super) fn goes_with(&self, key: &'static str, other: &'static str) {
        self.rule(|| Rule::GoesWith { key, other });
        if self.has(key) && !self.has(other) {
            self.fault(key, format!("has no use without {other}: add that, or remove it"));
        }
    }

    /// A key that means something only where `switch` says one of `words`.
    pub(super) fn only_where(&self, key: &'static str, switch: &'static str, words: &'static [&'static str]) {
        self.rule(|| Rule::OnlyWhere { key, switch, words });
        if self.has(key) && !self.says(switch, words) {
            self.fault(key, format!("has no use with this {switch}: choose {}, or remove it", words.join(" or ")));
        }
    }

    /// A key that must be there where `switch` says one of `words`.
    pub(super) fn needed_where(&self, key: &'static str, switch: &'static str, words: &'static [&'static str], remedy: &str) {
        self.rule(|| Rule::NeededWhere { key, switch, words });
        if !self.has(key) && self.says(switch, words) {
            self.fault(key, format!("is missing: {remedy}"));
        }
    }

    fn says(&self, switch: &'static str, words: &[&str]) -> bool {
        matches!(self.place(switch), Some(Place { value: Value::Text(text), .. }) if words.contains(&text.as_str()))
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

/// Names are numbered with 16 bits.
pub(super) const NAMED_MAX: usize = 65_535;

/// Whether an application, a connection or an export may have this name. [`super::schema::NAME_PATTERN`] says the same.
fn is_name(name: &str) -> bool {
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    fits && !name.is_empty() && name.len() <= 64
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
