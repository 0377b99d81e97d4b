//! A part of [`Promise::QuotaNeverExceeded`]: no address is imported more than five times within a day into an account.
//!
//! What is allowed beside that, because nobody could know: the same import once more where an answer was lost (its name is
//! the same), and one import for each further term that sent the address, because an address that left its list after a
//! single send is remembered in memory alone. Imports into staging lists are how contacts leave, which waits for nothing.
//! Not looked at: accounts whose vendor refuses rows, because they are sent again in parts at once until the bad ones are
//! found; and profiles that were erased before another term began, because nothing may be kept of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Promise, limits::SENDS_MAX};
use crate::model::{
    Text,
    batch::{BatchName, ImportRows},
    time::{DAY_MS, UnixMillis},
};

use super::{Sight, Verdict};

/// The vendor's times are whole seconds.
const WINDOW_MS: u64 = DAY_MS.unsigned_abs() - 2_000;

/// An import that held an address.
#[derive(Debug, Clone)]
struct Import {
    at: UnixMillis,
    name: BatchName,
    epoch: u32,
}

/// The imports of each address, by account.
#[derive(Debug, Default)]
pub struct Flapping {
    imports: BTreeMap<(usize, Text), Vec<Import>>,
}

impl Flapping {
    /// The vendor took an import of the term with this epoch, not into a staging list.
    pub fn imported(&mut self, connection: usize, name: &BatchName, rows: &ImportRows, epoch: u32, at: UnixMillis) {
        for (address, _) in rows.rows.iter() {
            let imports = self.imports.entry((connection, address.clone())).or_default();
            if imports.iter().all(|import| import.name != *name) {
                imports.push(Import { at, name: name.clone(), epoch });
            }
        }
    }

    pub(super) fn at_rest(&self, sight: &Sight<'_>) -> Verdict {
        let of =
            |connection: usize| (0..).zip(&sight.catalog.exports).filter(move |(_, e)| usize::from(e.connection.0) == connection);
        for ((connection, address), imports) in &self.imports {
            if of(*connection).any(|(export, _)| sight.refuses_some(export)) {
                continue;
            }
            let erased = of(*connection).flat_map(|(export, _)| sight.fold.export(export).values()).any(|wishes| {
                let had = |wanted: &Option<(Text, _)>| wanted.as_ref().is_some_and(|(wanted, _)| wanted == address);
                wishes.iter().any(|wish| wish.erased) && wishes.iter().any(|wish| had(&wish.wanted))
            });
            for (first, import) in imports.iter().enumerate() {
                let day: Vec<&Import> =
                    imports[first..].iter().take_while(|later| later.at.since_ms(import.at) < WINDOW_MS).collect();
                let terms = day.iter().map(|import| import.epoch).collect::<BTreeSet<u32>>().len();
                if day.len() >= SENDS_MAX + terms && !(erased && terms > 1) {
                    let account = &sight.catalog.connections[*connection].name;
                    let (count, from) = (day.len(), import.at.0);
                    let detail =
                        format!("{address} was imported {count} times into {account} in the day from {from}, in {terms} terms");
                    return Err((Promise::QuotaNeverExceeded, detail));
                }
            }
        }
        Ok(())
    }
}
