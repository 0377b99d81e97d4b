//! What Listkeeper promises. The engine, the simulator's oracles, the metrics and the documents use these names.

use serde::{Deserialize, Serialize};

/// A promise that holds whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// An offset is committed only when every event below it is applied, superseded by a later valid event of the
    /// same profile that is applied, filtered on purpose, refused or dead-lettered (the letter in the same
    /// transaction), or parked with the row to send in the same transaction.
    NothingLost,
    /// "Applied" is the activity's state `completed` and its counts, read back from the API.
    AppliedMeansCompleted,
    /// Once events stop and faults heal, the members of a list that are ours are exactly the profiles in at least one
    /// segment of its export, less those refused and with those kept by configuration.
    ListsConverge,
    /// No activity is started that touches a contact of one that may still run.
    OneInFlightPerContact,
    /// Never more requests in any second, nor in any day of UTC, than the application's limits, by the vendor's clock.
    QuotaNeverExceeded,
    /// An unsubscribed or deleted contact is never revived; nothing is sent before privacy consent is recorded.
    OptOutRespected,
    /// Every buffer and the state have a limit; reaching it pauses, with a reason.
    Bounded,
    /// Tokens, client secrets, e-mail addresses and names never reach logs, metrics, error texts, panics or
    /// dead-letter headers.
    Private,
}

impl Promise {
    /// All promises.
    pub const ALL: [Self; 8] = [
        Self::NothingLost,
        Self::AppliedMeansCompleted,
        Self::ListsConverge,
        Self::OneInFlightPerContact,
        Self::QuotaNeverExceeded,
        Self::OptOutRespected,
        Self::Bounded,
        Self::Private,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing_lost",
            Self::AppliedMeansCompleted => "applied_means_completed",
            Self::ListsConverge => "lists_converge",
            Self::OneInFlightPerContact => "one_in_flight_per_contact",
            Self::QuotaNeverExceeded => "quota_never_exceeded",
            Self::OptOutRespected => "opt_out_respected",
            Self::Bounded => "bounded",
            Self::Private => "private",
        }
    }
}
