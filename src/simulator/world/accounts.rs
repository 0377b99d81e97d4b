//! What stands in the accounts before the first record arrives.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::World;
use crate::model::{
    ListId,
    catalog::{Catalog, ConnectionId, ListRef},
    hash::text_hash,
    state::{LedgerRecord, StateKey, StateValue},
};
use crate::simulator::{
    constant_contact::{ActivityTime, Execution, PlantedContact, SourceAmongTargets, Vendor, VendorConfig},
    workload::{ListPlan, Scenario},
};

impl World {
    /// What an earlier term has spent of the first day stands in the state.
    pub(super) fn holds_spent(&mut self) {
        for (application, calls) in self.catalog.applications.iter().zip(&self.scenario.spent).filter(|(_, calls)| **calls > 0) {
            let ledger = LedgerRecord { day: self.scenario.wall_start.day(), calls: *calls, calls_next_day: 0 };
            let key = StateKey::Ledger { application: application.client_id_hash };
            self.broker.hold(&key, &StateValue::Ledger(ledger));
        }
    }

    /// Somebody opts out, or is deleted: by the account's own pages, not by us.
    pub(super) fn departs(&mut self, index: usize) {
        let now = self.vendor_time();
        let departure = &self.scenario.departures[index];
        self.trace.line(self.now_ms, format_args!("somebody of {} is {:?} now", departure.connection, departure.status));
        let vendor = &mut self.vendors[departure.connection];
        vendor.advance(now);
        let (address, status) = (departure.address.clone(), departure.status);
        vendor.plant_contact(&PlantedContact { address: address.clone(), status, lists: Vec::new() });
        let hash = text_hash(&address);
        let touched = vendor.activities_open().iter().any(|activity| activity.contacts.contains(&hash));
        self.oracles.opt_out.departed(departure.connection, address, status, now, touched);
    }
}

/// An account that works side by side, in foreseeable times, and takes a staging list among the targets.
fn favouring_rounds(config: VendorConfig) -> VendorConfig {
    let activity_ms = ActivityTime { jitter_percent: 5, ..config.activity_ms };
    VendorConfig { activity_ms, serial: false, source_among_targets: SourceAmongTargets::Leaves, ..config }
}

/// Accounts with the lists and contacts of a plan; lists by id get their ids. Beside them, for each export, the list that
/// some configurations name instead.
pub(super) fn vendors(rng: &mut Rng, scenario: &Scenario, catalog: &mut Catalog) -> (Vec<Vendor>, Vec<ListRef>) {
    let mut vendors = Vec::new();
    let mut others = vec![ListRef::Named { name: Default::default(), create: false }; catalog.exports.len()];
    for (index, connection) in catalog.connections.iter().enumerate() {
        let application = &catalog.applications[usize::from(connection.application.0)];
        let base_ms_max = if rng.u32(..5) == 0 { 600_000 } else { 6_000 };
        let activity_ms = ActivityTime {
            queued_ms: rng.u64(..2_000),
            base_ms: rng.u64(100..base_ms_max),
            per_1000_rows_ms: rng.u64(..5_000),
            jitter_percent: rng.u8(..100),
        };
        let config = VendorConfig {
            calls_per_second: application.calls_per_second,
            calls_per_day: application.calls_per_day,
            activity_ms,
            seed: rng.u64(..),
            import_revives_deleted: rng.bool(),
            header_counted: rng.bool(),
            execution: if rng.bool() { Execution::AtStart } else { Execution::AtEnd },
            serial: rng.u32(..4) == 0,
            activity_errors_max: [0, 1, 100][rng.usize(..3)],
            refused_calls_counted: rng.bool(),
            // Below what the engine is told of the lag (10 minutes).
            index_lag_s: if rng.bool() { 0 } else { rng.u32(1..590) },
            address_bytes_max: if rng.bool() { 80 } else { 50 },
            import_lifts_opt_out: rng.bool(),
            opt_out_leaves_lists: rng.bool(),
            names_echoed: rng.u32(..6) != 0,
            source_among_targets: match rng.u32(..6) {
                0 => SourceAmongTargets::EmptiedFirst,
                1 => SourceAmongTargets::Kept,
                2 => SourceAmongTargets::Refused,
                _ => SourceAmongTargets::Leaves,
            },
            observed: true,
            ..VendorConfig::default()
        };
        let config = if scenario.rounds_favoured { favouring_rounds(config) } else { config };
        let mut vendor = Vendor::new(config, scenario.wall_start);
        let id = ConnectionId::at(index);
        let mut ids: BTreeMap<(usize, bool), ListId> = BTreeMap::new();
        for (number, (export, list)) in catalog.exports.iter_mut().zip(&scenario.lists).enumerate() {
            if export.connection != id {
                continue;
            }
            let other = compact_str::format_compact!("Other {}", list.name());
            match list {
                ListPlan::ById(name) => {
                    let lists = [vendor.plant_list(name), vendor.plant_list(&other)];
                    export.list = ListRef::Id(lists[0]);
                    others[number] = ListRef::Id(lists[1]);
                    ids.extend([((number, false), lists[0]), ((number, true), lists[1])]);
                }
                ListPlan::ByName(name) => {
                    ids.insert((number, false), vendor.plant_list(name));
                    ids.insert((number, true), vendor.plant_list(&other));
                    others[number] = ListRef::Named { name: other, create: false };
                }
                ListPlan::Created(_) => others[number] = ListRef::Named { name: other, create: true },
            }
        }
        for planted in &scenario.contacts[index] {
            let lists = planted.export.and_then(|export| ids.get(&(export, planted.on_other)).copied());
            let lists = lists.into_iter().collect();
            vendor.plant_contact(&PlantedContact { address: planted.address.clone(), status: planted.status, lists });
        }
        vendors.push(vendor);
    }
    (vendors, others)
}
