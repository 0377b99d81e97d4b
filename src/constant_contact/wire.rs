//! The vendor's objects as its bodies hold them: what is not needed is ignored, what may be absent may be absent.

use serde::Deserialize;

use crate::model::{
    ActivityId, ContactId, ListId, Text,
    activity::{Activity, ActivityCounts, ActivityState},
    address,
    call::{Contact, ContactCounts, ContactStatus, Cursor, List, Page},
    time::UnixMillis,
};

#[derive(Debug, Deserialize)]
pub(super) struct WireActivity {
    activity_id: ActivityId,
    state: WireState,
    #[serde(default)]
    source_file_name: Option<Text>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    completed_at: Option<String>,
    #[serde(default)]
    activity_errors: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    status: Option<WireCounts>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireState {
    Initialized,
    Processing,
    Completed,
    Cancelled,
    Failed,
    #[serde(alias = "time_out")]
    TimedOut,
    /// A state that no document names. It may still run, and must not make the rest of its page unreadable.
    #[serde(other)]
    Unheard,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireCounts {
    items_total_count: Option<u64>,
    items_completed_count: Option<u64>,
    person_count: Option<u64>,
    error_count: Option<u64>,
    correctable_count: Option<u64>,
    cannot_add_to_list_count: Option<u64>,
}

impl From<WireActivity> for Activity {
    fn from(wire: WireActivity) -> Self {
        let counts = wire.status.unwrap_or_default();
        let errors = wire.activity_errors.unwrap_or_default();
        Self {
            activity_id: wire.activity_id,
            state: match wire.state {
                WireState::Initialized => ActivityState::Initialized,
                WireState::Processing | WireState::Unheard => ActivityState::Processing,
                WireState::Completed => ActivityState::Completed,
                WireState::Cancelled => ActivityState::Cancelled,
                WireState::Failed => ActivityState::Failed,
                WireState::TimedOut => ActivityState::TimedOut,
            },
            source_file_name: wire.source_file_name,
            created_at: wire.created_at.as_deref().and_then(timestamp),
            completed_at: wire.completed_at.as_deref().and_then(timestamp),
            counts: ActivityCounts {
                items_total: counts.items_total_count,
                items_completed: counts.items_completed_count,
                person: counts.person_count,
                error: counts.error_count,
                correctable: counts.correctable_count,
                cannot_add_to_list: counts.cannot_add_to_list_count,
            },
            error_texts: u32::try_from(errors.len()).unwrap_or(u32::MAX),
            error_lines: errors.iter().filter_map(error_text).filter_map(error_line).collect(),
        }
    }
}

/// Errors are strings, or objects with a message.
fn error_text(error: &serde_json::Value) -> Option<&str> {
    error.as_str().or_else(|| error.get("message").and_then(serde_json::Value::as_str))
}

/// The number in `Line 17: …` or `contacts[line-17]`.
fn error_line(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    lower.match_indices("line").find_map(|(at, word)| {
        let rest = lower.get(at + word.len()..)?.strip_prefix([' ', '-'])?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse().ok()
    })
}

/// RFC 3339, with `Z` or an offset.
pub(super) fn timestamp(text: &str) -> Option<UnixMillis> {
    text.parse::<jiff::Timestamp>().ok().map(|at| UnixMillis(at.as_millisecond()))
}

/// The date of an HTTP header (RFC 9110, IMF-fixdate).
pub(super) fn http_date(text: &str) -> Option<UnixMillis> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_zoned(text).ok()?;
    Some(UnixMillis(zoned.timestamp().as_millisecond()))
}

#[derive(Debug, Deserialize)]
pub(super) struct WireActivities {
    // Required: a page that does not say what it holds must not pass for one that holds nothing, because a batch that
    // is not found is sent again.
    activities: Vec<WireActivity>,
    #[serde(default)]
    _links: Option<WireLinks>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireContacts {
    contacts: Vec<WireContact>,
    #[serde(default)]
    _links: Option<WireLinks>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireLists {
    lists: Vec<WireList>,
    #[serde(default)]
    _links: Option<WireLinks>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireContactCounts {
    // Required: an answer that does not say it must not pass for an empty account.
    total: u64,
    #[serde(default)]
    explicit: u64,
    #[serde(default)]
    implicit: u64,
    #[serde(default)]
    pending: u64,
    #[serde(default)]
    unsubscribed: u64,
}

impl From<WireContactCounts> for ContactCounts {
    fn from(wire: WireContactCounts) -> Self {
        let WireContactCounts { total, explicit, implicit, pending, unsubscribed } = wire;
        Self { total, explicit, implicit, pending, unsubscribed }
    }
}

#[derive(Debug, Default, Deserialize)]
struct WireLinks {
    #[serde(default)]
    next: Option<WireLink>,
}

#[derive(Debug, Deserialize)]
struct WireLink {
    href: String,
}

impl WireLinks {
    /// The cursor of the next page. Links are never followed: they name paths, and wrong ones in some listings.
    fn cursor(links: Option<Self>) -> Option<Cursor> {
        let href = links?.next?.href;
        let (_, query) = href.split_once('?')?;
        // In an address a plus is a plus; only in a form is it a blank.
        let query = query.replace('+', "%2B");
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == "cursor").map(|(_, cursor)| Cursor(Text::from(cursor)))
    }
}

impl From<WireActivities> for Page<Activity> {
    fn from(wire: WireActivities) -> Self {
        Self { items: wire.activities.into_iter().map(Activity::from).collect(), next: WireLinks::cursor(wire._links) }
    }
}

impl From<WireContacts> for Page<Contact> {
    fn from(wire: WireContacts) -> Self {
        Self {
            items: wire.contacts.into_iter().filter_map(WireContact::into_contact).collect(),
            next: WireLinks::cursor(wire._links),
        }
    }
}

impl From<WireLists> for Page<List> {
    fn from(wire: WireLists) -> Self {
        Self { items: wire.lists.into_iter().map(List::from).collect(), next: WireLinks::cursor(wire._links) }
    }
}

#[derive(Debug, Deserialize)]
struct WireContact {
    contact_id: ContactId,
    #[serde(default)]
    email_address: Option<WireAddress>,
    #[serde(default)]
    deleted_at: Option<String>,
    #[serde(default)]
    list_memberships: Option<Vec<ListId>>,
}

#[derive(Debug, Deserialize)]
struct WireAddress {
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    permission_to_send: Option<String>,
}

impl WireContact {
    /// A contact without an address (SMS alone) is none of ours.
    fn into_contact(self) -> Option<Contact> {
        let email = self.email_address?;
        let raw = email.address?;
        let address = address::normalise(&raw).unwrap_or_else(|_| Text::from(raw.trim().to_lowercase()));
        let status = if self.deleted_at.is_some() {
            ContactStatus::Deleted
        } else if email.permission_to_send.as_deref() == Some("unsubscribed") {
            ContactStatus::Unsubscribed
        } else {
            ContactStatus::Active
        };
        Some(Contact { contact_id: self.contact_id, address, status, lists: self.list_memberships.unwrap_or_default() })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireList {
    list_id: ListId,
    name: Text,
    #[serde(default)]
    membership_count: Option<u64>,
}

impl From<WireList> for List {
    fn from(wire: WireList) -> Self {
        Self { list_id: wire.list_id, name: wire.name, membership_count: wire.membership_count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_are_found_in_both_spellings() {
        for (text, line) in [
            ("Line 2: Invalid birthday", Some(2)),
            ("contacts[line-355]: Invalid email", Some(355)),
            ("Headline news on line 7.", Some(7)),
            ("The file is empty", None),
            ("line", None),
        ] {
            assert_eq!(error_line(text), line, "{text}");
        }
    }

    #[test]
    fn times_come_with_z_or_an_offset() {
        assert_eq!(timestamp("2026-09-29T18:35:42Z"), Some(UnixMillis(1_790_706_942_000)));
        assert_eq!(timestamp("2026-09-29T18:35:42+00:00"), timestamp("2026-09-29T18:35:42.000Z"));
        assert_eq!(timestamp("soon"), None);
    }
}
