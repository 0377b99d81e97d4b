//! Why something is held or not read, and what to do: for the page, metrics, log lines and errors alike.

use serde::Serialize;

use crate::model::catalog::{ApplicationId, ConnectionId, ExportId};

/// Who is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// All of an API key.
    Application(ApplicationId),
    /// All exports of a connection.
    Connection(ConnectionId),
    /// One export.
    Export(ExportId),
    /// Everything: nothing moves in this shard.
    Shard,
}

/// Why somebody is held. [`HoldReason::explain`] says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The export has not been started.
    NotStarted,
    /// The operator paused the export.
    Paused,
    /// More removals than an hour may have wait for approval.
    RemovalBrake,
    /// The connection has no recorded privacy consent.
    NoConsent,
    /// Nobody has signed in.
    NoToken,
    /// The token no longer works.
    TokenDead,
    /// The stored token belongs to another application.
    TokenOfOtherApplication,
    /// The token store or the token endpoint cannot be reached.
    TokenUnavailable,
    /// The vendor says that a scope or privilege is missing.
    Forbidden,
    /// The day's calls are spent.
    QuotaSpent,
    /// The vendor says that the day's calls are spent, earlier than we counted.
    QuotaSpentByOthers,
    /// The export moved as many profiles in the last 60 minutes as it may.
    ProfilesPerHour,
    /// 1,000 activities are queued in the account.
    ActivityQueueFull,
    /// The list is not in the account.
    ListMissing,
    /// The vendor does not accept the export's requests.
    RequestRejected,
    /// The API does not answer.
    ApiUnreachable,
    /// The account's deleted and unsubscribed contacts are not read yet.
    SuppressionUnread,
    /// The account has more deleted and unsubscribed contacts than are kept.
    SuppressedMax,
    /// The account has as many contacts as its contract allows.
    ContactsMax,
    /// Too many calls in a second; somebody else uses the key.
    Throttled,
    /// The state and the source disagree.
    HeaderDisagrees,
    /// Segments that are routed anew are read again.
    Backfill,
    /// The members that the list had before are not read yet.
    ListUnread,
    /// The export's list or connection is not the one that its facts are of.
    ConnectionChanged,
    /// The source has lost records that were not read yet.
    RetentionGap,
    /// The state is gone while offsets exist.
    StateGone,
    /// A state record cannot be read.
    StateUnreadable,
}

impl HoldReason {
    /// Whether what waits in the queues goes only once a person has done something. What the brake and the contract keep is put
    /// aside, out of the queues.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        match self {
            Self::NotStarted
            | Self::Paused
            | Self::NoConsent
            | Self::NoToken
            | Self::TokenDead
            | Self::TokenOfOtherApplication
            | Self::Forbidden
            | Self::ListMissing
            | Self::RequestRejected
            | Self::SuppressedMax
            | Self::HeaderDisagrees
            | Self::ConnectionChanged
            | Self::RetentionGap
            | Self::StateGone
            | Self::StateUnreadable => true,
            Self::RemovalBrake
            | Self::ContactsMax
            | Self::TokenUnavailable
            | Self::QuotaSpent
            | Self::QuotaSpentByOthers
            | Self::ProfilesPerHour
            | Self::ActivityQueueFull
            | Self::ApiUnreachable
            | Self::SuppressionUnread
            | Self::Throttled
            | Self::Backfill
            | Self::ListUnread => false,
        }
    }

    /// The word for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Paused => "paused",
            Self::RemovalBrake => "removal_brake",
            Self::NoConsent => "no_consent",
            Self::NoToken => "no_token",
            Self::TokenDead => "token_dead",
            Self::TokenOfOtherApplication => "token_of_other_application",
            Self::TokenUnavailable => "token_unavailable",
            Self::Forbidden => "forbidden",
            Self::QuotaSpent => "quota_spent",
            Self::QuotaSpentByOthers => "quota_spent_by_others",
            Self::ProfilesPerHour => "profiles_per_hour",
            Self::ActivityQueueFull => "activity_queue_full",
            Self::ListMissing => "list_missing",
            Self::RequestRejected => "request_rejected",
            Self::ApiUnreachable => "api_unreachable",
            Self::SuppressionUnread => "suppression_unread",
            Self::SuppressedMax => "suppressed_max",
            Self::ContactsMax => "contacts_max",
            Self::Throttled => "throttled",
            Self::HeaderDisagrees => "header_disagrees",
            Self::Backfill => "backfill",
            Self::ListUnread => "list_unread",
            Self::ConnectionChanged => "connection_changed",
            Self::RetentionGap => "retention_gap",
            Self::StateGone => "state_gone",
            Self::StateUnreadable => "state_unreadable",
        }
    }

    /// What it means and what to do, for a person.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::NotStarted => "the export has not been started: `listkeeper export run` with its name starts it",
            Self::Paused => {
                "the export was paused: what comes for it is kept, and goes after `listkeeper export resume` with its name"
            }
            Self::RemovalBrake => {
                "more of ours would leave the list within an hour than `removals.hold_above_percent` allows: look at the segments, then `listkeeper export approve` with the export's name; adds and updates go on"
            }
            Self::NoConsent => "the connection has no recorded privacy consent: record it as `privacy_consent` of the connection",
            Self::NoToken => "the token store holds no token: sign in with the account and store its token",
            Self::TokenDead => "the vendor no longer accepts the token: sign in with the account again",
            Self::TokenOfOtherApplication => {
                "the stored token belongs to another application: sign in again, or correct `token_store`"
            }
            Self::TokenUnavailable => "the token store or the token endpoint does not answer: it is tried again by itself",
            Self::Forbidden => {
                "the vendor says that the token lacks a scope or the user a privilege: sign in with a user who may change contacts and lists"
            }
            Self::QuotaSpent => "the API key's calls of this day are spent: it goes on at 00:00 UTC",
            Self::QuotaSpentByOthers => {
                "the vendor says that the API key's calls of this day are spent, earlier than Listkeeper counted: something else uses the key; it goes on at 00:00 UTC"
            }
            Self::ProfilesPerHour => {
                "the export moved as many profiles in the last 60 minutes as `profiles_per_hour_max` allows: it goes on by itself"
            }
            Self::ActivityQueueFull => "the account has 1,000 activities queued: it goes on as they complete",
            Self::ListMissing => "the account has no such list: create it, correct `list`, or say `create: true`",
            Self::RequestRejected => "the vendor rejects this export's requests: check its list and its custom fields' names",
            Self::ApiUnreachable => "the vendor's API does not answer: it is tried again by itself",
            Self::SuppressionUnread => {
                "the account's deleted and unsubscribed contacts are read before its first import, so that none of them is revived: it goes on by itself"
            }
            Self::SuppressedMax => {
                "the account has more than 2,000,000 deleted and unsubscribed contacts, which is more than are kept: nothing is imported, removals go on"
            }
            Self::ContactsMax => {
                "the account has as many contacts as its contract allows: adds are kept, updates and removals go on; delete contacts in the account, or raise `contract.contacts_max` of the connection once the contract allows more; it is counted again every 15 minutes"
            }
            Self::Throttled => {
                "the vendor says that the API key makes too many calls a second: something else uses the key; it goes on by itself"
            }
            Self::HeaderDisagrees => {
                "the committed offsets and the state disagree: somebody changed one of them; put it back, or start anew with another `kafka.group`"
            }
            Self::Backfill => {
                "the source is read again for segments that were added, or whose mapping changed: what is to be sent waits until that is done, and goes on by itself"
            }
            Self::ListUnread => {
                "the members that the list had before are read once, so that it is known who they are: it goes on by itself"
            }
            Self::ConnectionChanged => {
                "the export's connection is another than before: put it back, or give the list of the new one to an export of another name"
            }
            Self::RetentionGap => {
                "the source has deleted records that were not read yet: have the producer send the segments again, then start anew with another `kafka.group`"
            }
            Self::StateGone => {
                "the state topic is empty although offsets are committed: restore it, or start anew with another `kafka.group`"
            }
            Self::StateUnreadable => {
                "a record of the state topic cannot be read: run the version that wrote it, or start anew with another `kafka.group`"
            }
        }
    }
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// As many changes wait as memory is meant for.
    ChangesWaiting,
    /// As many delivered records are unsettled as memory is meant for.
    RecordsUnsettled,
    /// Changes for the next transaction have piled up behind the one under way.
    CommitBehind,
    /// The state holds as many profiles as `state.max_profiles` allows.
    ProfilesMax,
    /// The stage is stopping.
    Draining,
    /// Older partitions are not settled yet up to the ends that they had when the source grew: these alone wait.
    OlderPartitions,
}

impl PauseReason {
    /// The word for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangesWaiting => "changes_waiting",
            Self::RecordsUnsettled => "records_unsettled",
            Self::CommitBehind => "commit_behind",
            Self::ProfilesMax => "profiles_max",
            Self::Draining => "draining",
            Self::OlderPartitions => "older_partitions",
        }
    }

    /// What it means and what ends it, for a person.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::ChangesWaiting => {
                "as many changes wait to be sent as memory is meant for: reading goes on as they are sent, or once an export that is held and has most of them is let go"
            }
            Self::RecordsUnsettled => {
                "as many records wait for the vendor as memory is meant for: reading goes on as their changes are applied"
            }
            Self::CommitBehind => "Kafka is slower to take the state than the source is to read: reading goes on by itself",
            Self::ProfilesMax => "the state holds as many profiles as `state.max_profiles` allows: raise it",
            Self::Draining => "the stage is stopping",
            Self::OlderPartitions => {
                "the source has gained partitions, which are read once the older ones are settled up to where they ended then, so that events of profiles that moved keep their order: it goes on by itself"
            }
        }
    }
}
