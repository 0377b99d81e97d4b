//! [`Promise::AppliedMeansCompleted`]: what the state calls applied was in an import that completed, or on the list before and
//! adopted.

use std::collections::BTreeSet;

use crate::engine::{Promise, output::Commit};
use crate::model::{
    activity::ActivityState,
    batch::Operation,
    hash::text_hash,
    state::{ROW_ADOPTED, ROW_LEFT, ROW_UNKNOWN, StateKey, StateValue},
};
use crate::simulator::constant_contact::Applied;

use super::{Sight, Verdict};

/// What completed imports have touched: account and address.
#[derive(Debug, Default)]
pub struct AppliedMeansCompleted {
    imported: BTreeSet<(usize, crate::model::ListId, u64)>,
}

impl AppliedMeansCompleted {
    /// Takes note of application steps, but for those of activities that end badly.
    pub fn steps(&mut self, connection: usize, steps: Vec<Applied>) {
        for step in steps {
            if step.operation == Operation::Import && step.ending == ActivityState::Completed {
                for list in &step.lists {
                    self.imported.extend(step.contacts.iter().map(|contact| (connection, *list, *contact)));
                }
            }
        }
    }

    /// Whether a completed import has put an address on some list of an account.
    pub(super) fn was_imported(&self, connection: usize, address: &str) -> bool {
        let hash = text_hash(address);
        self.imported.iter().any(|(account, _, contact)| (*account, *contact) == (connection, hash))
    }

    pub(super) fn at_commit(&self, sight: &Sight<'_>, commit: &Commit) -> Verdict {
        for change in &commit.changes {
            let (StateKey::Member { export, profile }, Some(StateValue::Member(cut))) = (&change.key, &change.value) else {
                continue;
            };
            let Some(index) = sight.catalog.exports.iter().position(|known| known.name == *export) else { continue };
            let export = &sight.catalog.exports[index];
            // Of the others the state does not say that they are on the list.
            for applied in cut.applied.iter().filter(|applied| ![ROW_LEFT, ROW_UNKNOWN].contains(&applied.row_hash)) {
                let imported = (usize::from(export.connection.0), applied.list, text_hash(&applied.address));
                let adopted = applied.row_hash == ROW_ADOPTED && sight.was_there_before(index, &applied.address);
                if !adopted && !self.imported.contains(&imported) {
                    let detail =
                        format!("{profile} in {} is recorded as applied, and no import of it has completed", export.name);
                    return Err((Promise::AppliedMeansCompleted, detail));
                }
            }
        }
        Ok(())
    }
}
