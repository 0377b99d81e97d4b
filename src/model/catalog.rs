//! What the configuration means for the engine: applications, connections, exports and limits, resolved and numbered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ListId, Text, time::UnixMillis};

/// An application's number in [`Catalog::applications`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ApplicationId(pub u16);

/// A connection's number in [`Catalog::connections`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u16);

/// An export's number in [`Catalog::exports`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExportId(pub u16);

/// A mapped field's number in [`Catalog::fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FieldId(pub u16);

/// Numbers are places in the catalog's lists.
macro_rules! numbered {
    ($($Id:ident),*) => {
        $(impl $Id {
            /// The number of the place `index`; a catalog has fewer than 65,536 of a kind.
            #[must_use]
            pub fn at(index: usize) -> Self {
                Self(u16::try_from(index).unwrap_or(u16::MAX))
            }
        })*
    };
}

numbered!(ApplicationId, ConnectionId, ExportId);

/// Hash of an application's client id: names are labels, this is the identity in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClientIdHash(pub u64);

impl std::fmt::Display for ClientIdHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Everything that one shard's engine works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Applications, in the order of their names.
    pub applications: Vec<Application>,
    /// Connections, in the order of their names.
    pub connections: Vec<Connection>,
    /// Exports, in the order of their names.
    pub exports: Vec<Export>,
    /// Dotted paths of all fields that some export maps: the order of `SegmentEvent::values`.
    pub fields: Vec<Text>,
    /// Durations.
    pub timing: Timing,
    /// What the state may hold, in profiles of all exports.
    pub profiles_max: u64,
}

/// An API key with its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its name in the configuration.
    pub name: Text,
    /// What it is in the state.
    pub client_id_hash: ClientIdHash,
    /// Requests in any second; `None` is unlimited.
    pub calls_per_second: Option<u32>,
    /// Requests in a day of UTC; `None` is unlimited.
    pub calls_per_day: Option<u32>,
    /// Part of the day's requests that is left to other users of the key, 0 to 100.
    pub reserved_for_others_percent: u8,
}

impl Application {
    /// The shard that it belongs to, of so many.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        u32::try_from(self.client_id_hash.0 % u64::from(shards.max(1))).unwrap_or_default()
    }
}

/// One account, signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its name in the configuration.
    pub name: Text,
    /// Its application.
    pub application: ApplicationId,
    /// The consent that the configuration carries; without one nothing is sent.
    pub consent: Option<Consent>,
    /// False for a fixed access token, which is never refreshed.
    pub refreshes: bool,
    /// What erasing a profile does in the account.
    pub on_erasure: OnErasure,
    /// How many contacts the account's contract allows; `None` is unlimited.
    pub contacts_max: Option<u64>,
}

/// Recorded privacy consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who accepted.
    pub accepted_by: Text,
    /// When.
    pub accepted_at: UnixMillis,
    /// Which version of the text.
    pub text: Text,
}

/// Segments → one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its name in the configuration, and its identity in the state.
    pub name: Text,
    /// Its connection.
    pub connection: ConnectionId,
    /// Its list.
    pub list: ListRef,
    /// Its segments, at most [`SEGMENTS_PER_EXPORT_MAX`]; a profile in any of them belongs on the list.
    pub segments: Vec<Text>,
    /// Where the values come from.
    pub mapping: Mapping,
    /// What happens to an event that brings a profile without an address.
    pub no_address: NoAddress,
    /// What an exit from the last segment does.
    pub on_exit: OnExit,
    /// Where the events come from that were there before a segment was routed.
    pub backfill: Backfill,
    /// Whether members that the list had before become ours; otherwise they are never removed.
    pub adopts_existing: bool,
    /// Ways to remove that are allowed, in the operator's order.
    pub removal_strategies: Vec<RemovalStrategy>,
    /// When an hour's removals wait for approval; `None`: never.
    pub removal_brake: Option<RemovalBrake>,
    /// Profiles (rows of adds, updates and removals) in any 60 minutes; `None` is unlimited.
    pub profiles_per_hour_max: Option<u64>,
    /// How much a change of this export counts against others.
    pub weight: u32,
    /// True when it runs without being asked for.
    pub starts_at_once: bool,
}

/// How many of its members an export may remove within 60 minutes before its removals wait for approval: the larger of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalBrake {
    /// This part of its members, in percent.
    pub percent: u8,
    /// This many.
    pub contacts_min: u64,
}

/// Segments of one export: they are the bits of one word.
pub const SEGMENTS_PER_EXPORT_MAX: usize = 64;

/// A list by its id, or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListRef {
    /// By id.
    Id(ListId),
    /// By its full name.
    Named {
        /// The name.
        name: Text,
        /// Whether it is created when the account has none of that name.
        create: bool,
    },
}

/// Which of the event's values go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The address.
    pub email: FieldId,
    /// The first name.
    pub first_name: Option<FieldId>,
    /// The last name.
    pub last_name: Option<FieldId>,
    /// Custom fields: the vendor's field name and where its value comes from.
    pub custom: Vec<(Text, FieldId)>,
    /// The custom fields' names, shared with each batch.
    pub custom_names: Arc<[Text]>,
    /// Hash of all of the above with the paths, as the state's header records it.
    pub hash: u64,
}

impl Mapping {
    /// The address and nothing else.
    #[must_use]
    pub fn address_alone(email: FieldId, hash: u64) -> Self {
        Self { email, first_name: None, last_name: None, custom: Vec::new(), custom_names: Arc::from([]), hash }
    }
}

/// What happens to an event that brings a profile without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoAddress {
    /// Skipped and counted.
    Skip,
    /// Dead-lettered.
    DeadLetter,
}

/// What becomes of the events that were in the source before a segment was routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backfill {
    /// They are read, as far back as the topic reaches.
    FromSource,
    /// They do not count.
    None,
}

/// What an exit from the last segment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExit {
    /// The contact leaves the list.
    Remove,
    /// The contact stays.
    Keep,
}

/// What erasing a profile (a tombstone) does in an account, with each address of it that an export ever sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnErasure {
    /// The contact leaves the lists that exports put it on.
    RemoveFromLists,
    /// The contact is deleted, unless another profile wants its address on a list.
    DeleteContact,
}

/// What the names of the staging lists of [`RemovalStrategy::StagingList`] begin with: no export's list has such a name.
pub const STAGING_PREFIX: &str = "Listkeeper staging";

/// A way to remove contacts, which the vendor takes by id or by list, never by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalStrategy {
    /// One call for each address, then one for each 500 ids.
    LookUp,
    /// One call for each 500 members of the list, then one for each 500 ids.
    Scan,
    /// Import into a list of our own, then remove that list's members from the target.
    StagingList,
}

impl RemovalStrategy {
    /// The word used in metrics, logs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LookUp => "look_up",
            Self::Scan => "scan",
            Self::StagingList => "staging_list",
        }
    }
}

/// Durations of the configuration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// No watermark waits longer than this for the vendor.
    pub park_after_ms: u64,
    /// How long after a completed add "not found" and "not a member" prove nothing.
    pub index_lag_ms: u64,
    /// How long after the first look an import that is not found is looked for again before it is given up.
    pub quiet_ms: u64,
    /// How long a stop may take.
    pub drain_ms: u64,
    /// How long a request may take.
    pub request_deadline_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { park_after_ms: 120_000, index_lag_ms: 600_000, quiet_ms: 60_000, drain_ms: 60_000, request_deadline_ms: 30_000 }
    }
}

impl Catalog {
    /// What one shard works for: the applications whose client id hashes to it, with their connections and exports,
    /// numbered anew. Fields keep their numbers.
    #[must_use]
    pub fn of_shard(&self, shard: u32, shards: u32) -> Self {
        let mine = |application: &Application| application.shard(shards) == shard;
        let number = |position: Option<usize>| position.and_then(|position| u16::try_from(position).ok());
        let applications: Vec<Application> = self.applications.iter().filter(|application| mine(application)).cloned().collect();
        let application = |id: ApplicationId| {
            let name = &self.application(id).name;
            number(applications.iter().position(|kept| kept.name == *name)).map(ApplicationId)
        };
        let connections = self.connections.iter().filter_map(|connection| {
            Some(Connection { application: application(connection.application)?, ..connection.clone() })
        });
        let connections: Vec<Connection> = connections.collect();
        let connection = |id: ConnectionId| {
            let name = &self.connection(id).name;
            number(connections.iter().position(|kept| kept.name == *name)).map(ConnectionId)
        };
        let exports = self
            .exports
            .iter()
            .filter_map(|export| Some(Export { connection: connection(export.connection)?, ..export.clone() }));
        let exports = exports.collect();
        let (fields, timing, profiles_max) = (self.fields.clone(), self.timing, self.profiles_max);
        Self { applications, connections, exports, fields, timing, profiles_max }
    }

    /// The application with this number.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> &Application {
        &self.applications[usize::from(id.0)]
    }

    /// The connection with this number.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> &Connection {
        &self.connections[usize::from(id.0)]
    }

    /// The export with this number.
    #[must_use]
    pub fn export(&self, id: ExportId) -> &Export {
        &self.exports[usize::from(id.0)]
    }
}
