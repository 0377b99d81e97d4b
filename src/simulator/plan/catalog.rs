//! The configuration that a plan runs with.

use super::Scenario;
use crate::model::{
    ListId,
    catalog::{
        Application, ApplicationId, Backfill, Catalog, ClientIdHash, Connection, ConnectionId, Consent, Export, FieldId, ListRef,
        Mapping, NoAddress, OnErasure, OnExit, RemovalStrategy, Timing,
    },
    time::UnixMillis,
};

/// The list of an export of a plan.
pub(super) fn list_of(export: usize) -> ListId {
    ListId::from_u128(export as u128 + 1)
}

fn consent() -> Consent {
    Consent { accepted_by: "plan".into(), accepted_at: UnixMillis(0), text: "plan".into() }
}

/// What the engine is given: the scenario's own exports, or those of a configuration as if all of them ran.
pub(super) fn catalog(scenario: &Scenario) -> Catalog {
    let mut catalog = match &scenario.catalog {
        Some(catalog) => Catalog::clone(catalog),
        None => made_up(scenario),
    };
    for application in &mut catalog.applications {
        application.calls_per_day = Some(scenario.calls_per_day);
        application.calls_per_second = Some(scenario.calls_per_second);
        if scenario.left_to_others_percent > 0 {
            application.reserved_for_others_percent = scenario.left_to_others_percent;
        }
    }
    for connection in &mut catalog.connections {
        connection.consent.get_or_insert_with(consent);
        connection.refreshes = false;
    }
    // What is planned for is a single address: that is what changes are made of.
    catalog.fields = vec!["profile.email".into()];
    for (index, export) in catalog.exports.iter_mut().enumerate() {
        export.starts_at_once = true;
        // Nobody is there to approve of what is planned.
        export.removal_brake = None;
        export.segments.truncate(1);
        export.list = ListRef::Id(list_of(index));
        export.on_exit = OnExit::Remove;
        export.mapping = Mapping::address_alone(FieldId(0), 1);
        if scenario.staging && !export.removal_strategies.contains(&RemovalStrategy::StagingList) {
            export.removal_strategies.push(RemovalStrategy::StagingList);
        }
    }
    catalog
}

/// The part of a configuration that shares one API key.
#[must_use]
pub fn of_application(catalog: &Catalog, application: ApplicationId) -> Catalog {
    let (mut connections, mut exports) = (Vec::new(), Vec::new());
    for (index, connection) in catalog.connections.iter().enumerate() {
        if connection.application != application {
            continue;
        }
        let new = ConnectionId::at(connections.len());
        let own = catalog.exports.iter().filter(|export| export.connection == ConnectionId::at(index));
        exports.extend(own.map(|export| Export { connection: new, ..export.clone() }));
        connections.push(Connection { application: ApplicationId::at(0), ..connection.clone() });
    }
    Catalog { applications: vec![catalog.application(application).clone()], connections, exports, ..catalog.clone() }
}

fn made_up(scenario: &Scenario) -> Catalog {
    let connections = (0..scenario.connections).map(|index| Connection {
        name: format!("account {:02}", index + 1).into(),
        application: ApplicationId(0),
        consent: Some(consent()),
        refreshes: false,
        on_erasure: OnErasure::RemoveFromLists,
        contacts_max: None,
    });
    let exports = (0..scenario.connections * scenario.lists).map(|index| Export {
        name: format!("list {:02}", index + 1).into(),
        connection: ConnectionId(index / scenario.lists.max(1)),
        list: ListRef::Id(list_of(usize::from(index))),
        segments: vec![format!("segment {:02}", index + 1).into()],
        mapping: Mapping::address_alone(FieldId(0), 1),
        no_address: NoAddress::Skip,
        on_exit: OnExit::Remove,
        backfill: Backfill::None,
        removal_strategies: vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
        adopts_existing: false,
        removal_brake: None,
        profiles_per_hour_max: scenario.profiles_per_hour_max,
        weight: scenario.weighted.filter(|(list, _)| *list == index).map_or(1, |(_, weight)| weight),
        starts_at_once: true,
    });
    Catalog {
        applications: vec![Application {
            name: "key".into(),
            client_id_hash: ClientIdHash(1),
            calls_per_second: Some(scenario.calls_per_second),
            calls_per_day: Some(scenario.calls_per_day),
            reserved_for_others_percent: scenario.left_to_others_percent,
        }],
        connections: connections.collect(),
        exports: exports.collect(),
        fields: Vec::new(),
        timing: Timing::default(),
        profiles_max: u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_application_of_several_is_planned_for_alone() {
        let mut catalog = made_up(&Scenario { connections: 3, lists: 2, ..Scenario::default() });
        let second = Application { name: "second".into(), ..catalog.applications[0].clone() };
        catalog.applications.push(second);
        for index in [0, 2] {
            catalog.connections[index].application = ApplicationId(1);
        }
        let planned = of_application(&catalog, ApplicationId(1));
        assert_eq!(planned.application(ApplicationId(0)).name, "second");
        let names: Vec<&str> = planned.connections.iter().map(|connection| connection.name.as_str()).collect();
        assert_eq!(names, ["account 01", "account 03"]);
        let exports: Vec<(&str, u16)> =
            planned.exports.iter().map(|export| (export.name.as_str(), export.connection.0)).collect();
        assert_eq!(exports, [("list 01", 0), ("list 02", 0), ("list 05", 1), ("list 06", 1)]);
    }
}
