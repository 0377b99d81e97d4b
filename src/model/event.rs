//! What the source topic says: records, and the segment changes in them.

use serde::{Deserialize, Serialize};

use super::{Text, position::Position, time::UnixMillis};

/// What happened to a profile in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeKind {
    /// The profile is now in the segment.
    Entered,
    /// The profile is no longer in the segment.
    Exited,
    /// The profile's fields changed; its segments did not.
    Updated,
}

/// One segment change of one profile, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEvent {
    /// The profile's id; the record's key where it has one.
    pub profile_id: Text,
    /// The segment. `None` is legal for [`ChangeKind::Updated`] alone: it then concerns every export the profile is in.
    pub segment_id: Option<Text>,
    /// What happened.
    pub change: ChangeKind,
    /// When the producer says it happened: for display, never for order.
    pub occurred_at: Option<UnixMillis>,
    /// The values of the fields that some export maps, in the order of [`super::catalog::Catalog::fields`].
    /// `None`: absent, null, or not there because the whole profile was null.
    pub values: Box<[Option<Text>]>,
}

/// One record of the source topic, as the reader hands it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// Where it lies.
    pub position: Position,
    /// Kafka's timestamp of it: a change's age counts from here.
    pub timestamp: UnixMillis,
    /// Hash of key and value ([`super::hash::record_hash`]), kept with the watermark so that a topic made anew is noticed.
    pub hash: u64,
    /// What it says.
    pub content: RecordContent,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordContent {
    /// A segment change.
    Event(SegmentEvent),
    /// A null value: the profile named by the key is to be erased.
    Erasure {
        /// The profile's id, from the key.
        profile_id: Text,
    },
    /// Cannot be understood; goes to the dead letters with the original bytes.
    Undecodable(Box<Undecodable>),
}

/// A record that could not be decoded, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The kind of fault: one word for the metric's label.
    pub kind: DecodeFault,
    /// What was wrong and where (field path, schema id), in plain words and without any value of the record.
    pub detail: Text,
    /// The record as it was.
    pub original: RawRecord,
}

/// Why a record could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodeFault {
    /// Not in Confluent's wire format: too short, or a magic byte other than 0.
    WireFormat,
    /// The schema registry does not know the schema id, also after it was asked again for 10 s.
    UnknownSchema,
    /// The writer's schema cannot give what the mapping names.
    UnusableSchema,
    /// The bytes do not follow their schema, or are no JSON.
    Malformed,
    /// A field that every event needs is missing, null or of another type.
    MissingField,
    /// The change is none of those that the mapping names.
    UnknownChange,
    /// The record's key is not the profile id that the event names.
    KeyMismatch,
    /// The record has neither a key nor a value, so that it names no profile.
    NoKey,
    /// The record is larger than the stage accepts.
    TooLarge,
}

impl DecodeFault {
    /// All faults, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::WireFormat,
        Self::UnknownSchema,
        Self::UnusableSchema,
        Self::Malformed,
        Self::MissingField,
        Self::UnknownChange,
        Self::KeyMismatch,
        Self::NoKey,
        Self::TooLarge,
    ];

    /// The word used in headers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WireFormat => "wire_format",
            Self::UnknownSchema => "unknown_schema",
            Self::UnusableSchema => "unusable_schema",
            Self::Malformed => "malformed",
            Self::MissingField => "missing_field",
            Self::UnknownChange => "unknown_change",
            Self::KeyMismatch => "key_mismatch",
            Self::NoKey => "no_key",
            Self::TooLarge => "too_large",
        }
    }
}

/// A record's own bytes, as they were in the source topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawRecord {
    /// The key, if there was one.
    pub key: Option<Vec<u8>>,
    /// The value, if there was one.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl RawRecord {
    /// Bytes of all its parts.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + part(value)).sum();
        part(&self.key) + part(&self.value) + headers
    }
}
