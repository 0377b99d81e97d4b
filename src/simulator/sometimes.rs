//! What must happen in some world: over a sweep, each of these has to be reached, or the worlds have become too tame to
//! show anything.

use crate::engine::{
    Event,
    event::{CallResult, RoundEnd, StagingListChange},
    reason::HoldReason,
};
use crate::model::{activity::ActivityState, batch::CutReason, call::CallKind, catalog::RemovalStrategy, named};

named! {
    /// One thing that must happen in some world.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Sometimes {
        /// An import whose answer was lost was found by its name.
        BatchFoundByName = "batch_found_by_name",
        /// An import that was not found was given up.
        BatchGivenUp = "batch_given_up",
        /// A removal whose answer was lost was sent once more, by the same term or the next.
        RemovalRepeated = "removal_repeated",
        /// A batch was sent again in halves.
        SplitInHalves = "split_in_halves",
        /// The vendor refused a row for good.
        RowRefused = "row_refused",
        /// The search for refused rows was spent.
        SearchSpent = "search_spent",
        /// Segments were routed no more.
        SegmentsStopped = "segments_stopped",
        /// The source was read again for segments that were routed anew.
        Backfilled = "backfilled",
        /// An export left its list for another one.
        ListLeftForAnother = "list_left_for_another",
        /// An activity of an export that was configured no more was followed to its end.
        RemovedExportFollowed = "removed_export_followed",
        /// Who was erased left the list of an export that was configured no more.
        ErasedFromRemovedExport = "erased_from_removed_export",
        /// An activity completed.
        ActivityCompleted = "activity_completed",
        /// An activity ended badly.
        ActivityEndedBadly = "activity_ended_badly",
        /// Contact ids were looked up one by one.
        LookUp = "look_up",
        /// A list was paged through for its contacts' ids.
        Scan = "scan",
        /// A removal by a staging list was applied.
        StagingRoundApplied = "staging_round_applied",
        /// A removal by a staging list that an earlier term had begun was followed to its end.
        StagingRoundFollowed = "staging_round_followed",
        /// A removal by a staging list was not sent, because somebody in it must not be imported.
        StagingRoundTakenBack = "staging_round_taken_back",
        /// The vendor imported nobody into a staging list.
        NobodyStaged = "nobody_staged",
        /// A removal by a staging list was not certain to have worked.
        StagingRoundFailed = "staging_round_failed",
        /// Contacts left the target and the staging list in two removals.
        StagingInTwoRemovals = "staging_in_two_removals",
        /// The removal of a round went ahead of the reading of its import, and came after it.
        StagingWentAhead = "staging_went_ahead",
        /// Or did not.
        StagingWentTooEarly = "staging_went_too_early",
        /// A removal was found to take contacts off its source too.
        RemovesFromSource = "removes_from_source",
        /// A removal was found not to do that.
        RemovesNotFromSource = "removes_not_from_source",
        /// The counts of all lists were read, to use staging lists again.
        StagingListsCounted = "staging_lists_counted",
        /// A staging list on which somebody might be was deleted.
        StagingListDeleted = "staging_list_deleted",
        /// An import joined contacts to a list that the vendor's index shows only later.
        IndexLagged = "index_lagged",
        /// A list was created.
        ListCreated = "list_created",
        /// Changes that cancelled each other were never sent.
        Cancelled = "cancelled",
        /// Fields of a contact that was on its list already were sent.
        Updated = "updated",
        /// An add was not sent, because its address has opted out or was deleted.
        Suppressed = "suppressed",
        /// A change was parked, because its address had been sent five times within a day.
        Flapping = "flapping",
        /// A contact was deleted, because its profile was erased.
        ContactDeleted = "contact_deleted",
        /// A vendor was found not to give file names back.
        NamesNotEchoed = "names_not_echoed",
        /// The members that a list had before were read.
        ExistingMembersRead = "existing_members_read",
        /// They became ours.
        ExistingMembersAdopted = "existing_members_adopted",
        /// Changes were parked while they waited.
        Parked = "parked",
        /// The day's calls were spent.
        QuotaHeld = "quota_held",
        /// The vendor said that the day's calls are spent, and we had not counted so many.
        QuotaDeniedByVendor = "quota_denied_by_vendor",
        /// One application made calls on both sides of a midnight.
        MidnightCrossed = "midnight_crossed",
        /// A request was not sent because its lease had ended.
        TooLateToLeave = "too_late_to_leave",
        /// A process slept longer than its lease with a call in hand, and did not send it.
        ZombieHeldBack = "zombie_held_back",
        /// A transaction of a process that had lost the shard was refused.
        ZombieRefused = "zombie_refused",
        /// A process lost the shard while it took it over.
        ZombieInTakeover = "zombie_in_takeover",
        /// A standby took over from another process.
        StandbyTookOver = "standby_took_over",
        /// A term began with batches of the one before still open.
        TakeoverWithOpenBatches = "takeover_with_open_batches",
        /// A term ended without a rebalance, and the same process began the next one.
        BegunAgainWithoutRebalance = "begun_again_without_rebalance",
        /// A term ended in order, with nothing in flight.
        EndedInOrder = "ended_in_order",
        /// Two processes ran a term at the same time, by their own belief.
        TwoTermsAtOnce = "two_terms_at_once",
        /// A request of a term that had ended came to the vendor.
        OrphanArrived = "orphan_arrived",
        /// A token was refreshed in good time or when it was due.
        TokenRefreshed = "token_refreshed",
        /// The vendor no longer accepted the refresh token, and a person signed in again.
        TokenDead = "token_dead",
        /// A partition of the source was found after the term had begun.
        PartitionAdded = "partition_added",
        /// A partition that the source gained was not read before older ones were settled.
        PartitionWaited = "partition_waited",
        /// An account had as many contacts as its contract allows.
        ContractReached = "contract_reached",
        /// Removals waited for approval.
        RemovalsBraked = "removals_braked",
        /// An export was paused, or went on.
        OrderTaken = "order_taken",
        /// The first run of an export was asked for, and the term ended for it.
        FirstRunAskedFor = "first_run_asked_for",
        /// A record that cannot be decoded, or an address that cannot be sent, became a dead letter.
        DeadLettered = "dead_lettered",
    }
}

/// How often each was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached([u64; Sometimes::ALL.len()]);

impl Default for Reached {
    fn default() -> Self {
        Self([0; Sometimes::ALL.len()])
    }
}

impl Reached {
    /// It happened.
    pub fn mark(&mut self, what: Sometimes) {
        self.0[what as usize] += 1;
    }

    /// How often it did.
    #[must_use]
    pub const fn times(&self, what: Sometimes) -> u64 {
        self.0[what as usize]
    }

    /// What an event of the engine tells.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::BatchCut { reason: CutReason::Split, .. } => self.mark(Sometimes::SplitInHalves),
            Event::SegmentsStopped { .. } => self.mark(Sometimes::SegmentsStopped),
            Event::MoveEnded { .. } => self.mark(Sometimes::ListLeftForAnother),
            Event::BackfillEnded { .. } => self.mark(Sometimes::Backfilled),
            Event::CallEnded { kind, result, .. } => self.call(*kind, *result),
            Event::ActivityEnded { state, .. } => match state {
                ActivityState::Completed => self.mark(Sometimes::ActivityCompleted),
                ActivityState::Cancelled | ActivityState::Failed | ActivityState::TimedOut => {
                    self.mark(Sometimes::ActivityEndedBadly);
                }
                ActivityState::Initialized | ActivityState::Processing => {}
            },
            Event::Applied { updates, .. } if *updates > 0 => self.mark(Sometimes::Updated),
            Event::Cancelled { .. } => self.mark(Sometimes::Cancelled),
            Event::Suppressed { .. } => self.mark(Sometimes::Suppressed),
            Event::Flapping { .. } => self.mark(Sometimes::Flapping),
            Event::ContactsDeleted { .. } => self.mark(Sometimes::ContactDeleted),
            Event::NamesNotEchoed { .. } => self.mark(Sometimes::NamesNotEchoed),
            Event::ExistingMembersRead { .. } => self.mark(Sometimes::ExistingMembersRead),
            Event::ExistingMembersAdopted { .. } => self.mark(Sometimes::ExistingMembersAdopted),
            Event::Parked { .. } => self.mark(Sometimes::Parked),
            Event::RowsRefused { .. } => self.mark(Sometimes::RowRefused),
            Event::SearchSpent { .. } => self.mark(Sometimes::SearchSpent),
            Event::RemovalPlanned { strategy, .. } => match strategy {
                RemovalStrategy::LookUp => self.mark(Sometimes::LookUp),
                RemovalStrategy::Scan => self.mark(Sometimes::Scan),
                RemovalStrategy::StagingList => {}
            },
            Event::RoundEnded { end, in_two, ahead, .. } => {
                self.mark(match end {
                    RoundEnd::Applied if *in_two => Sometimes::StagingInTwoRemovals,
                    RoundEnd::Applied if *ahead => Sometimes::StagingWentAhead,
                    RoundEnd::Early => Sometimes::StagingWentTooEarly,
                    RoundEnd::Applied => Sometimes::StagingRoundApplied,
                    RoundEnd::TakenBack => Sometimes::StagingRoundTakenBack,
                    RoundEnd::NobodyStaged => Sometimes::NobodyStaged,
                    RoundEnd::Failed => Sometimes::StagingRoundFailed,
                    RoundEnd::Followed => Sometimes::StagingRoundFollowed,
                });
            }
            Event::RemovesFromSource { removes: true, .. } => self.mark(Sometimes::RemovesFromSource),
            Event::RemovesFromSource { removes: false, .. } => self.mark(Sometimes::RemovesNotFromSource),
            Event::StagingList { change: StagingListChange::Deleted, .. } => self.mark(Sometimes::StagingListDeleted),
            Event::BatchFound { .. } => self.mark(Sometimes::BatchFoundByName),
            Event::BatchGivenUp { .. } => self.mark(Sometimes::BatchGivenUp),
            Event::Held { reason: HoldReason::QuotaSpent, .. } => self.mark(Sometimes::QuotaHeld),
            Event::Held { reason: HoldReason::QuotaSpentByOthers, .. } => self.mark(Sometimes::QuotaDeniedByVendor),
            Event::Held { reason: HoldReason::TokenDead, .. } => self.mark(Sometimes::TokenDead),
            Event::ContractReached { .. } => self.mark(Sometimes::ContractReached),
            Event::RemovalsBraked { .. } => self.mark(Sometimes::RemovalsBraked),
            Event::PartitionsWait { .. } => self.mark(Sometimes::PartitionWaited),
            Event::DeadLettered { .. } => self.mark(Sometimes::DeadLettered),
            Event::BatchCut { .. }
            | Event::LateAnswer { .. }
            | Event::StagingList { .. }
            | Event::ActivityStarted { .. }
            | Event::Applied { .. }
            | Event::Held { .. }
            | Event::RecordsRouted(_)
            | Event::Released { .. }
            | Event::Paused { .. }
            | Event::Resumed
            | Event::PartitionsBegun { .. }
            | Event::CannotAddUnexplained { .. }
            | Event::GhostSeen { .. }
            | Event::GhostEnded { .. }
            | Event::BackfillBegan { .. }
            | Event::Ordered { .. }
            | Event::MoveBegan { .. }
            | Event::Committed { .. } => {}
        }
    }

    /// What an event of the engine tells of an export that is configured no more.
    pub fn event_of_removed(&mut self, event: &Event) {
        if let Event::ActivityEnded { .. } = event {
            self.mark(Sometimes::RemovedExportFollowed);
        }
        if matches!(event, Event::Applied { removals, .. } if *removals > 0) {
            self.mark(Sometimes::ErasedFromRemovedExport);
        }
    }

    fn call(&mut self, kind: CallKind, result: CallResult) {
        match result {
            CallResult::NotSent => {}
            CallResult::Ok if kind == CallKind::Token => self.mark(Sometimes::TokenRefreshed),
            CallResult::Ok | CallResult::Unknown | CallResult::Refused(_) => {}
        }
    }
}
