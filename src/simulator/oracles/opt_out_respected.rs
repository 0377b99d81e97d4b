//! [`Promise::OptOutRespected`]: who has opted out or was deleted is not imported, and stays as it is.
//!
//! What the engine cannot know is allowed: an import that comes so soon after the opt-out. It is the time that one reading
//! of the account serves (less for a staging list), and the time that a request may take after it was decided on.

use std::collections::BTreeMap;

use crate::engine::{
    Promise,
    limits::{LEASE_MS, STAGING_FRESH_MS, SUPPRESSION_FRESH_MS},
};
use crate::model::{Text, batch::ImportRows, call::ContactStatus, catalog::Catalog, time::UnixMillis};
use crate::simulator::{
    constant_contact::{Applied, Vendor},
    workload::Scenario,
};

use super::{Sight, Verdict};

/// Who departed, by account and address.
#[derive(Debug)]
pub struct OptOutRespected {
    departed: BTreeMap<(usize, Text), Departed>,
    /// Of an import, and how much less it is of one into a staging list.
    allowance_ms: u64,
    staged_less_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Departed {
    status: ContactStatus,
    since: UnixMillis,
    /// An import came so soon after it that nobody could know.
    excused: bool,
}

impl OptOutRespected {
    pub(super) fn new(catalog: &Catalog, scenario: &Scenario) -> Self {
        let mut departed = BTreeMap::new();
        for (connection, planted) in scenario.contacts.iter().enumerate() {
            for contact in planted.iter().filter(|contact| contact.status != ContactStatus::Active) {
                let known = Departed { status: contact.status, since: UnixMillis(0), excused: false };
                departed.insert((connection, contact.address.clone()), known);
            }
        }
        // The vendor's times are whole seconds.
        let allowance_ms = SUPPRESSION_FRESH_MS + LEASE_MS + catalog.timing.request_deadline_ms + 2_000;
        Self { departed, allowance_ms, staged_less_ms: SUPPRESSION_FRESH_MS - STAGING_FRESH_MS }
    }

    /// Somebody opts out, or is deleted; `touched` while an activity that holds it may still run.
    pub fn departed(&mut self, connection: usize, address: Text, status: ContactStatus, since: UnixMillis, touched: bool) {
        let before = self.departed.get(&(connection, address.clone()));
        // Whoever departs twice has been away since the first time, unless an import of ours came between.
        let since = before.filter(|before| !before.excused).map_or(since, |before| before.since);
        let excused = touched || before.is_some_and(|before| before.excused);
        self.departed.insert((connection, address), Departed { status, since, excused });
    }

    /// What an activity did: whom it deleted, no import of ours may touch from then on, without any allowance.
    pub fn deleted(&mut self, connection: usize, step: &Applied) {
        let since = step.at.plus_ms(-i64::try_from(self.allowance_ms).unwrap_or(i64::MAX));
        for address in &step.deleted {
            let known = Departed { status: ContactStatus::Deleted, since, excused: false };
            self.departed.insert((connection, address.clone()), known);
        }
    }

    /// An import came, and the vendor took it.
    ///
    /// # Errors
    /// It holds somebody who departed longer ago than the engine may be unaware of.
    pub fn imported(&mut self, vendor: &Vendor, connection: usize, rows: &ImportRows, now: UnixMillis, staged: bool) -> Verdict {
        let allowance_ms = self.allowance_ms - if staged { self.staged_less_ms } else { 0 };
        for (address, _) in rows.rows.iter() {
            let Some(known) = self.departed.get_mut(&(connection, address.clone())) else { continue };
            // Revived by an import that was excused: it is like anybody else.
            let away = vendor.contact(address).is_some_and(|(status, _)| status != ContactStatus::Active);
            let ms = now.since_ms(known.since);
            if away && ms > allowance_ms {
                let detail = format!("{address} was {:?} for {ms} ms when it was imported", known.status);
                return Err((Promise::OptOutRespected, detail));
            }
            known.excused = true;
        }
        Ok(())
    }

    /// Whether an address ever departed from an account: if an import that was excused revived it, the engine finds out
    /// within a week.
    pub(super) fn has_departed(&self, connection: usize, address: &Text) -> bool {
        self.departed.contains_key(&(connection, address.clone()))
    }

    pub(super) fn at_rest(&self, sight: &Sight<'_>) -> Verdict {
        for ((connection, address), known) in self.departed.iter().filter(|(_, known)| !known.excused) {
            let now = sight.vendors[*connection].contact(address).map(|(status, _)| status);
            if now != Some(known.status) {
                return Err((Promise::OptOutRespected, format!("{address} was {:?} and is {now:?}", known.status)));
            }
        }
        Ok(())
    }
}
