//! Questions about single values and lists of them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::super::question::Shape;
use super::super::tree::Value;
use super::{Place, Table};

impl<'a> Table<'a> {
    pub(super) fn text_of(&self, place: &Place<'_>) -> Option<String> {
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

    pub(in crate::config) fn text(&self, key: &'static str) -> Option<String> {
        self.ask(key, Shape::Text, false, None);
        self.text_of(&self.place(key)?)
    }

    pub(in crate::config) fn text_or(&self, key: &'static str, default: &str) -> String {
        let text = self.text(key);
        self.ask(key, Shape::Text, false, Some(default.into()));
        text.unwrap_or_else(|| default.to_owned())
    }

    pub(in crate::config) fn need_text(&self, key: &'static str, remedy: &str) -> String {
        self.need(key, remedy);
        let text = self.text(key);
        self.ask(key, Shape::Text, true, None);
        text.unwrap_or_default()
    }

    pub(super) fn need(&self, key: &'static str, remedy: &str) {
        if !self.has(key) {
            self.fault(key, format!("is missing: {remedy}"));
        }
    }

    /// A dotted path into a record.
    pub(in crate::config) fn dotted(&self, key: &'static str) -> Option<String> {
        let text = self.text(key);
        self.ask(key, Shape::Dotted, false, None);
        self.check_dotted(key, text)
    }

    pub(in crate::config) fn dotted_or(&self, key: &'static str, default: &str) -> String {
        let text = self.dotted(key);
        self.ask(key, Shape::Dotted, false, Some(default.into()));
        text.unwrap_or_else(|| default.to_owned())
    }

    pub(in crate::config) fn need_dotted(&self, key: &'static str, remedy: &str) -> String {
        let text = self.need_text(key, remedy);
        self.ask(key, Shape::Dotted, true, None);
        self.check_dotted(key, Some(text).filter(|text| !text.is_empty())).unwrap_or_default()
    }

    fn check_dotted(&self, key: &str, text: Option<String>) -> Option<String> {
        if text.as_ref().is_some_and(|text| !is_dotted(text)) {
            self.fault(key, "is no path into a record: write names with dots between them, as in profile.email");
        }
        text
    }

    pub(in crate::config) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        self.ask(key, Shape::Texts { least: 0 }, false, None);
        Some(self.items(key)?.iter().filter_map(|item| self.text_of(item)).collect())
    }

    /// The items of a list; none of what is no list.
    pub(super) fn items(&self, key: &'static str) -> Option<Vec<Place<'a>>> {
        let place = self.place(key)?;
        let Value::List(items) = place.value else {
            self.wrong(&place, "a list, as in [a, b]");
            return Some(Vec::new());
        };
        let path = |at| format!("{}.{at}", place.path);
        Some(items.iter().enumerate().map(|(at, item)| Place { path: path(at), line: item.line, value: &item.value }).collect())
    }

    /// A list of texts that is there and has something in it.
    pub(in crate::config) fn need_texts(&self, key: &'static str, remedy: &str) -> Vec<String> {
        self.need(key, remedy);
        let items = self.texts(key).unwrap_or_default();
        self.ask(key, Shape::Texts { least: 1 }, true, None);
        if matches!(self.place(key), Some(Place { value: Value::List(list), .. }) if list.is_empty()) {
            self.fault(key, format!("is an empty list: {remedy}"));
        }
        items
    }

    /// A whole number within bounds, the default when absent.
    pub(in crate::config) fn number(&self, key: &'static str, bounds: RangeInclusive<u64>, default: u64) -> u64 {
        let number = self.number_if(key, bounds.clone());
        self.ask(key, Shape::Number(bounds), false, Some(default.into()));
        number.unwrap_or(default)
    }

    /// A whole number within bounds.
    pub(in crate::config) fn number_if(&self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.ask(key, Shape::Number(bounds.clone()), false, None);
        self.number_of(&self.place(key)?, &bounds, "")
    }

    /// A whole number within bounds (given back as `None`: unlimited), the default when absent.
    pub(in crate::config) fn limit(&self, key: &'static str, bounds: RangeInclusive<u64>, default: Option<u64>) -> Option<u64> {
        let shown = default.map_or_else(|| "unlimited".into(), serde_json::Value::from);
        self.ask(key, Shape::Limit(bounds.clone()), false, Some(shown));
        match self.place(key) {
            None => default,
            Some(Place { value: Value::Text(text), .. }) if text == "unlimited" => None,
            Some(place) => self.number_of(&place, &bounds, ", or unlimited"),
        }
    }

    fn number_of(&self, place: &Place<'_>, bounds: &RangeInclusive<u64>, or: &str) -> Option<u64> {
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

    pub(in crate::config) fn flag(&self, key: &'static str, default: bool) -> bool {
        self.ask(key, Shape::Flag, false, Some(default.into()));
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
    pub(in crate::config) fn choice<T: Copy, const N: usize>(&self, key: &'static str, words: [(&'static str, T); N]) -> T {
        const { assert!(N > 0, "a choice has words") };
        let found = self.choice_if(key, words);
        self.ask(key, Shape::words(&words), false, Some(words[0].0.into()));
        found.unwrap_or(words[0].1)
    }

    /// One of some words, with what each means.
    pub(in crate::config) fn choice_if<T: Copy, const N: usize>(
        &self,
        key: &'static str,
        words: [(&'static str, T); N],
    ) -> Option<T> {
        self.ask(key, Shape::words(&words), false, None);
        self.word_of(&self.place(key)?, &words)
    }

    /// One of some words, with what each means; it must be there.
    pub(in crate::config) fn need_choice<T: Copy, const N: usize>(
        &self,
        key: &'static str,
        words: [(&'static str, T); N],
        remedy: &str,
    ) -> T {
        const { assert!(N > 0, "a choice has words") };
        self.need(key, remedy);
        let found = self.choice_if(key, words);
        self.ask(key, Shape::words(&words), true, None);
        found.unwrap_or(words[0].1)
    }

    /// Different ones of some words.
    pub(in crate::config) fn choices<T: Copy, const N: usize>(
        &self,
        key: &'static str,
        words: [(&'static str, T); N],
        default: &[&'static str],
    ) -> Vec<T> {
        self.ask(key, Shape::WordList(words.iter().map(|(word, _)| *word).collect()), false, Some(default.into()));
        let meaning = |word: &&str| words.iter().find(|(known, _)| known == word).map(|(_, meaning)| *meaning);
        let Some(items) = self.items(key) else { return default.iter().filter_map(meaning).collect() };
        if matches!(self.place(key), Some(Place { value: Value::List(list), .. }) if list.is_empty()) {
            self.fault(key, "is an empty list: remove the key, or name one");
        }
        for (at, item) in items.iter().enumerate() {
            let twice = matches!(item.value, Value::Text(text)
                if items[..at].iter().any(|other| matches!(other.value, Value::Text(earlier) if earlier == text)));
            if twice {
                self.walk.fault(&item.path, item.line, "stands twice: remove one of the two");
            }
        }
        items.iter().filter_map(|item| self.word_of(item, &words)).collect()
    }

    pub(super) fn word_of<T: Copy>(&self, place: &Place<'_>, words: &[(&'static str, T)]) -> Option<T> {
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
    pub(in crate::config) fn url(&self, key: &'static str) -> Option<Url> {
        let text = self.text(key);
        self.ask(key, Shape::Url, false, None);
        let text = text?;
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

    pub(in crate::config) fn url_or(&self, key: &'static str, default: &Url) -> Url {
        let url = self.url(key);
        self.ask(key, Shape::Url, false, Some(default.as_str().into()));
        url.unwrap_or_else(|| default.clone())
    }

    pub(in crate::config) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The content of the file that the key names.
    pub(in crate::config) fn secret(&self, key: &'static str) -> Option<SecretString> {
        let path = self.path(key)?;
        Some(self.walk.secret(&self.place(key)?, &path))
    }

    pub(in crate::config) fn need_secret(&self, key: &'static str, remedy: &str) -> SecretString {
        self.need(key, remedy);
        let secret = self.secret(key);
        self.ask(key, Shape::Text, true, None);
        secret.unwrap_or_default()
    }
}

/// Whether a text is a dotted path. [`crate::config::schema::DOTTED_PATTERN`] says the same.
pub(in crate::config) fn is_dotted(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.trim() == part)
}
