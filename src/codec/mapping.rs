//! Which fields of a producer's own layout hold what an event needs: dotted paths, through records and maps.

use crate::model::{Text, event::ChangeKind};

/// Where an event's parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPaths {
    /// The profile's id.
    pub profile_id: Text,
    /// The segment's id or name, as exports name it.
    pub segment_id: Text,
    /// What happened.
    pub change: Text,
    /// When the producer says it happened.
    pub occurred_at: Option<Text>,
    /// The producer's words for what happened.
    pub changes: ChangeNames,
    /// The fields that exports map, in the order of `Catalog::fields`.
    pub mapped: Vec<Text>,
}

impl Default for FieldPaths {
    /// The layout of `schemas/SegmentMembershipChanged.avsc`.
    fn default() -> Self {
        Self {
            profile_id: "profile_id".into(),
            segment_id: "segment_id".into(),
            change: "change".into(),
            occurred_at: Some("occurred_at".into()),
            changes: ChangeNames::default(),
            mapped: Vec::new(),
        }
    }
}

/// The producer's words for what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeNames {
    /// For [`ChangeKind::Entered`].
    pub entered: Text,
    /// For [`ChangeKind::Exited`].
    pub exited: Text,
    /// For [`ChangeKind::Updated`].
    pub updated: Text,
}

impl Default for ChangeNames {
    fn default() -> Self {
        Self { entered: "ENTERED".into(), exited: "EXITED".into(), updated: "UPDATED".into() }
    }
}

impl ChangeNames {
    /// The change of a word.
    #[must_use]
    pub fn kind(&self, word: &str) -> Option<ChangeKind> {
        [(&self.entered, ChangeKind::Entered), (&self.exited, ChangeKind::Exited), (&self.updated, ChangeKind::Updated)]
            .into_iter()
            .find_map(|(name, kind)| (name == word).then_some(kind))
    }
}
