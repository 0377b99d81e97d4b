//! Batches: what is sent to the vendor in one bulk activity.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ListId, Text, row::Row};

/// What a batch does to its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Contacts join the list, or have their fields updated: `contacts_file_import`.
    Import,
    /// Contacts leave the list: `remove_list_memberships`.
    Remove,
}

impl Operation {
    /// The word used in metrics, logs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Remove => "remove",
        }
    }
}

/// How far a removal by a staging list has come: which of its activities may have been started last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundStep {
    /// The addresses are imported into the staging list.
    Import,
    /// The staging list's members leave the target and the staging list in one removal.
    RemoveBoth,
    /// They leave the target alone.
    RemoveTarget,
    /// They leave the staging list.
    Empty,
    /// As [`RoundStep::RemoveBoth`], sent before anybody has read that the import is done: both may be under way.
    RemoveAhead,
}

/// A removal by a staging list, as the state has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedRound {
    /// The staging list.
    pub list: ListId,
    /// How far it has come.
    pub step: RoundStep,
}

/// A batch's name: unique for all time, and the file name of an import without its ending, so that an activity
/// whose answer was lost is found again by its `source_file_name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchName(pub Text);

impl BatchName {
    /// The name of the file that an import of this batch uploads.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.csv", self.0)
    }
}

impl std::fmt::Display for BatchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rows of one import. Shared, because they are kept until the activity's counts are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRows {
    /// The names of the custom fields (`cf:` columns), in the order of [`Row::custom`].
    pub custom_fields: Arc<[Text]>,
    /// True when some row has a first name: the column is sent.
    pub has_first_name: bool,
    /// True when some row has a last name: the column is sent.
    pub has_last_name: bool,
    /// Address and fields of each contact, in the order of the file's lines (line 2 is the first).
    pub rows: Arc<[(Text, Row)]>,
}

/// Why a batch was cut when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutReason {
    /// As many rows as one import or removal may hold.
    Rows,
    /// As many bytes as one import may hold.
    Bytes,
    /// The waiting of its changes outweighs what a call costs now.
    Price,
    /// The oldest change in it waited as long as any may beside the others.
    Age,
    /// The stage is stopping, and there was time left to send it.
    Drain,
    /// A batch that came back short, or with refused rows, is sent again in parts.
    Split,
    /// A batch whose outcome is unknown is sent again as it was.
    Again,
}

impl CutReason {
    /// The word used in metrics, logs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Price => "price",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Split => "split",
            Self::Again => "again",
        }
    }
}
