//! Records that cannot be applied, with everything a person needs to mend and replay them.

use serde::{Deserialize, Serialize};

use super::{
    Text,
    event::{DecodeFault, RawRecord},
    position::Position,
};

/// One dead letter. Its headers carry Kafka Connect's names (`__connect.errors.*`); none holds personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record lies in the source.
    pub position: Position,
    /// The application and export that refused it; none for a record that could not be decoded.
    pub refused_by: Option<RefusedBy>,
    /// Why.
    pub reason: LetterReason,
    /// What was wrong, in plain words, without any value of the record.
    pub detail: Text,
    /// The record itself.
    pub original: LetterOriginal,
}

/// Whose letter it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBy {
    /// The application's name.
    pub application: Text,
    /// The export's name.
    pub export: Text,
}

/// Why a record became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterReason {
    /// It could not be decoded.
    Decode(DecodeFault),
    /// The profile has no address, and the export says `no_address: dead_letter`.
    NoAddress,
    /// The address is none that could be sent.
    InvalidAddress,
    /// The vendor refused the row.
    RowRefused,
}

impl LetterReason {
    /// The word used in headers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode(fault) => fault.as_str(),
            Self::NoAddress => "no_address",
            Self::InvalidAddress => "invalid_address",
            Self::RowRefused => "row_refused",
        }
    }

    /// The reason of a word that [`Self::as_str`] gave.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let decode = DecodeFault::ALL.into_iter().map(Self::Decode);
        decode.chain([Self::NoAddress, Self::InvalidAddress, Self::RowRefused]).find(|reason| reason.as_str() == word)
    }
}

/// Where the original bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterOriginal {
    /// Here.
    Carried(RawRecord),
    /// Still in the source at the letter's position: the writer reads them there.
    InSource,
}
