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

use super::{
    brake::Braked,
    reason::{HoldReason, Holder, PauseReason},
};

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
