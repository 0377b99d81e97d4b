//! `contacts_max`: no import of ours makes more contacts than the account's contract allows. Nobody else makes any here.

use crate::model::catalog::Catalog;
use crate::simulator::constant_contact::Applied;

/// What an activity did that it must not have done.
#[must_use]
pub fn passed(catalog: &Catalog, connection: usize, step: &Applied) -> Option<String> {
    let max = catalog.connections[connection].contacts_max?;
    (step.made > 0 && step.active > max).then(|| {
        let account = &catalog.connections[connection].name;
        format!(
            "{account} has {} contacts since an import made {} of them, and its contract allows {max}",
            step.active, step.made
        )
    })
}
