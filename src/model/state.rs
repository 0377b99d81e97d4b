//! What the state topic holds: everything that a new owner needs, keyed so that the newest record of a key counts.
//!
//! Records are Avro (`schemas/state/*.avsc`); `codec::state` turns them to bytes and back.

use serde::{Deserialize, Serialize};

use super::{
    ContactId, ListId, Text,
    batch::{BatchName, Operation, StagedRound},
    catalog::ClientIdHash,
    position::{NextOffset, PartitionId, Position},
    row::Row,
    time::{UnixMillis, UtcDay},
};

/// How the profile of a member begins that was made for an address which was on a list before and that no profile of the source
/// has had: the address's hash follows. No profile id of the source begins with a zero character, which the decoder refuses.
/// Its record says what was applied of the address, as any member's does, so that it is removed, or handed over to a profile
/// that wants the address, like any other.
pub const ADOPTED_PREFIX: &str = "\u{0}adopted/";

/// The format of the state as a whole. A larger one than this stops the stage with a remedy.
pub const STATE_FORMAT: u32 = 1;

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// The shard's header.
    Header,
    /// A profile in an export.
    Member {
        /// The export's name.
        export: Text,
        /// The profile's id.
        profile: Text,
    },
    /// A part of an open batch.
    Batch {
        /// The batch.
        name: BatchName,
        /// The part, from 0.
        chunk: u32,
    },
    /// Calls spent with an API key.
    Ledger {
        /// The application.
        application: ClientIdHash,
    },
    /// What an export has resolved and done so far.
    Export {
        /// The export's name.
        export: Text,
    },
    /// Some of the addresses, hashed, that were on an export's list before its first batch.
    Protected {
        /// The export's name.
        export: Text,
        /// Which part of them, from 0.
        bucket: u32,
    },
    /// What was read and found out of a connection.
    Connection {
        /// The connection's name.
        connection: Text,
    },
    /// A part of the addresses that imports into a connection must never touch.
    Suppressed {
        /// The connection's name.
        connection: Text,
        /// The part: the eight highest bits of the hashes in it.
        bucket: u8,
    },
}

/// One change of the state: a record, or `None` where its key is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// What it is about.
    pub key: StateKey,
    /// What is so from now on.
    pub value: Option<StateValue>,
}

/// A record's value, of the kind that its key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateValue {
    /// See [`Header`].
    Header(Header),
    /// See [`MemberCut`].
    Member(MemberCut),
    /// See [`BatchChunk`].
    Batch(BatchChunk),
    /// See [`LedgerRecord`].
    Ledger(LedgerRecord),
    /// See [`ExportRecord`].
    Export(ExportRecord),
    /// `hash::text_hash` of addresses, ascending.
    Protected(Vec<u64>),
    /// See [`ConnectionRecord`].
    Connection(ConnectionRecord),
    /// See [`SuppressedBucket`].
    Suppressed(SuppressedBucket),
}

/// The shard's header, written in every transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Header {
    /// [`STATE_FORMAT`] of the writer.
    pub format: u32,
    /// The writer's wall clock.
    pub written_at: UnixMillis,
    /// True in the last transaction of a term that ended in order, with nothing in flight.
    pub ended: bool,
    /// For each source partition, where it stands.
    pub partitions: Vec<PartitionHeader>,
    /// What was routed when these offsets were settled.
    pub routed: Vec<RoutedExport>,
    /// What had been routed before and was not any more: its facts are kept.
    pub stopped: Vec<StoppedExport>,
    /// When the source grew, in that order, as far as it still has events of before.
    pub grown: Vec<Growth>,
}

/// Partitions that the source gained at one time. A profile may have moved to one of them: its older events lie in the
/// older partitions, below these ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// What it gained.
    pub added: Vec<PartitionId>,
    /// The ends that the older partitions had when these were seen to hold something.
    pub ends: Vec<NextOffset>,
}

/// Where one source partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionHeader {
    /// The committed position.
    pub next: NextOffset,
    /// The last settled record below it, if any was settled: it tells a topic made anew.
    pub last_settled: Option<SettledRecord>,
}

/// Marks of a settled record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRecord {
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp.
    pub timestamp: UnixMillis,
    /// Its `hash::record_hash`.
    pub hash: u64,
}

/// What an export was when its events were routed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoutedExport {
    /// Its name.
    pub export: Text,
    /// Its connection's name.
    pub connection: Text,
    /// Its list as configured (the id, or `name:` and the name).
    pub list: Text,
    /// Hash of its mapping.
    pub mapping_hash: u64,
    /// Its segments, sorted.
    pub segments: Vec<Text>,
}

/// What had been routed of an export before, and no longer is: by another configuration, or because the export may not
/// run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoppedExport {
    /// Its name.
    pub export: Text,
    /// Its connection's name then.
    pub connection: Text,
    /// Its list as configured then.
    pub list: Text,
    /// Its segments that stopped.
    pub segments: Vec<StoppedSegment>,
}

/// A segment that is no longer routed to an export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoppedSegment {
    /// The segment.
    pub segment: Text,
    /// Up to where its events are part of the facts that are kept.
    pub at: Vec<NextOffset>,
}

/// One profile in one export, as one cut: what is wanted as of a position, what was applied, what was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberCut {
    /// Wanted: the export's segments that the profile is in, as facts, sorted.
    pub segments: Vec<Text>,
    /// Wanted: the profile's address, normalised; none known, none here.
    pub address: Option<Text>,
    /// Wanted: the row to send, present when what is wanted differs from what was applied.
    pub row: Option<Row>,
    /// As of: an event at or below the position of its partition is part of this cut.
    pub positions: Vec<Position>,
    /// Kafka timestamp of the newest event in it.
    pub changed_at: UnixMillis,
    /// Applied: what the vendor confirmed, one entry for each address of the profile that may be on the list.
    pub applied: Vec<Applied>,
    /// Refused: the row that is not sent again.
    pub refused: Option<Refused>,
    /// True when the profile was erased and what it left is still to be removed.
    pub erased: bool,
    /// Addresses of the profile that were sent more than once within a day.
    pub sent: Vec<Sent>,
}

/// When an address was sent, in all exports of its account, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// `hash::text_hash` of the address.
    pub address_hash: u64,
    /// The ends of its activities by the vendor's clock, the oldest first.
    pub at: Vec<UnixMillis>,
}

/// What the vendor confirmed of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The address.
    pub address: Text,
    /// The list that it is on.
    pub list: ListId,
    /// Hash of the row that was sent last, or one of the numbers that begin with `ROW_`.
    pub row_hash: u64,
    /// When the activity completed.
    pub at: UnixMillis,
}

/// [`Applied::row_hash`] of an address of which nobody knows whether it is on the list.
pub const ROW_UNKNOWN: u64 = u64::MAX;
/// [`Applied::row_hash`] of a member of which nobody knows which of its rows the vendor has: a search for refused rows was
/// spent on the newest.
pub const ROW_UNFOUND: u64 = u64::MAX - 1;
/// [`Applied::row_hash`] of an address that was on the list and has left it: kept where an erasure deletes the contact. A
/// version that does not know it takes the address for a member, and looks in vain.
pub const ROW_LEFT: u64 = u64::MAX - 2;
/// [`Applied::row_hash`] of an address that was on a list before: no row has it, so that a wanted one is sent.
pub const ROW_ADOPTED: u64 = u64::MAX - 3;

/// A row that is not sent again: it was refused, or was among rows of which some were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Hash of address and row.
    pub row_hash: u64,
    /// Why, in one word: `row_refused`, or `search_spent` where nobody knows which of several were.
    pub reason: Text,
    /// The newest event in it.
    pub position: Position,
}

/// A part of an open batch, committed before the batch is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchChunk {
    /// What the batch does.
    pub operation: Operation,
    /// The export that it serves.
    pub export: Text,
    /// The list that it changes.
    pub list: ListId,
    /// Wall time of the first attempt: no activity of it is older.
    pub opened_at: UnixMillis,
    /// How many parts the batch has.
    pub chunks: u32,
    /// True when it was given up: not found, and watched for ten days.
    pub given_up: bool,
    /// Its contacts.
    pub rows: Vec<BatchContact>,
    /// The name of the connection that it was sent through; empty in records of versions that did not write it.
    pub connection: Text,
    /// For a removal by a staging list: which, and how far it has come. The part of number 0 has the newest.
    pub round: Option<StagedRound>,
    /// For a removal: its contacts are deleted in the account, because their profiles were erased.
    pub deletes: bool,
}

/// A contact in an open batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchContact {
    /// The profile that it was sent for.
    pub profile: Text,
    /// The address.
    pub address: Text,
    /// The contact's id, in removals.
    pub contact_id: Option<ContactId>,
    /// The newest event that the sent row carried.
    pub position: Position,
}

/// Calls spent with one API key. Reserved ahead in small blocks, so that a crash loop cannot spend a day twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// The newest day of the vendor's clock that calls were charged to.
    pub day: UtcDay,
    /// Calls that may have been spent of that day.
    pub calls: u32,
    /// Calls that may have been spent of the day after, because they were sent close to midnight.
    pub calls_next_day: u32,
}

/// What an export has resolved so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExportRecord {
    /// The list's id, once it was found or created by name.
    pub list: Option<ListId>,
    /// Rows of completed activities in each of the last 60 minutes: minute since 1970 and rows.
    pub rows_by_minute: Vec<(i64, u64)>,
    /// Whether the members that the list had before were read: they are in records of their own.
    pub existing_read: bool,
    /// They are not read before this time of the vendor's clock, after a move to this list.
    pub existing_from: Option<UnixMillis>,
    /// What the operator ordered.
    pub control: ControlRecord,
    /// The members from before were adopted when they were read: they are members like others.
    pub existing_adopted: bool,
    /// Removals of the last 60 minutes that nobody approved: minute since 1970 and contacts.
    pub removed_by_minute: Vec<(i64, u64)>,
    /// Adds and updates, and removals, that came in an hour lately.
    pub arrivals_per_hour: [u64; 2],
}

/// What an operator ordered of an export. It is part of the export's record and no kind of record of its own: the version
/// before refuses kinds that it does not know, and reads a record's first fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ControlRecord {
    /// When its first run was asked for; `None` where nobody has.
    pub started_at: Option<UnixMillis>,
    /// Nothing of it is sent until it is resumed.
    pub paused: bool,
    /// Removals that were approved and are not applied yet.
    pub approved_removals: u64,
}

/// What was read and found out of a connection so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// When the last complete reading of the deleted and unsubscribed contacts began, by the vendor's clock.
    pub suppressed_read_at: Option<UnixMillis>,
    /// Whether the vendor gives the names of imported files back, once an activity told.
    pub names_echoed: Option<bool>,
    /// What the vendor's activities take, as learned: milliseconds of an empty one, 0 when nothing was learned.
    pub activity_start_ms: u64,
    /// And microseconds for each row.
    pub activity_row_us: u64,
    /// Whether contacts leave both lists when a removal names its source among its targets, once one told.
    pub removes_from_source: Option<bool>,
    /// The staging lists that were made in it.
    pub staging_lists: Vec<StagingListRecord>,
    /// Contacts that imports may have made of late, where the account's contract limits them: minute since 1970 by the
    /// vendor's clock, and contacts.
    pub adds_by_minute: Vec<(i64, u64)>,
}

/// A list of our own that removals use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingListRecord {
    /// Its id.
    pub list: ListId,
    /// The number in its name.
    pub number: u8,
    /// Nobody knows any more who is on it, or who will be: it is deleted and used no more.
    pub condemned: bool,
}

/// Contacts of one connection that are deleted or have unsubscribed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SuppressedBucket {
    /// `hash::text_hash` of each address, ascending, and when the vendor showed it so last, by its clock.
    pub contacts: Vec<(u64, UnixMillis)>,
}

/// The partition's committed position in a header.
impl Header {
    /// The entry of a partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionHeader> {
        self.partitions.iter().find(|partition| partition.next.partition == id)
    }
}
