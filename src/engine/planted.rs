//! Bugs that a test may plant, one at a time, to show that the virtual world would find them: `simulator::teeth` has the
//! table. Without the feature `planted-bugs` nothing of them is compiled but a condition that is never true; a release
//! build refuses the feature.

use crate::model::named;

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("the feature `planted-bugs` is for tests alone: build without it, or with debug assertions");

named! {
    /// A bug that can be planted.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Bug {
        /// The watermark follows the highest record that is done.
        WatermarkOfHighest = "watermark by highest completed",
        /// A batch counts as applied when the vendor takes it.
        AppliedAt201 = "acknowledging at 201",
        /// An activity that failed counts as applied.
        FailedIsApplied = "a failed activity is applied",
        /// The contacts of a batch are not fenced against other exports.
        FenceForgotten = "forgetting the fence",
        /// After a crash the contacts of open batches are what the fold says.
        NoNetChangeAfterCrash = "\"no net change\" after a crash",
        /// Whoever leaves one segment leaves the list.
        UnionByLastEvent = "union by last event",
        /// Whoever shares an address takes it along when leaving.
        SharedAddressLeaves = "a shared address leaves with the first",
        /// An address that was replaced stays on the list.
        ReplacedAddressStays = "a replaced address stays",
        /// The calls of the day are counted anew by each owner.
        QuotaNotPersisted = "quota not persisted",
        /// The local clock opens the new day.
        MidnightByOurClock = "midnight by our clock",
        /// Spacing at the sender is taken for a limit at the vendor.
        BurstLimiter = "a limiter without slots",
        /// An import without an answer is sent again at once.
        SentAgainUnseen = "sending again without looking",
        /// A name that the first look does not show is taken for absent.
        AbsentAtFirstLook = "absence from one look",
        /// A removal that was repeated does not wait for its first attempt.
        RepeatNotCleared = "a repeated removal waits for nobody",
        /// "Not found" settles a removal however young the add is.
        IndexLagForgotten = "the index's lag is forgotten",
        /// A batch is sent before its record is committed.
        SentBeforeCommit = "a batch is sent before its record",
        /// Requests leave however old the lease is.
        LeaseForgotten = "forgetting the lease",
        /// A new owner begins at once.
        NoWaitAfterTakeover = "no wait after a takeover",
        /// A term always says that it ended in order.
        AlwaysInOrder = "every term ends in order",
        /// The row of a parked change is not written.
        ParkedRowLost = "parked row lost",
        /// A row that was refused is sent again by each new owner.
        RefusedForgotten = "refused row sent at each restart",
        /// A letter goes with the next transaction, whatever that commits.
        LetterAhead = "a letter ahead of its offset",
        /// The refused event of an export is settled without a letter.
        LetterForgotten = "a refusal without its letter",
        /// Half of a batch that is sent in halves is forgotten.
        HalfForgotten = "half of a split batch is forgotten",
        /// What is read again is taken for replayed where a record is beyond it.
        BackfillByPosition = "backfill skipped by position",
        /// A segment that is routed anew is not read again.
        NeverReadAgain = "a segment that is added or comes back is not read again",
        /// What an older configuration did not route is never read when its segment comes back.
        OlderConfigurationFilters = "an older configuration filters for good",
        /// Partitions that the source gains are read at once.
        OrderOfPartitionsForgotten = "new partitions do not wait for older ones",
        /// Members that a list had before are treated as ours.
        ExistingMembersRemoved = "members from before are removed",
        /// Suppressed contacts are imported.
        SuppressedImported = "an opt-out is imported",
        /// Suppressed contacts are imported into staging lists.
        SuppressedStaged = "an opt-out is staged",
        /// A staging list is used again whoever is on it.
        StagingListUnread = "a staging list is used again without a look",
        /// Contacts that flap are sent as often as they change.
        FlappingSent = "a flapping contact is sent all the time",
        /// The contacts of an account are not counted, whatever its contract allows.
        ContractForgotten = "the contract's limit is forgotten",
        /// A refusal tells whose address it was.
        AddressInLetter = "an address in a letter's header",
    }
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in everything that this thread runs from now on, or removes it.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
pub(super) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted: it is not.
#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn planted(_: Bug) -> bool {
    false
}
