//! One oracle for each promise, named by it. They look at broker, vendor and fold, never into the engine's decisions.

mod applied_means_completed;
mod bounded;
pub mod contacts_max;
mod flapping;
mod lists_converge;
mod nothing_lost;
mod one_in_flight_per_contact;
mod opt_out_respected;
mod private;
mod quota_never_exceeded;

use std::collections::BTreeMap;

use crate::engine::{Engine, Promise, output::Commit};
use crate::model::{
    Text,
    call::ContactStatus,
    catalog::{Catalog, Export, ListRef},
    position::PartitionId,
    state::{StateChange, StateValue},
    time::Now,
};

use super::{broker::Broker, constant_contact::Vendor, fold::Fold, workload::Scenario};

/// Which promise was broken, and what was seen.
pub type Verdict = Result<(), (Promise, String)>;

/// What the oracles look at.
#[derive(Debug)]
pub struct Sight<'a> {
    /// Everything that is ever configured.
    pub catalog: &'a Catalog,
    /// What is configured now.
    pub configured: &'a Catalog,
    /// For each export, the list that some configurations name instead of the catalog's.
    pub other_lists: &'a [ListRef],
    /// The world's plan.
    pub scenario: &'a Scenario,
    /// What the events mean.
    pub fold: &'a Fold,
    /// Kafka.
    pub broker: &'a Broker,
    /// The accounts, in the catalog's order of connections.
    pub vendors: &'a [Vendor],
}

impl Sight<'_> {
    /// Both lists that an export may ever be configured with: which of them it is now, and who is on it, sorted.
    fn lists(&self, export: usize) -> [(bool, Vec<Text>); 2] {
        let now = self.configured(export).map(|export| &export.list);
        [&self.catalog.exports[export].list, &self.other_lists[export]]
            .map(|list| (now == Some(list), self.on_list(export, list)))
    }

    fn on_list(&self, export: usize, list: &ListRef) -> Vec<Text> {
        let vendor = self.vendor(export);
        let id = match list {
            ListRef::Id(id) => Some(*id),
            ListRef::Named { name, .. } => vendor.lists().into_iter().find(|(_, known)| known == name).map(|(id, _)| id),
        };
        id.map(|list| vendor.list_members(list)).unwrap_or_default()
    }

    /// Whether an export has its other list in some configuration.
    fn moves(&self, export: usize) -> bool {
        !self.scenario.changes.is_empty() && self.scenario.changes.iter().any(|change| change.moves(export))
    }

    /// An export as it is configured now.
    fn configured(&self, export: usize) -> Option<&Export> {
        let name = &self.catalog.exports[export].name;
        self.configured.exports.iter().find(|export| export.name == *name)
    }

    /// The segments that an export is configured with now; `None` where it is not configured.
    fn segments(&self, export: usize) -> Option<&[Text]> {
        self.configured(export).map(|export| &export.segments[..])
    }

    fn vendor(&self, export: usize) -> &Vendor {
        &self.vendors[usize::from(self.catalog.exports[export].connection.0)]
    }

    /// Whether an address was on the list of an export before anything happened: it is not ours.
    fn was_there(&self, export: usize, address: &Text) -> bool {
        let account = &self.scenario.contacts[usize::from(self.catalog.exports[export].connection.0)];
        account.iter().any(|planted| planted.export == Some(export) && planted.address == *address)
    }

    /// The same, of an export that adopts such members.
    fn was_there_before(&self, export: usize, address: &Text) -> bool {
        self.catalog.exports[export].adopts_existing && self.was_there(export, address)
    }

    /// Whether the vendor takes an address at all: how long one may be is documented in two ways.
    fn takes(&self, export: usize, address: &Text) -> bool {
        address.len() <= self.vendor(export).address_bytes_max()
    }

    /// Whether the vendor refuses some row that an export ever wanted: without one no search is spent.
    fn refuses_some(&self, export: usize) -> bool {
        let mut wishes = self.fold.export(export).values().flatten();
        wishes.any(|wish| wish.wanted.as_ref().is_some_and(|(address, _)| !self.takes(export, address)))
    }

    /// Whether the account of an export had, at some time, as many contacts as its contract allows: those that were deleted
    /// since are among all that it ever had. Imports that were given up have their room for as long as they may still run.
    fn was_full(&self, export: usize) -> bool {
        let index = usize::from(self.catalog.exports[export].connection.0);
        let connection = &self.catalog.connections[index];
        let Some(max) = connection.contacts_max else { return false };
        let given_up = |change: &StateChange| match &change.value {
            Some(StateValue::Batch(batch)) if batch.given_up && batch.connection == connection.name => batch.rows.len() as u64,
            Some(_) | None => 0,
        };
        let given_up: u64 = self.broker.restore(true).unwrap_or_default().iter().map(given_up).sum();
        self.vendors[index].report().contacts + given_up >= max
    }

    /// The addresses on the list of an export that has one all along, sorted.
    fn members(&self, export: usize) -> Vec<Text> {
        self.on_list(export, &self.catalog.exports[export].list)
    }

    /// Whether somebody deletes an address in its account, or it opts out, at some time. An import of another export that
    /// comes within the allowance of `opt_out_respected` may revive it: then it has lost its lists.
    fn departs(&self, export: usize, address: &Text) -> bool {
        let connection = usize::from(self.catalog.exports[export].connection.0);
        self.scenario.departures.iter().any(|gone| gone.connection == connection && gone.address == *address)
    }

    /// Whether the account has an address as deleted or unsubscribed: it is nobody's to add or to remove.
    fn is_suppressed(&self, export: usize, address: &str) -> bool {
        self.vendor(export).contact(address).is_some_and(|(status, _)| status != ContactStatus::Active)
    }
}

/// All oracles of one world.
#[derive(Debug)]
pub struct Oracles {
    nothing_lost: nothing_lost::NothingLost,
    /// See [`Promise::AppliedMeansCompleted`].
    pub applied: applied_means_completed::AppliedMeansCompleted,
    /// See [`Promise::OneInFlightPerContact`].
    pub one_in_flight: one_in_flight_per_contact::OneInFlightPerContact,
    /// See [`Promise::OptOutRespected`].
    pub opt_out: opt_out_respected::OptOutRespected,
    /// At most five sends of an address in an account within a day.
    pub flapping: flapping::Flapping,
    /// See [`Promise::QuotaNeverExceeded`].
    pub quota: quota_never_exceeded::QuotaNeverExceeded,
    /// See [`Promise::Bounded`].
    bounded: bounded::Bounded,
    /// See [`Promise::Private`].
    pub private: private::Private,
}

impl Oracles {
    /// Oracles that have seen nothing.
    #[must_use]
    pub fn new(catalog: &Catalog, scenario: &Scenario) -> Self {
        Self {
            nothing_lost: nothing_lost::NothingLost::default(),
            applied: applied_means_completed::AppliedMeansCompleted::default(),
            one_in_flight: one_in_flight_per_contact::OneInFlightPerContact,
            opt_out: opt_out_respected::OptOutRespected::new(catalog, scenario),
            flapping: flapping::Flapping::default(),
            quota: quota_never_exceeded::QuotaNeverExceeded::new(scenario),
            bounded: bounded::Bounded::default(),
            private: private::Private,
        }
    }

    /// After each transaction.
    ///
    /// # Errors
    /// The promise that is broken.
    pub fn at_commit(&mut self, sight: &Sight<'_>, commit: &Commit, before: &BTreeMap<PartitionId, i64>) -> Verdict {
        self.private.letters(&commit.letters)?;
        self.applied.at_commit(sight, commit)?;
        self.nothing_lost.at_commit(sight, commit, before)?;
        quota_never_exceeded::by_the_vendor(sight)
    }

    /// After each mutation of the engine.
    ///
    /// # Errors
    /// The promise that is broken.
    pub fn after_mutation(&mut self, engine: &Engine, now: Now, outputs: u32, calls_open: u64) -> Verdict {
        self.bounded.after_mutation(engine, now, outputs, calls_open)
    }

    /// Once nothing is left to do.
    ///
    /// # Errors
    /// The promise that is broken.
    pub fn at_rest(&mut self, sight: &Sight<'_>) -> Verdict {
        quota_never_exceeded::by_the_vendor(sight)?;
        self.opt_out.at_rest(sight)?;
        self.flapping.at_rest(sight)?;
        lists_converge::at_rest(sight, &self.opt_out, &self.nothing_lost, &self.applied)
    }
}
