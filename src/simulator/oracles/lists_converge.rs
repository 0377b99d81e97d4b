//! [`Promise::ListsConverge`]: at rest, each list holds whom the fold wants there and who was there without us. The list of
//! an export that is no longer configured keeps whom it has. Staging lists hold nobody.

use std::collections::BTreeSet;

use crate::engine::Promise;
use crate::model::{
    Text,
    catalog::{OnExit, STAGING_PREFIX},
};

use super::{Sight, Verdict, opt_out_respected::OptOutRespected};

pub(super) fn at_rest(sight: &Sight<'_>, opt_out: &OptOutRespected) -> Verdict {
    for (index, export) in sight.catalog.exports.iter().enumerate() {
        let members: BTreeSet<Text> = sight.members(index).into_iter().collect();
        let connection = usize::from(export.connection.0);
        let planted = &sight.scenario.contacts[connection];
        let foreign: BTreeSet<Text> =
            planted.iter().filter(|contact| contact.export == Some(index)).map(|contact| contact.address.clone()).collect();
        let wishes = sight.fold.export(index);
        let last = wishes.values().filter_map(|wishes| wishes.last());
        let mut wanted: BTreeSet<Text> =
            last.filter_map(|wish| wish.wanted_for(sight.segments(index).unwrap_or_default())).cloned().collect();
        // What the vendor refuses is dead-lettered.
        wanted.retain(|address| sight.takes(index, address));
        wanted.extend(foreign);
        if let Some(missing) = wanted.difference(&members).find(|address| !opt_out.has_departed(connection, address)) {
            return Err((Promise::ListsConverge, format!("{missing} is missing from the list of {}", export.name)));
        }
        if export.on_exit == OnExit::Keep || sight.segments(index).is_none() {
            let ever = wishes.values().flatten().filter_map(|wish| wish.wanted.as_ref());
            wanted.extend(ever.map(|(address, _)| address.clone()));
        }
        if let Some(surplus) = members.difference(&wanted).find(|address| !sight.is_suppressed(index, address)) {
            return Err((Promise::ListsConverge, format!("{surplus} is still on the list of {}", export.name)));
        }
    }
    nobody_is_staged(sight)
}

/// The lists that removals use are empty again, in each account that a configured export still uses.
fn nobody_is_staged(sight: &Sight<'_>) -> Verdict {
    for (index, vendor) in sight.vendors.iter().enumerate() {
        if !sight.configured.exports.iter().any(|export| usize::from(export.connection.0) == index) {
            continue;
        }
        for (list, name) in vendor.lists().iter().filter(|(_, name)| name.starts_with(STAGING_PREFIX)) {
            if let Some(member) = vendor.list_members(*list).first() {
                return Err((Promise::ListsConverge, format!("{member} is still on \"{name}\"")));
            }
        }
    }
    Ok(())
}
