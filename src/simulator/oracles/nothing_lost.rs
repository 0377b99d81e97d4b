//! [`Promise::NothingLost`]: below a committed offset, every event is as good as done.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Promise, output::Commit};
use crate::model::{
    Text,
    batch::BatchName,
    catalog::OnExit,
    position::{PartitionId, Position},
    state::{StateKey, StateValue},
};
use crate::simulator::fold::Wish;

use super::{Sight, Verdict};

/// Keeps what the state topic says is still to be done: rows to be sent, and addresses to be taken off.
#[derive(Debug, Default)]
pub struct NothingLost {
    parked: BTreeSet<(Text, Text)>,
    /// Where the records lie that letters tell of, and of which export.
    told: BTreeSet<(Position, Option<Text>)>,
    /// For each export and profile, addresses that were applied and are wanted no more.
    leaving: BTreeMap<(Text, Text), Vec<Text>>,
    /// For each record of an open batch, its export and addresses: what they are on the list for is decided when it ends.
    open: BTreeMap<(BatchName, u32), (Text, Vec<Text>)>,
}

impl NothingLost {
    pub(super) fn at_commit(&mut self, sight: &Sight<'_>, commit: &Commit, before: &BTreeMap<PartitionId, i64>) -> Verdict {
        for letter in &commit.letters {
            let export = letter.refused_by.as_ref().map(|by| by.export.clone());
            // One that an export refused may be told of again as long as its offset is not committed.
            let settled = before.get(&letter.position.partition).is_some_and(|offset| letter.position.offset < *offset);
            let once = export.is_none() || settled;
            if !self.told.insert((letter.position, export)) && once {
                return Err((Promise::NothingLost, format!("a second letter tells of {:?}", letter.position)));
            }
        }
        for change in &commit.changes {
            if let StateKey::Batch { name, chunk } = &change.key {
                let key = (name.clone(), *chunk);
                // One that was given up is only watched.
                if let Some(StateValue::Batch(batch)) = &change.value
                    && !batch.given_up
                {
                    let addresses = batch.rows.iter().map(|row| row.address.clone()).collect();
                    self.open.insert(key, (batch.export.clone(), addresses));
                } else {
                    self.open.remove(&key);
                }
            }
            if let StateKey::Member { export, profile } = &change.key {
                let key = (export.clone(), profile.clone());
                if matches!(&change.value, Some(StateValue::Member(cut)) if cut.row.is_some()) {
                    self.parked.insert(key.clone());
                } else {
                    self.parked.remove(&key);
                }
                self.leaving.remove(&key);
                if let Some(StateValue::Member(cut)) = &change.value {
                    let kept = cut.address.as_ref().filter(|_| !cut.segments.is_empty());
                    let applied = cut.applied.iter().map(|applied| &applied.address);
                    self.leaving.insert(key, applied.filter(|address| Some(*address) != kept).cloned().collect());
                }
            }
        }
        for next in &commit.offsets {
            let from = before.get(&next.partition).copied().unwrap_or(i64::MIN);
            if from >= next.offset {
                continue;
            }
            for export in 0..sight.catalog.exports.len() {
                self.export(sight, export, next.partition, from, next.offset)?;
            }
        }
        Ok(())
    }

    /// Every profile with an event at `from..below` of a partition.
    fn export(&self, sight: &Sight<'_>, export: usize, partition: PartitionId, from: i64, below: i64) -> Verdict {
        let name = &sight.catalog.exports[export].name;
        let wishes = sight.fold.export(export);
        let mut members: Option<Vec<Text>> = None;
        for (profile, wishes) in wishes {
            let settled = wishes.partition_point(|wish| wish.position.offset < below);
            let touched =
                wishes[..settled].last().is_some_and(|wish| wish.position.partition == partition && wish.position.offset >= from);
            if !touched || self.parked.contains(&(name.clone(), profile.clone())) {
                continue;
            }
            let letters = wishes[..settled].iter().filter(|wish| wish.letter && wish.position.offset >= from);
            for wish in letters {
                let told = sight.broker.letters().iter().any(|letter| {
                    letter.position == wish.position && letter.refused_by.as_ref().is_some_and(|by| by.export == *name)
                });
                if !told {
                    return Err((Promise::NothingLost, format!("no letter tells of {:?} in {name}", wish.position)));
                }
            }
            let members = members.get_or_insert_with(|| sight.members(export));
            self.profile(sight, export, profile, wishes, settled, members)?;
        }
        Ok(())
    }

    /// For each address that a profile ever had: it is on the list, or not, as one of the profile's wishes has it, from
    /// the last committed one on.
    fn profile(
        &self,
        sight: &Sight<'_>,
        export: usize,
        profile: &Text,
        wishes: &[Wish],
        settled: usize,
        members: &[Text],
    ) -> Verdict {
        let config = &sight.catalog.exports[export];
        let candidates = &wishes[settled.saturating_sub(1)..];
        let addresses: BTreeSet<&Text> = wishes.iter().filter_map(address).collect();
        for known in addresses {
            if sight.is_suppressed(export, known) {
                continue;
            }
            let present = members.binary_search(known).is_ok();
            let wants = |wish: &Wish| address(wish) == Some(known);
            if !present && sight.departs(export, known) {
                continue;
            }
            let as_wished = candidates.iter().any(|wish| wants(wish) == present);
            let others = || {
                let others = sight.fold.export(export).iter().filter(|(other, _)| *other != profile);
                others.flat_map(|(_, wishes)| wishes).any(wants)
            };
            let was_there = || sight.was_there(export, known);
            let leaving = || self.leaving.iter().any(|((name, _), addresses)| *name == config.name && addresses.contains(known));
            let in_open_batch = || self.open.values().any(|(name, addresses)| *name == config.name && addresses.contains(known));
            let refused = !present && !sight.takes(export, known);
            let stays = || config.on_exit == OnExit::Keep || leaving() || in_open_batch() || others() || was_there();
            if as_wished || refused || (present && stays()) {
                continue;
            }
            let detail = format!(
                "{profile} in {}: committed past {:?}, and {known} is {} the list",
                config.name,
                candidates.first().map(|wish| wish.position),
                if present { "still on" } else { "not on" }
            );
            return Err((Promise::NothingLost, detail));
        }
        Ok(())
    }
}

fn address(wish: &Wish) -> Option<&Text> {
    wish.wanted.as_ref().map(|(address, _)| address)
}
