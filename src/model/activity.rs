//! The vendor's bulk jobs, as its API reports them.

use serde::{Deserialize, Serialize};

use super::{ActivityId, Text, time::UnixMillis};

/// Where an activity stands (`state` of the vendor's Activity object).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityState {
    /// Received.
    Initialized,
    /// At work.
    Processing,
    /// Done; its counts say what it did.
    Completed,
    /// Ended from outside; what it did is unknown.
    Cancelled,
    /// Ended with an error; what it did is unknown.
    Failed,
    /// Given up by the vendor (`timed_out`, and `time_out` in the prose of its documentation); what it did is unknown.
    TimedOut,
}

impl ActivityState {
    /// True when the vendor does no more for it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Initialized | Self::Processing => false,
            Self::Completed | Self::Cancelled | Self::Failed | Self::TimedOut => true,
        }
    }
}

/// One reading of an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Its id. Never taken from `_links`, which are wrong in listings.
    pub activity_id: ActivityId,
    /// Where it stands.
    pub state: ActivityState,
    /// The name of the imported file, where the vendor gives it back.
    pub source_file_name: Option<Text>,
    /// When the vendor took it.
    pub created_at: Option<UnixMillis>,
    /// When the vendor was done with it.
    pub completed_at: Option<UnixMillis>,
    /// What it counted; a fresh activity has none.
    pub counts: ActivityCounts,
    /// Line numbers (the header is line 1) that its error texts name; the list may be cut short by the vendor.
    pub error_lines: Vec<u32>,
    /// How many error texts it carries, with or without a line number.
    pub error_texts: u32,
}

/// The counters in an activity's `status`; absent ones are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActivityCounts {
    /// Rows that it took: the rows sent, or those and the header.
    pub items_total: Option<u64>,
    /// Items done.
    pub items_completed: Option<u64>,
    /// Contacts that it added or updated.
    pub person: Option<u64>,
    /// Rows refused for good.
    pub error: Option<u64>,
    /// Rows refused that a person could correct in the vendor's pages (an address that is none, a bad date).
    pub correctable: Option<u64>,
    /// Rows of contacts that must not be added to a list: unsubscribed.
    pub cannot_add_to_list: Option<u64>,
}
