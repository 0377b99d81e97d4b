//! What a walk asks of the file: the description of the configuration that the JSON Schema is made of.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Everything that was asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// By path; `*` stands for a name that the operator chooses, and for the items of a list.
    pub(super) keys: BTreeMap<String, Question>,
    /// What keys of one table say about one another, with the table's path.
    pub(super) rules: Vec<(String, Rule)>,
}

/// What may stand under a key.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) default: Option<serde_json::Value>,
}

/// The type of a value.
#[derive(Debug)]
pub(super) enum Shape {
    Text,
    /// A dotted path into a record.
    Dotted,
    /// An address of an endpoint.
    Url,
    Texts {
        least: usize,
    },
    Number(RangeInclusive<u64>),
    /// A number or `unlimited`.
    Limit(RangeInclusive<u64>),
    Flag,
    Words(Vec<&'static str>),
    /// At least one word, none twice.
    WordList(Vec<&'static str>),
    WordsOrTable(Vec<&'static str>),
    Table {
        /// Absent, its keys are asked for all the same: with one that is required, the table is.
        absent_is_empty: bool,
    },
    Tables,
    /// Tables under names, at least one.
    Named,
    /// Lists of texts under names.
    NamedTexts,
    /// Texts under names, and numbers and flags where `scalars`.
    NamedText {
        scalars: bool,
    },
}

impl Shape {
    pub(super) fn words<T>(words: &[(&'static str, T)]) -> Self {
        Self::Words(words.iter().map(|(word, _)| *word).collect())
    }
}

/// What keys of one table say about one another.
#[derive(Debug)]
pub(super) enum Rule {
    /// Exactly one of them is there.
    OneOf(Vec<&'static str>),
    /// The one never without the other.
    GoesWith { key: &'static str, other: &'static str },
    /// Only where the switch says one of the words.
    OnlyWhere { key: &'static str, switch: &'static str, words: &'static [&'static str] },
    /// Always where the switch says one of the words.
    NeededWhere { key: &'static str, switch: &'static str, words: &'static [&'static str] },
}
