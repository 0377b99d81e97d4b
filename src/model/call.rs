//! Calls to the vendor's API, and what comes back, without a word of HTTP.

use serde::{Deserialize, Serialize};

use super::{
    ActivityId, ContactId, ListId, Text,
    activity::Activity,
    batch::{BatchName, ImportRows},
    time::UnixMillis,
};

/// One call, as the engine asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `POST /activities/contacts_file_import`: all rows join all lists.
    Import {
        /// Names the uploaded file.
        name: BatchName,
        /// The lists, 1 to 50.
        lists: Vec<ListId>,
        /// The rows, at most 39,999 and below 4,000,000 bytes as CSV.
        rows: ImportRows,
    },
    /// `POST /activities/remove_list_memberships`.
    Remove {
        /// Who leaves.
        source: RemovalSource,
        /// The lists they leave, 1 to 50.
        targets: Vec<ListId>,
    },
    /// `POST /activities/contact_delete`: they leave every list, and are contacts no more.
    DeleteContacts {
        /// Who, 1 to 500.
        contacts: Vec<ContactId>,
    },
    /// `GET /activities/{activity_id}`.
    Activity {
        /// Which one.
        activity_id: ActivityId,
    },
    /// `GET /activities?limit=500`, newest first.
    Activities {
        /// Where the page before ended.
        cursor: Option<Cursor>,
    },
    /// `GET /contacts?lists=…&status=all&include=list_memberships&limit=500`: the members of a list.
    ListMembers {
        /// The list.
        list: ListId,
        /// Where the page before ended.
        cursor: Option<Cursor>,
    },
    /// `GET /contacts?email=…&status=all&include=list_memberships`: one contact by address.
    LookUp {
        /// The address.
        address: Text,
    },
    /// `GET /contacts?status=deleted,unsubscribed&limit=500[&updated_after=…]`: whom an import must never touch.
    Suppressed {
        /// Only contacts that changed after this instant.
        updated_after: Option<UnixMillis>,
        /// Where the page before ended.
        cursor: Option<Cursor>,
    },
    /// `GET /contact_lists?name=…&include_membership_count=all`: one list by its full name.
    FindList {
        /// The name.
        name: Text,
    },
    /// `GET /contact_lists/{list_id}?include_membership_count=all`.
    List {
        /// The list.
        list: ListId,
    },
    /// `POST /contact_lists`.
    CreateList {
        /// Its name, at most 255 characters.
        name: Text,
    },
    /// `GET /contact_lists?include_membership_count=all&limit=1000`: all lists of the account, with their counts.
    Lists {
        /// Where the page before ended.
        cursor: Option<Cursor>,
    },
    /// `DELETE /contact_lists/{list_id}`: 202 with an activity.
    DeleteList {
        /// The list.
        list: ListId,
    },
    /// `GET /contacts/counts`: how many contacts the account has.
    ContactCounts,
}

impl Request {
    /// The word for metrics and reports.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        match self {
            Self::Import { .. } => CallKind::Import,
            Self::Remove { .. } | Self::DeleteContacts { .. } => CallKind::Remove,
            Self::Activity { .. } | Self::Activities { .. } => CallKind::Poll,
            Self::ListMembers { .. } => CallKind::Scan,
            Self::LookUp { .. } => CallKind::LookUp,
            Self::Suppressed { .. } => CallKind::Suppression,
            Self::FindList { .. }
            | Self::List { .. }
            | Self::CreateList { .. }
            | Self::Lists { .. }
            | Self::DeleteList { .. } => CallKind::Lists,
            Self::ContactCounts => CallKind::Counts,
        }
    }
}

/// What a call is for: the label of metrics, the key of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// An import.
    Import,
    /// A removal, or the deletion of contacts.
    Remove,
    /// Reading activities.
    Poll,
    /// Paging through a list.
    Scan,
    /// One contact by address.
    LookUp,
    /// Deleted and unsubscribed contacts.
    Suppression,
    /// Finding, reading, creating or deleting lists.
    Lists,
    /// How many contacts an account has.
    Counts,
    /// The token endpoint.
    Token,
}

impl CallKind {
    /// All kinds, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Import,
        Self::Remove,
        Self::Poll,
        Self::Scan,
        Self::LookUp,
        Self::Suppression,
        Self::Lists,
        Self::Counts,
        Self::Token,
    ];

    /// The word used in metrics, logs and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Remove => "remove",
            Self::Poll => "poll",
            Self::Scan => "scan",
            Self::LookUp => "look_up",
            Self::Suppression => "suppression",
            Self::Lists => "lists",
            Self::Counts => "counts",
            Self::Token => "token",
        }
    }
}

/// Who leaves, in a removal. Addresses cannot be named: the vendor takes ids or lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalSource {
    /// Contacts by id, 1 to 500.
    Contacts(Vec<ContactId>),
    /// All members of lists, 1 to 50.
    Lists(Vec<ListId>),
}

/// The vendor's place in a listing: the `cursor` of `_links.next.href`, never read, only given back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor(pub Text);

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the vendor's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// A contact as the vendor lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Its id.
    pub contact_id: ContactId,
    /// Its address, normalised; contacts that have none (SMS alone) are left out of pages.
    pub address: Text,
    /// Whether it may be sent to.
    pub status: ContactStatus,
    /// The lists that it is on, where the call asked for them.
    pub lists: Vec<ListId>,
}

/// What the vendor says of a contact's permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactStatus {
    /// May be on lists.
    Active,
    /// Has opted out.
    Unsubscribed,
    /// Was deleted (`deleted_at` is set).
    Deleted,
}

/// A list as the vendor shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Its id.
    pub list_id: ListId,
    /// Its name.
    pub name: Text,
    /// How many contacts are on it, where the call asked for it.
    pub membership_count: Option<u64>,
}

/// How many contacts an account has, by their consent; those that were deleted are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContactCounts {
    /// All of them.
    pub total: u64,
    /// Who gave consent, from whom it is inferred, and whose is still to be confirmed.
    pub explicit: u64,
    /// See [`Self::explicit`].
    pub implicit: u64,
    /// See [`Self::explicit`].
    pub pending: u64,
    /// Who has opted out.
    pub unsubscribed: u64,
}

impl ContactCounts {
    /// The contacts that a contract counts: the vendor bills active ones, which those are that have not opted out. That the
    /// total is the sum of all others is an inference, so that the larger of both ways to know counts.
    #[must_use]
    pub fn active(&self) -> u64 {
        let consenting = self.explicit.saturating_add(self.implicit).saturating_add(self.pending);
        self.total.saturating_sub(self.unsubscribed).max(consenting)
    }
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor answered with what was asked for.
    Answered(Answer),
    /// The vendor answered with something else.
    Refused(Refusal),
    /// No answer can be had any more, and the vendor may or may not have done it.
    Unknown(Lost),
    /// Surely nothing reached the vendor.
    NotSent(NotSent),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An activity: started (201), or read (200).
    Activity(Box<Activity>),
    /// A page of activities.
    Activities(Page<Activity>),
    /// A page of contacts.
    Contacts(Page<Contact>),
    /// A page of lists.
    Lists(Page<List>),
    /// One list: created or read.
    List(List),
    /// How many contacts an account has.
    ContactCounts(ContactCounts),
}

/// An answer that is not what was asked for, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The vendor's `error_key` (or OAuth `error`), where its body held one.
    pub error_key: Option<Text>,
    /// What it means for us.
    pub disposition: Disposition,
    /// `Retry-After`, which is undocumented and honoured if it comes.
    pub retry_after_ms: Option<u64>,
}

/// What a refused call means for us. One table (`constant_contact::error`) gives it for each status and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Too many calls in a second: the whole application pauses, then the same call again.
    Throttled,
    /// The day's calls are spent: the application holds until 00:00 UTC.
    QuotaExceeded,
    /// 1,000 activities are queued in the account: its batches wait.
    QueueFull,
    /// The access token is not valid: read the token store again, refresh, then the same call again.
    RefreshToken,
    /// Scope or privilege is missing: the connection holds until a person acts.
    HoldConnection,
    /// What the call names does not exist (a list, an activity, a contact).
    NotFound,
    /// The name is taken, or somebody else changed the same thing.
    Conflict,
    /// The body is too large: send it in halves.
    Split,
    /// The vendor does not accept the request as it is: repeating it helps nobody, the export holds.
    Invalid,
    /// The vendor failed. Whether it did what was asked is unknown.
    ServerError,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The deadline passed.
    Timeout,
    /// The connection broke after bytes had left.
    Reset,
    /// An answer came that cannot be read.
    Unreadable,
}

/// Why a call was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotSent {
    /// `not_after` had passed when the first byte was to be written.
    TooLate,
    /// No connection could be made.
    Unreachable,
    /// The connection has no access token.
    NoToken,
}
