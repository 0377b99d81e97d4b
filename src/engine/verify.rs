//! What is looked at beside a removal by a staging list, because its counts do not say enough: whether the vendor takes
//! contacts off the source too where a removal names it among its targets, which the first round of a connection finds out
//! by a *witness*, and whether everybody has left.

use crate::model::{
    batch::RoundStep,
    call::{Answer, ContactStatus, Outcome, Request},
    catalog::ExportId,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::{Batch, Ending, Stage},
    calls::Purpose,
    membership::{ContactSlot, Known},
};

/// A look that shows somebody still on a list is made again after this long, once: the vendor may be late to show it.
const CHECK_AGAIN_MS: u64 = 30_000;

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// A contact is on the target before the removal that tries both lists: one that is not there anyhow tells nothing.
    Witness(ContactSlot),
    /// Nobody is on the staging list after a removal that completed then.
    Emptied(UnixMillis),
    /// Nor is the witness on the target.
    Left(ContactSlot, UnixMillis),
}

/// What is looked at beside a removal, because its counts do not say enough.
#[derive(Debug, Clone)]
pub(super) struct Check {
    look: Look,
    looked_again: bool,
    under_way: bool,
    next_at: Mono,
}

impl Check {
    const fn new(look: Look, next_at: Mono) -> Self {
        Self { look, looked_again: false, under_way: false, next_at }
    }

    /// Of a staging list after a removal that completed at `left_at`.
    pub(super) const fn of_list(now: Now, left_at: UnixMillis) -> Self {
        Self::new(Look::Emptied(left_at), now.mono)
    }
}

impl Engine {
    /// Whether another round of the connection finds out already if two lists may be named in one removal.
    pub(super) fn tries_already(&self, number: u64) -> bool {
        let id = self.batches.get(&number).map(|batch| self.account_of(batch.export));
        let sent = |batch: &Batch| {
            matches!(
                batch.stage,
                Stage::Posting | Stage::Running { .. } | Stage::Clearing { .. } | Stage::Checking(_) | Stage::Ended(_)
            )
        };
        let others = self.batches.iter().filter(|(other, _)| **other != number);
        let mut others = others.filter(|(_, batch)| Some(self.account_of(batch.export)) == id);
        others.any(|(_, batch)| batch.is_at(RoundStep::RemoveBoth) && sent(batch))
    }

    /// Whether the round that is to try both lists has seen one of its contacts on the target; looks for one otherwise.
    pub(super) fn is_witnessed(&mut self, now: Now, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number) else { return false };
        if batch.round.as_ref().is_some_and(|round| round.witness.is_some()) {
            return true;
        }
        match self.witness(now, batch) {
            Some(slot) => {
                if let Some(batch) = self.batches.get_mut(&number) {
                    batch.stage = Stage::Checking(Check::new(Look::Witness(slot), now.mono));
                }
                self.wake_at(now.mono);
            }
            None => self.goes_on_with(number, RoundStep::RemoveTarget),
        }
        false
    }

    /// A contact of a round that the vendor's index must show on the target, if it is there.
    pub(super) fn witness(&self, now: Now, batch: &Batch) -> Option<ContactSlot> {
        let index_lag_ms = self.catalog.timing.index_lag_ms;
        let state = self.export(batch.export);
        let vendor_now = self.vendor_now(state.application, now);
        let round = batch.round.as_ref()?;
        let rows = (0..).zip(&batch.rows).filter(|(index, _)| !round.refused(*index));
        let mut slots = rows.map(|(_, row)| row.slot);
        slots.find(|slot| match state.members.contact(*slot).known {
            Known::On { at, .. } => vendor_now.since_ms(at) >= index_lag_ms,
            Known::Off | Known::Unknown { .. } => false,
        })
    }

    /// The calls that a check after a removal needs.
    pub(super) fn check_rounds(&mut self, now: Now) {
        let due = self.batches.iter().filter_map(|(number, batch)| match &batch.stage {
            Stage::Checking(check) if !check.under_way => Some((*number, check.next_at)),
            Stage::Checking(_)
            | Stage::Opening
            | Stage::Committing(_)
            | Stage::Ready
            | Stage::Posting
            | Stage::Looking(_)
            | Stage::Running { .. }
            | Stage::Clearing { .. }
            | Stage::Ended(_) => None,
        });
        let due: Vec<(u64, Mono)> = due.collect();
        for (number, at) in due {
            if at > now.mono {
                self.wake_at(at);
                continue;
            }
            let Some(batch) = self.batches.get(&number) else { continue };
            let export = batch.export;
            let (Stage::Checking(check), Some(round)) = (&batch.stage, &batch.round) else { continue };
            let request = match check.look {
                Look::Emptied(_) => Request::List { list: round.list },
                Look::Witness(slot) | Look::Left(slot, _) => {
                    Request::LookUp { address: self.export(export).members.contact(slot).address.clone() }
                }
            };
            let connection = self.account_of(export);
            let Some(permit) = self.permit(now, connection, 0) else { continue };
            if let Some(Stage::Checking(check)) = self.batches.get_mut(&number).map(|batch| &mut batch.stage) {
                check.under_way = true;
            }
            self.call(now, connection, permit, request, Purpose::Check(number));
        }
    }

    pub(super) fn on_checked(&mut self, now: Now, number: u64, outcome: Outcome) {
        let Some(export) = self.batches.get(&number).map(|batch| batch.export) else { return };
        let verifies = self.removes_from_source(export).is_none();
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let target = batch.list;
        let witness = batch.round.as_ref().and_then(|round| round.witness);
        let Stage::Checking(check) = &mut batch.stage else { return };
        check.under_way = false;
        let seen = match outcome {
            Outcome::Answered(Answer::List(list)) => list.membership_count.map(|count| count > 0),
            Outcome::Answered(Answer::Contacts(page)) => {
                // Somebody who is gone from the account tells nothing.
                let there = page.items.iter().find(|contact| contact.status != ContactStatus::Deleted);
                there.map(|contact| contact.lists.contains(&target))
            }
            Outcome::Refused(_) if super::answers::is_stale(&outcome) => None,
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                check.next_at = now.mono.plus_ms(2_000);
                return;
            }
        };
        match (check.look, seen) {
            (Look::Witness(slot), Some(true)) => {
                batch.stage = Stage::Ready;
                if let Some(round) = &mut batch.round {
                    round.witness = Some(slot);
                }
            }
            (Look::Witness(_), Some(false) | None) => self.goes_on_with(number, RoundStep::RemoveTarget),
            (_, None) => self.end(number, Ending::Unknown),
            (_, Some(true)) if !check.looked_again => {
                check.looked_again = true;
                check.next_at = now.mono.plus_ms(CHECK_AGAIN_MS);
            }
            (Look::Emptied(_) | Look::Left(..), Some(true)) => {
                if verifies {
                    self.verified(export, false);
                }
                self.end(number, Ending::Unknown);
            }
            (Look::Emptied(at), Some(false)) => {
                if let Some(round) = &mut batch.round {
                    round.emptied = true;
                }
                match witness.filter(|_| verifies) {
                    Some(slot) => batch.stage = Stage::Checking(Check::new(Look::Left(slot, at), now.mono)),
                    None => self.applied(number, at),
                }
            }
            (Look::Left(_, at), Some(false)) => {
                if verifies {
                    self.verified(export, true);
                }
                self.applied(number, at);
            }
        }
    }

    /// It is known now whether a removal may name its source among its targets.
    pub(super) fn verified(&mut self, export: ExportId, removes: bool) {
        let connection = self.account_of(export);
        self.connection_mut(connection).learned.removes_from_source = Some(removes);
        self.connection_due(connection);
        self.emit(Event::RemovesFromSource { connection, removes });
    }

    /// The vendor refused the first removal that names both lists: nothing has happened, and it goes in two from now on.
    pub(super) fn goes_in_two(&mut self, number: u64) {
        let Some(export) = self.batches.get(&number).map(|batch| batch.export) else { return };
        self.verified(export, false);
        self.goes_on_with(number, RoundStep::RemoveTarget);
    }
}
