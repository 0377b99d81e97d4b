//! A view of everything an operator may ask for: plain data for `/health`, `/metrics` and the page.

use serde::Serialize;

use crate::model::{
    Text,
    position::{NextOffset, PartitionId},
    time::UnixMillis,
};

use super::{
    brake::Braked,
    contract::ContractReached,
    decision::Decision,
    reason::{HoldReason, PauseReason},
};

/// What the engine knows of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Snapshot {
    /// Applications, in the catalog's order.
    pub applications: Vec<ApplicationView>,
    /// Connections, in the catalog's order.
    pub connections: Vec<ConnectionView>,
    /// Exports, in the catalog's order; behind them those that are removed and of which something is kept.
    pub exports: Vec<ExportView>,
    /// Watermarks: below them everything is settled.
    pub watermarks: Vec<NextOffset>,
    /// Where the reader stands.
    pub reader: Vec<NextOffset>,
    /// Delivered records that are not settled.
    pub records_unsettled: u64,
    /// Why reading is paused, if it is.
    pub paused: Option<PauseReason>,
    /// Partitions that the source gained and that wait for older ones.
    pub waiting_partitions: Vec<PartitionId>,
    /// Offsets that are still to be read again before segments that are routed anew are handed over.
    pub left_to_read: u64,
    /// Why nothing moves at all, if nothing does.
    pub held: Option<HoldReason>,
    /// Milliseconds until calls may begin: the owner before died, and a request of it may still be under way.
    pub calls_begin_in_ms: Option<u64>,
    /// Bytes of rows and addresses that wait or are in flight.
    pub buffered_bytes: u64,
    /// Kafka timestamp of the oldest change that is not applied.
    pub oldest_unapplied: Option<UnixMillis>,
}

/// An application's view.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ApplicationView {
    /// Its name.
    pub name: Text,
    /// Calls that may have been spent today, by the vendor's clock.
    pub calls_used: u32,
    /// Calls left today; `None` when unlimited.
    pub calls_left: Option<u32>,
    /// What a call costs now, in waiting-seconds; 0 while there are calls for everybody.
    pub call_price_waiting_seconds: f64,
    /// Why it is held, if it is.
    pub held: Option<HoldReason>,
}

/// A connection's view.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ConnectionView {
    /// Its name.
    pub name: Text,
    /// Activities that may still run.
    pub activities_open: u32,
    /// When the oldest of them was opened.
    pub oldest_activity: Option<UnixMillis>,
    /// Deleted and unsubscribed contacts that imports never touch.
    pub suppressed: u64,
    /// Contacts that the account has at most, as far as they were counted: where its contract limits them.
    pub contacts: Option<u64>,
    /// How many its contract allows; `None` when unlimited.
    pub contacts_max: Option<u64>,
    /// When its token ends, where that is known.
    pub token_expires_at: Option<UnixMillis>,
    /// Why it is held, if it is.
    pub held: Option<HoldReason>,
}

/// An export's view.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ExportView {
    /// Its name.
    pub name: Text,
    /// It is not configured any more: what it has on its list stays there, but for who is erased.
    pub removed: bool,
    /// It was started: by its configuration, or because its first run was asked for.
    pub started: bool,
    /// The operator paused it.
    pub paused: bool,
    /// Profiles that it keeps a record of.
    pub profiles: u64,
    /// Contacts of ours on its list, as confirmed.
    pub members: u64,
    /// Changes that wait to be sent.
    pub waiting: u64,
    /// Removals that wait for the operator.
    pub removals_held_back: u64,
    /// Changes in open batches.
    pub in_flight: u64,
    /// Adds that are kept and not sent, because their contacts were deleted or have unsubscribed.
    pub suppressed: u64,
    /// Rows that are kept and not sent again: some of them were refused, and the search for which is spent.
    pub search_spent: u64,
    /// Adds and updates that are parked, because their address was sent five times within a day: each goes when the oldest of
    /// these is a day old.
    pub flapping: u64,
    /// Rows that were sent in the last 60 minutes.
    pub profiles_last_hour: u64,
    /// The ceiling for them; `None` when unlimited.
    pub profiles_per_hour_max: Option<u64>,
    /// Kafka timestamp of the oldest change that is not applied.
    pub oldest_unapplied: Option<UnixMillis>,
    /// What becomes of what waits, and why.
    pub decisions: Vec<Decision>,
    /// Why it is held, if it is.
    pub held: Option<HoldReason>,
    /// How many removals wait for approval, if they do.
    pub braked: Option<Braked>,
    /// How many adds wait for room in the account, if some do.
    pub contract: Option<ContractReached>,
}

impl ExportView {
    /// What its hold means and what to do, with figures where there are some.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        let reason = self.held?;
        Some(match (reason, self.braked, self.contract) {
            (HoldReason::RemovalBrake, Some(braked), _) => {
                format!("{braked}: look at the segments, then `listkeeper export approve {}`; adds and updates go on", self.name)
            }
            (HoldReason::ContactsMax, _, Some(reached)) => format!(
                "{reached}; updates and removals go on. Delete contacts in the account, or raise `contract.contacts_max` of the connection once the contract allows more: it is counted again every 15 minutes"
            ),
            _ => reason.explain().to_owned(),
        })
    }
}
