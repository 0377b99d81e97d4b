//! Everything that an operator may want to know. `telemetry::observe` turns each into metrics and a log line.

use serde::Serialize;

use crate::model::{
    Text,
    activity::ActivityState,
    batch::{BatchName, CutReason, Operation},
    call::{CallKind, Disposition},
    catalog::{ApplicationId, ConnectionId, ExportId, RemovalStrategy},
    control::ControlAction,
    event::{ChangeKind, DecodeFault},
    named,
    time::UnixMillis,
};

use super::brake::Braked;

/// A fact. Numbers of applications, connections and exports are those of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What became of the records of one hand-over.
    RecordsRouted(RecordCounts),
    /// A batch was cut.
    BatchCut {
        /// Its name.
        name: BatchName,
        /// Its export.
        export: ExportId,
        /// What it does.
        operation: Operation,
        /// How many rows it has.
        rows: u32,
        /// Why it was cut now.
        reason: CutReason,
    },
    /// A call ended, well or not.
    CallEnded {
        /// Its application.
        application: ApplicationId,
        /// Its connection.
        connection: ConnectionId,
        /// The export that it served, where it served one.
        export: Option<ExportId>,
        /// What it was for.
        kind: CallKind,
        /// `ok`, a [`Disposition`]'s or a loss's word.
        result: CallResult,
        /// From the hand-over to the shell until the answer.
        took_ms: u64,
    },
    /// The vendor took a batch (201): nothing is applied yet.
    ActivityStarted {
        /// The batch.
        name: BatchName,
        /// Its export.
        export: ExportId,
        /// What it does.
        operation: Operation,
    },
    /// An activity reached its end.
    ActivityEnded {
        /// The batch.
        name: BatchName,
        /// Its export.
        export: ExportId,
        /// What it did.
        operation: Operation,
        /// How it ended.
        state: ActivityState,
        /// From the vendor's taking it until its end, by the vendor's clock.
        took_ms: u64,
    },
    /// Rows of a completed activity count as applied.
    Applied {
        /// Their export.
        export: ExportId,
        /// How many contacts joined the list.
        adds: u32,
        /// How many had their fields updated.
        updates: u32,
        /// How many left the list.
        removals: u32,
        /// When the activity ended, by the vendor's clock.
        at: UnixMillis,
        /// How long the vendor worked for them, in all their activities.
        vendor_ms: u64,
        /// For each applied row, milliseconds from its record's timestamp to the activity's end.
        freshness_ms: Vec<u32>,
    },
    /// Changes that cancelled each other before they were sent.
    Cancelled {
        /// Their export.
        export: ExportId,
        /// How many contacts.
        contacts: u32,
    },
    /// Changes waited for so long that their events were settled: what is to be sent is in the state.
    Parked {
        /// Their export.
        export: ExportId,
        /// How many contacts.
        contacts: u32,
    },
    /// Segments of an export are routed no more: whoever was on the list because of them alone leaves.
    SegmentsStopped {
        /// The export, which the configuration may not have any more.
        export: Text,
        /// How many segments.
        segments: u32,
    },
    /// Segments of an export are routed anew, or with another mapping: the source is read again for them.
    BackfillBegan {
        /// The export.
        export: ExportId,
        /// How many segments.
        segments: u32,
        /// Offsets that are to be read, over all partitions.
        records: u64,
        /// The source has lost events of them that had not been read.
        lost: bool,
    },
    /// They were read as far as everything else.
    BackfillEnded {
        /// The export.
        export: ExportId,
    },
    /// The list of an export is another than before: ours leave the old one, then join the new one.
    MoveBegan {
        /// The export.
        export: ExportId,
        /// How many of ours are on the old list.
        contacts: u64,
    },
    /// Nothing of ours is on the old list any more, and the new one counts.
    MoveEnded {
        /// The export.
        export: ExportId,
    },
    /// The members that a list had before were read: they are never removed.
    ExistingMembersRead {
        /// The list's export.
        export: ExportId,
        /// How many.
        contacts: u64,
    },
    /// The members that a list had before were read, and are ours from here on.
    ExistingMembersAdopted {
        /// The list's export.
        export: ExportId,
        /// How many.
        contacts: u64,
    },
    /// A row was refused for good.
    RowsRefused {
        /// Their export.
        export: ExportId,
        /// How many.
        rows: u32,
    },
    /// Some of these rows were refused, and nobody knows which: the search for them is spent. They are kept as they are,
    /// neither applied nor refused, until other rows of their profiles come or they leave.
    SearchSpent {
        /// Their export.
        export: ExportId,
        /// How many contacts are kept.
        contacts: u32,
        /// How many of them the vendor refused.
        refused: u64,
    },
    /// Adds were refused because the account has their contacts as deleted or unsubscribed; they are kept.
    Suppressed {
        /// Their export.
        export: ExportId,
        /// How many.
        contacts: u32,
    },
    /// Adds and updates were parked because their address was sent so often within a day that the vendor might take one more
    /// for abuse; the newest of each is sent when the oldest of these is a day old.
    Flapping {
        /// Their export.
        export: ExportId,
        /// How many contacts.
        contacts: u32,
    },
    /// Contacts of erased profiles were deleted in their account.
    ContactsDeleted {
        /// The export.
        export: ExportId,
        /// How many.
        contacts: u32,
    },
    /// An activity could not add contacts to its list, and the suppressed ones do not explain them.
    CannotAddUnexplained {
        /// Their export.
        export: ExportId,
        /// How many.
        rows: u64,
    },
    /// How a set of removals finds its contact ids, and why.
    RemovalPlanned {
        /// Their export.
        export: ExportId,
        /// The way.
        strategy: RemovalStrategy,
        /// How many contacts are to leave.
        contacts: u64,
        /// What it costs in calls, and what the dearer way would.
        calls: u64,
        /// The next cheapest way and what it would cost; `None` if no other is allowed.
        other: Option<(RemovalStrategy, u64)>,
    },
    /// A removal by a staging list ended.
    RoundEnded {
        /// Its export.
        export: ExportId,
        /// How many contacts it had.
        contacts: u32,
        /// How.
        end: RoundEnd,
        /// Its contacts left the target and the staging list in two removals.
        in_two: bool,
        /// Its removal was sent before its import was read as done.
        ahead: bool,
    },
    /// The pool of staging lists changed.
    StagingList {
        /// Its connection.
        connection: ConnectionId,
        /// The number in the list's name.
        number: u8,
        /// How.
        change: StagingListChange,
    },
    /// It is known now whether a removal may name its source among its targets.
    RemovesFromSource {
        /// The connection.
        connection: ConnectionId,
        /// Contacts leave both; otherwise rounds end with two removals.
        removes: bool,
    },
    /// An answer came for a call that this term does not know, or knows no more: recorded and ignored.
    LateAnswer {
        /// What the call was for, where it is known.
        kind: Option<CallKind>,
    },
    /// A batch whose answer was lost was found by its name.
    BatchFound {
        /// Its name.
        name: BatchName,
    },
    /// A batch whose answer was lost was not found twice, a quiet time apart, and is sent again.
    BatchGivenUp {
        /// Its name.
        name: BatchName,
    },
    /// The vendor does not give the names of imported files back: an import without an answer is repeated.
    NamesNotEchoed {
        /// Its connection.
        connection: ConnectionId,
    },
    /// A batch that was given up runs after all: its contacts are fenced.
    GhostSeen {
        /// Its name.
        name: BatchName,
        /// Its export.
        export: ExportId,
        /// How many contacts.
        contacts: u32,
    },
    /// A batch that was given up ended after all: what is wanted of its contacts is sent again.
    GhostEnded {
        /// Its name.
        name: BatchName,
        /// Its export.
        export: ExportId,
        /// How many contacts.
        contacts: u32,
    },
    /// Removals wait for the operator's approval from here on.
    RemovalsBraked {
        /// Of which export.
        export: ExportId,
        /// Why.
        braked: Braked,
    },
    /// An account has as many contacts as its contract allows: adds wait from here on, updates and removals go on.
    ContractReached {
        /// Which connection's.
        connection: ConnectionId,
        /// Contacts that it has at most.
        contacts: u64,
        /// How many are allowed.
        contacts_max: u64,
    },
    /// An order of the operator is in the state.
    Ordered {
        /// Of which export.
        export: ExportId,
        /// What.
        action: ControlAction,
    },
    /// A connection, an application or an export does not send.
    Held {
        /// Who.
        who: Holder,
        /// Why.
        reason: HoldReason,
        /// When it ends by itself, where that is known.
        until: Option<UnixMillis>,
    },
    /// A hold ended.
    Released {
        /// Who.
        who: Holder,
        /// Why it was held.
        reason: HoldReason,
    },
    /// Reading stopped.
    Paused {
        /// Why.
        reason: PauseReason,
        /// The export that has most of what waits, where that is why.
        most: Option<ExportId>,
    },
    /// Reading goes on.
    Resumed,
    /// Partitions that the source gained are not read yet.
    PartitionsWait {
        /// How many.
        partitions: u32,
        /// Why.
        reason: PauseReason,
    },
    /// Partitions that waited are read from here on.
    PartitionsBegun {
        /// How many.
        partitions: u32,
    },
    /// Records became dead letters.
    DeadLettered {
        /// How many.
        letters: u32,
        /// The word for the metric's label.
        reason: &'static str,
    },
    /// A transaction was confirmed.
    Committed {
        /// Changes of the state in it.
        changes: u32,
        /// From the hand-over to the shell until the confirmation.
        took_ms: u64,
    },
}

named! {
    /// How a removal by a staging list ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum RoundEnd {
        /// Its contacts have left the target.
        Applied = "applied",
        /// It was not sent, because somebody in it must not be imported.
        TakenBack = "taken_back",
        /// The vendor imported nobody of it: they leave another way.
        NobodyStaged = "nobody_staged",
        /// What it did is not certain: its contacts are decided anew.
        Failed = "failed",
        /// Its removal was sent ahead of its import's end, which took unusually long: its contacts are decided anew.
        Early = "early",
        /// It was begun by another term, and followed to its end.
        Followed = "followed",
    }
}

named! {
    /// What became of a staging list.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum StagingListChange {
        /// It was made, or found.
        Made = "made",
        /// Somebody may be on it: it is to be deleted.
        Condemned = "condemned",
        /// It was deleted.
        Deleted = "deleted",
    }
}

/// What became of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RecordCounts {
    /// Decoded events, by [`ChangeKind`] in its order.
    pub events: [u32; 3],
    /// Erasures.
    pub erasures: u32,
    /// Events of a segment in no export.
    pub filtered: u32,
    /// Events that change nothing that is mapped, wanted or known.
    pub unchanged: u32,
    /// Records below the watermark that were read again for segments that are routed anew.
    pub read_again: u32,
    /// Replayed events that an earlier commit already covers.
    pub replayed: u32,
    /// Profiles without an address, skipped.
    pub without_address: u32,
    /// Addresses that cannot be sent, skipped or dead-lettered.
    pub invalid_address: u32,
    /// Records that cannot be decoded, by [`DecodeFault`] in its order.
    pub undecodable: [u32; 9],
}

impl RecordCounts {
    /// The slot of a change kind in [`Self::events`].
    #[must_use]
    pub const fn event_slot(kind: ChangeKind) -> usize {
        kind as usize
    }

    /// The slot of a fault in [`Self::undecodable`].
    #[must_use]
    pub const fn fault_slot(fault: DecodeFault) -> usize {
        fault as usize
    }
}

/// How a call ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallResult {
    /// As asked.
    Ok,
    /// Refused.
    Refused(Disposition),
    /// No answer: the outcome is unknown.
    Unknown,
    /// Surely not sent.
    NotSent,
}

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
